"""Products two at a time (SMLAD): x widened to halfwords once for all outputs, the weights in bytes or in halfwords.

Weights in bytes take no instruction to widen one by one: a halfword 256 * a + b holds those of two outputs. Its
products make 256 * A + B at once; those of its lower byte, sign-extended, make B.

Squared distances are products, too: - sum (x - w)**2 = 2 sum x w - sum x**2 - sum w**2. The second sum is the same for
all outputs of a window, the third for all windows.
"""

from dataclasses import dataclass

import numpy as np

from mcucompile.kernels.dense import Sums
from mcucompile.kernels.dsp import halfwords_as_words, padded, squares_as_products, word_order
from mcucompile.kernels.kernel import Core
from mcucompile.kernels.tiles import Norm, Tile, Tiled, TileSums, plain_tile
from mcucompile.numerics import Int
from mcucompile.ops.linear import weighted_bounds

_PAIRS = {
    1: Tile("tile_1x8_pairs", "", 1, 4, 15, per_call=8, outputs=2),
    2: Tile("tile_2x4_pairs", "", 2, 2, 12, per_call=8, outputs=2),
}
_SQUARES = Norm("mcu_add_squares_s16", "mcu_twice_less_s32", (1, 2))
_LARGEST_BYTE, _LARGEST_HALFWORD = 127, 32767
# A sum of products by a, of which 24 bits are known.
_LARGEST_SUM = 2**23 - 1


@dataclass(frozen=True, slots=True)
class DualMultiply(TileSums):
    """For products by weights of up to 16 bits, and for squared distances from them.

    Attributes:
        halfwords: the weights are stored in 16 bits; else in 8, two outputs to a halfword.
    """

    halfwords: bool

    def refusal(self, sums: Sums, core: Core) -> str | None:
        """Refuse a core without multiplier, other similarities and what does not fit; halfwords where bytes will do."""
        if not core.has_multiplier:
            return "needs a multiplier"
        if sums.similarity not in ("dot", "euclid"):
            return "computes dot and euclid only"
        if not _is_small(sums):
            return "needs inputs of 8 bits, or 16 with a sign"
        in_bytes = _fit_bytes(sums)
        if self.halfwords:
            if in_bytes:
                return "bytes will do"
            fits = int(np.abs(sums.weights.values).max()) <= _LARGEST_HALFWORD
            return None if fits else "needs weights of 16 bits"
        return None if in_bytes else "needs weights from -127 to 127 and sums of 24 bits"

    def tiled(self, sums: Sums, windows: int) -> Tiled:
        """Return the weights in the order of the halfwords of x."""
        values = sums.weights.values
        convert: tuple[str, ...] = ("",)
        if sums.input.bits == 8:
            values = word_order(values)
            sign = "s8" if sums.input.signed else "u8"
            convert = (f"mcu_even_{sign}", f"mcu_odd_{sign}")
        else:
            values = padded(values, 2, 0)
        if not self.halfwords:
            outputs = np.pad(values, ((0, len(values) % 2), (0, 0)))
            values = 256 * outputs[0::2] + outputs[1::2]
        words = halfwords_as_words(values)
        tile = plain_tile("smlad", windows, words) if self.halfwords else _PAIRS[windows]
        is_euclid = sums.similarity == "euclid"
        requantize = squares_as_products(sums) if is_euclid else sums.requantize
        norm = _SQUARES if is_euclid else None
        return Tiled(tile, words, convert, "", requantize, norm=norm)


def _is_small(sums: Sums) -> bool:
    return sums.input.bits == 8 or (sums.input.bits == 16 and sums.input.signed)


def _fit_bytes(sums: Sums) -> bool:
    values: Int = sums.weights.values
    low, high = weighted_bounds(values, sums.input)
    sums_fit = max(-int(low.min()), int(high.max())) <= _LARGEST_SUM
    return int(np.abs(values).max()) <= _LARGEST_BYTE and sums_fit
