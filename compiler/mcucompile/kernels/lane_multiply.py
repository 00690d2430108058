"""Products by small weights (ternary, or up to 3) four at a time: SMLAD with the weights of two outputs in a halfword.

A halfword of the weights is a + 2**bits * b, a sum A + 2**bits * B. Over a few words A fits `bits` bits with a sign:
so long it is known from the sum, and then B is.
"""

from dataclasses import dataclass

import numpy as np

from mcucompile.kernels.dense import Sums
from mcucompile.kernels.dsp import halfwords_as_words, with_constant, word_order
from mcucompile.kernels.kernel import Core
from mcucompile.kernels.tiles import Tile, Tiled, TileSums
from mcucompile.numerics import Int

# Bits of the lower lane by the largest weight: weight * 2**bits + weight fits a halfword.
_LANE_BITS = {1: 14, 2: 13, 3: 13}
_WORD_BITS = 32
# Of x, or of x - 128 if x has no sign.
_LARGEST_X = 128
# Each word takes 44 bytes of code; a turn ends with 33 instructions.
_MOST_UNROLLED, _PER_TURN, _PER_CALL = 36, 33, 19


@dataclass(frozen=True, slots=True)
class LaneMultiply(TileSums):
    """For 8-bit inputs, and products by weights from -3 to 3 or by their signs."""

    def refusal(self, sums: Sums, core: Core) -> str | None:
        """Refuse a core without multiplier, other similarities, larger weights and sums that lanes cannot hold."""
        if not core.has_multiplier:
            return "needs a multiplier"
        if sums.similarity not in ("dot", "ternary"):
            return "computes dot and ternary only"
        if sums.input.bits != 8:
            return "needs an 8-bit input"
        values = _values(sums)
        largest = max(int(np.abs(values).max()), 1)
        if largest not in _LANE_BITS:
            return "needs weights from -3 to 3"
        bits = _LANE_BITS[largest]
        upper = int(np.abs(values).sum(axis=1).max()) * _LARGEST_X
        if upper >= 1 << (_WORD_BITS - bits - 1):
            return f"needs sums of {_WORD_BITS - bits} bits"
        return None

    def tiled(self, sums: Sums, windows: int) -> Tiled:
        """Return the weights of two outputs in each halfword; what x loses comes back in the requantization."""
        values = _values(sums)
        bits = _LANE_BITS[max(int(np.abs(values).max()), 1)]
        convert, constant = ("mcu_even_s8", "mcu_odd_s8"), np.zeros(len(values), dtype=np.int64)
        if not sums.input.signed:
            convert, constant = ("mcu_even_centred", "mcu_odd_centred"), _LARGEST_X * values.sum(axis=1)
        ordered = word_order(values)
        outputs = np.pad(ordered, ((0, len(values) % 2), (0, 0)))
        lower, upper = outputs[0::2], outputs[1::2]
        name, columns, instructions = ("tile_2x8_lanes", 4, 11) if windows == 2 else ("tile_1x16_lanes", 8, 12)
        return Tiled(
            Tile(name, str(bits), windows, columns, instructions, _PER_TURN, _PER_CALL, outputs=2, lanes=True),
            halfwords_as_words(lower + (upper << bits)),
            convert,
            "",
            with_constant(sums.requantize, constant),
            most_unrolled=_most_unrolled(lower, bits),
        )


def _values(sums: Sums) -> Int:
    values = sums.weights.values
    return np.sign(values) if sums.similarity == "ternary" else values


def _most_unrolled(lower: Int, bits: int) -> int:
    """Return how many words a turn may have so that no lower lane overflows in it. lower: weights, two to a word."""
    words = np.abs(lower).reshape(len(lower), -1, 2).sum(axis=2)
    for count in range(_MOST_UNROLLED, 1, -1):
        whole = np.pad(words, ((0, 0), (0, -words.shape[1] % count))).reshape(len(words), -1, count)
        if int(whole.sum(axis=2).max()) * _LARGEST_X < 1 << (bits - 1):
            return count
    return 1
