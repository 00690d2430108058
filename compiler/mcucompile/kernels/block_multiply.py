"""Products one by one, for cores with a multiplier and without DSP instructions: the sums of a block stay in registers.

A byte of x that is loaded serves all outputs of the block, a weight both windows. Where loads have no sign (Cortex-M0),
u = x + z and v = w + 128 are multiplied, with z = 128 for an x with a sign, else 0:

    sum x w = sum u v - 128 sum u - z sum w

The second sum is the same for all outputs of a window. So is that of the squares of x, which makes squared distances:

    - sum (x - w)**2 = 2 sum x w - sum x**2 - sum w**2
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.kernels.dense import Sums
from mcucompile.kernels.dsp import bytes_as_words, padded, with_constant
from mcucompile.kernels.kernel import Core
from mcucompile.kernels.tiles import TILE_COSTS, Norm, Tile, Tiled, TileSums

_BYTE_BITS = 8
_LARGEST_BYTE = 127
_WORD_BYTES = 4
_BYTE = 255
# Instructions that move the pointers.
_PER_WORD = 2
# What makes a byte with a sign one without.
_OFFSET = 128
# Windows and outputs of the blocks, and what their calls take beyond the smallest one's.
_BLOCKS = {
    "rv32imac": ((2, 8, 50), (2, 4, 18), (1, 16, 50), (1, 8, 8), (1, 4, 0)),
    "cortex-m0": ((2, 4, 10), (1, 8, 8), (1, 4, 0)),
}
# Where loads with an offset have no sign.
_NO_SIGN = ("cortex-m0",)


@dataclass(frozen=True, slots=True)
class BlockMultiply(TileSums):
    """For 8-bit inputs, and products by weights of 8 bits or squared distances from them.

    Attributes:
        core: whose loops they are.
    """

    header: ClassVar[str] = "mcu_blocks.h"
    core: str

    def core_refusal(self, core: Core) -> str | None:
        """Refuse other cores, and one without multiplier."""
        if core.name != self.core:
            return f"is made for {self.core}"
        return None if core.has_multiplier else "needs a multiplier"

    def refusal(self, sums: Sums, core: Core) -> str | None:  # noqa: ARG002 - of the core all is known
        """Refuse other similarities and what has more bits."""
        if sums.similarity not in ("dot", "euclid"):
            return "computes dot and euclid only"
        if sums.input.bits != _BYTE_BITS:
            return "needs an 8-bit input"
        values = sums.weights.values
        fit = int(values.min()) >= -_LARGEST_BYTE - 1 and int(values.max()) <= _LARGEST_BYTE
        return None if fit else "needs weights of 8 bits"

    def tiled(self, sums: Sums, windows: int) -> Tiled:
        """Return the block that takes the fewest instructions."""
        return min(self._blocks(sums, windows), key=lambda tiled: tiled.instructions(TILE_COSTS[self.core]))

    def _blocks(self, sums: Sums, windows: int) -> Iterator[Tiled]:
        """Yield the sums as each block makes them."""
        values = padded(sums.weights.values, _WORD_BYTES, 0)
        is_unsigned, is_euclid = self.core in _NO_SIGN, sums.similarity == "euclid"
        constant = -np.square(values).sum(axis=1) if is_euclid else np.zeros(len(values), dtype=np.int64)
        convert, arguments = "", "lb" if sums.input.signed else "lbu"
        norm = _NORMS[self.core].get((sums.similarity, sums.input.signed))
        if is_unsigned:
            convert, arguments = "mcu_word_s8" if sums.input.signed else "", ""
            z = _OFFSET if sums.input.signed else 0
            constant = constant - (2 if is_euclid else 1) * z * values.sum(axis=1)
            constant = constant - (z * z * values.shape[1] if is_euclid else 0)
            values = values + _OFFSET
        suffix = "_u8" if is_unsigned else ""
        for of_block, outputs, per_call in _BLOCKS[self.core]:
            if of_block == windows:
                bytes_ = 1 + outputs if windows == 1 else 2 + outputs
                products = windows * outputs
                copies = outputs - 1 if is_unsigned and windows > 1 else 0
                word = _WORD_BYTES * (bytes_ + 2 * products + copies) + _PER_WORD
                per_turn = 0 if is_unsigned else -_PER_WORD
                tile = Tile(f"block_{windows}x{outputs}{suffix}", arguments, windows, outputs, word, per_turn, per_call)
                words = bytes_as_words(values & _BYTE)
                requantize = with_constant(sums.requantize, constant)
                yield Tiled(tile, words, (convert,), "", requantize, 1, norm, multiplies=True)


# By similarity and whether x has a sign.
_TWICE_LESS = "mcu_twice_less_s32"
_NORMS = {
    "rv32imac": {
        ("euclid", False): Norm("mcu_add_squares_u8x4", _TWICE_LESS, (24, 2)),
        ("euclid", True): Norm("mcu_add_squares_s8x4", _TWICE_LESS, (25, 2)),
    },
    "cortex-m0": {
        ("dot", False): Norm("mcu_add_bytes", "mcu_less_128_s32", (8, 2)),
        ("dot", True): Norm("mcu_add_bytes", "mcu_less_128_s32", (8, 2)),
        ("euclid", False): Norm("mcu_add_squares_256_u8x4", _TWICE_LESS, (34, 2)),
        ("euclid", True): Norm("mcu_add_squares_u8x4", _TWICE_LESS, (30, 2)),
    },
}
