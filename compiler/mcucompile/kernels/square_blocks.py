"""Squares of differences from a table, for RISC-V cores without multiplier: the sums of a block stay in registers.

With x = u + z and D = sum (u - w)**2, z chosen so that no difference leaves -255..255, whose squares have 16 bits:

    - sum (x - w)**2 = - D - 2 z sum u + 2 z sum w - z**2 n
    sum x w = (sum u**2 + sum w**2 - D) / 2 + z sum w

What has only x in it is the same for all outputs of a window. An x with a sign has z = 0, one without z = 128: its code
is u + 128, and the table begins that far below the entry of 0.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mcucompile.kernels.dense import Sums
from mcucompile.kernels.dsp import bytes_as_words, padded, with_constant
from mcucompile.kernels.kernel import Core
from mcucompile.kernels.squares import DIFFERENCES, LARGEST_DIFFERENCE
from mcucompile.kernels.tiles import Norm, Tile, Tiled, TileSums

_CORES = ("rv32ec", "rv32imac")
_BYTE_BITS, _BYTE = 8, 255
_LARGEST_BYTE = 127
_OFFSET = 128
_WORD_BYTES = 4
# The sum of more squares leaves int32.
_MOST_INPUTS = 2**31 // (LARGEST_DIFFERENCE * LARGEST_DIFFERENCE)
_OUTPUTS = 8
# Instructions of a value and of a weight, of the pointers, and of a turn less than of others.
_PER_VALUE, _PER_WEIGHT, _PER_WORD, _PER_TURN = 3, 5, 2, -1
# By similarity and whether x has a sign.
_NORMS = {
    ("dot", True): Norm("mcu_add_entries_s8x4", "mcu_half_below_s32", (26, 2), reads_table=True),
    ("dot", False): Norm("mcu_add_entries_u8x4", "mcu_half_below_s32", (24, 2), reads_table=True),
    ("euclid", False): Norm("mcu_add_bytes", "mcu_more_256_s32", (8, 2)),
}


@dataclass(frozen=True, slots=True)
class SquareBlocks(TileSums):
    """For 8-bit inputs, and products by weights of 8 bits or squared distances from them."""

    header: ClassVar[str] = "mcu_blocks.h"

    def core_refusal(self, core: Core) -> str | None:
        """Refuse cores of others, and those that multiply faster."""
        if core.name not in _CORES:
            return f"is made for {', '.join(_CORES)}"
        return "the multiplier is faster" if core.has_multiplier else None

    def refusal(self, sums: Sums, core: Core) -> str | None:  # noqa: ARG002 - of the core all is known
        """Refuse other similarities and what has more bits."""
        if sums.similarity not in ("dot", "euclid"):
            return "computes dot and euclid only"
        if sums.input.bits != _BYTE_BITS:
            return "needs an 8-bit input"
        values = sums.weights.values
        if int(values.min()) < -_LARGEST_BYTE - 1 or int(values.max()) > _LARGEST_BYTE:
            return "needs weights of 8 bits"
        return f"takes at most {_MOST_INPUTS} inputs" if values.shape[1] > _MOST_INPUTS else None

    def tiled(self, sums: Sums, windows: int) -> Tiled:  # noqa: ARG002 - registers are enough for one
        """Return the sums of one window by eight outputs."""
        values = padded(sums.weights.values, _WORD_BYTES, 0)
        z = 0 if sums.input.signed else _OFFSET
        linear, squares = z * values.sum(axis=1), np.square(values).sum(axis=1)
        if sums.similarity == "dot":
            # Sums and constants together are even: half of an odd constant goes up, as that of the sums goes down.
            requantize = with_constant(sums.requantize, linear - -squares // 2)
        else:
            # D + 256 * (sum of codes) has 128 * 256 more of each value than with u.
            count = values.shape[1]
            requantize = with_constant(sums.requantize, 2 * linear - z * z * count + 2 * z * z * count)
            requantize = replace(requantize, multiplier=-requantize.multiplier)
        word = _WORD_BYTES * (_PER_VALUE + _PER_WEIGHT * _OUTPUTS) + _PER_WORD
        return Tiled(
            Tile("square_block_1x8", "lb" if sums.input.signed else "lbu", 1, _OUTPUTS, word, _PER_TURN),
            bytes_as_words(values & _BYTE),
            ("",),
            "",
            requantize,
            1,
            _NORMS.get((sums.similarity, sums.input.signed)),
            table=DIFFERENCES,
            origin=LARGEST_DIFFERENCE - z,
        )
