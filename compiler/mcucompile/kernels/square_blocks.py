"""Squares of differences (kernels/squares.py) in blocks whose sums stay in registers, for RISC-V without multiplier."""

from dataclasses import dataclass
from typing import ClassVar

from mcucompile.kernels.dense import Sums
from mcucompile.kernels.dsp import bytes_as_words, padded
from mcucompile.kernels.kernel import Core
from mcucompile.kernels.squares import (
    DIFFERENCES,
    FINISHES,
    differences_as_sums,
    origin_of_differences,
    refusal_of_differences,
)
from mcucompile.kernels.tiles import Norm, Tile, Tiled, TileSums

_CORES = ("rv32ec", "rv32imac")
_BYTE = 255
_WORD_BYTES = 4
_OUTPUTS = 8
# Instructions of a value and of a weight, of the pointers, and of a turn less than of others.
_PER_VALUE, _PER_WEIGHT, _PER_WORD, _PER_TURN = 3, 5, 2, -1
# By similarity and whether x has a sign.
_NORMS = {
    ("dot", True): ("mcu_add_entries_s8x4", 26),
    ("dot", False): ("mcu_add_entries_u8x4", 24),
    ("euclid", False): ("mcu_add_bytes", 8),
}
_PER_FINISH = 2


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
        """Refuse what differences cannot make."""
        return refusal_of_differences(sums)

    def tiled(self, sums: Sums, windows: int) -> Tiled:  # noqa: ARG002 - registers are enough for one
        """Return the sums of one window by eight outputs."""
        values = padded(sums.weights.values, _WORD_BYTES, 0)
        kind = (sums.similarity, sums.input.signed)
        norm = None
        if kind in _NORMS:
            add, instructions = _NORMS[kind]
            norm = Norm(add, FINISHES[kind], (instructions, _PER_FINISH), reads_table=sums.similarity == "dot")
        word = _WORD_BYTES * (_PER_VALUE + _PER_WEIGHT * _OUTPUTS) + _PER_WORD
        return Tiled(
            Tile("square_block_1x8", "lb" if sums.input.signed else "lbu", 1, _OUTPUTS, word, _PER_TURN),
            bytes_as_words(values & _BYTE),
            ("",),
            "",
            differences_as_sums(sums, values),
            1,
            norm,
            table=DIFFERENCES,
            origin=origin_of_differences(sums),
        )
