"""Sums of absolute differences four bytes at a time (USADA8), and what can be made of them without multiplication.

With u = x + z in 0..255 and D(c) = sum |u - c| over bytes c:
  adder    -sum |x - w| = -D(w + z)
  binary   sum sgn(x) sgn(w) = n - 2 D(s), where u and s are 1 for what is not negative, else 0
  ternary  2 sum x sgn(w) = D(a) + D(b) + constant, where (a, b) is (0, 0) for 1, (255, 255) for -1, (0, 255) for 0;
           without zeros a = b, and one of them does
  minconv  2 sum sgn(x) sgn(w) min(|x|, |w|) = sum |x + w| - |x - w| = D(z - w) - D(z + w) + constant
A c outside of 0..255 is as far from every u as the nearer end, and a constant more.
"""

from dataclasses import dataclass, replace

import numpy as np

from mcucompile.kernels.dense import Sums
from mcucompile.kernels.dsp import bytes_as_words, padded, with_constant
from mcucompile.kernels.kernel import Core
from mcucompile.kernels.tiles import Tiled, TileSums, plain_tile
from mcucompile.numerics import Int

_SIMILARITIES = ("adder", "binary", "ternary", "minconv")
_LARGEST = 255


@dataclass(frozen=True, slots=True, eq=False)
class _Planes:
    """Sums of differences and what they make: acc = factor * (first +- second) / 2**(second is there) + constant.

    Attributes:
        bytes: one or two planes of c, (n_out, n_in) each, any integers.
        combine: of two planes, "add" or "subtract".
        factor: of the sums.
        constant: (n_out,).
    """

    bytes: tuple[Int, ...]
    combine: str
    factor: int
    constant: Int


class AbsoluteDifferences(TileSums):
    """For 8-bit inputs and four similarities, with or without a multiplier."""

    def refusal(self, sums: Sums, core: Core) -> str | None:  # noqa: ARG002 - a multiplier is not needed
        """Refuse other similarities and formats."""
        if sums.similarity not in _SIMILARITIES:
            return f"computes {', '.join(_SIMILARITIES)} only"
        if sums.input.bits != 8:
            return "needs an 8-bit input"
        return "a sign that is always 1 says nothing" if sums.similarity == "binary" and not _signed(sums) else None

    def tiled(self, sums: Sums, windows: int) -> Tiled:
        """Return the planes of each output side by side, and constants and signs in the requantization."""
        planes = _planes(sums)
        clipped = [np.clip(plane, 0, _LARGEST) for plane in planes.bytes]
        beyond = [np.abs(plane - clip).sum(axis=1) for plane, clip in zip(planes.bytes, clipped, strict=True)]
        total = planes.constant
        if planes.combine:
            # Sums and constants together are even: half of an odd constant goes up, as that of the sums goes down.
            both = beyond[0] + (beyond[1] if planes.combine == "add" else -beyond[1])
            total = total + planes.factor * -(-both // 2)
        else:
            total = total + planes.factor * beyond[0]
        # A patch ends with zeros; equal bytes add nothing.
        end = {"mcu_word_u8": 0, "mcu_word_s8": 128, "mcu_word_sign": 1}[_convert(sums)]
        rows = np.stack([padded(clip, 4, end) for clip in clipped], axis=1)
        words = bytes_as_words(rows.reshape(-1, rows.shape[-1]))
        requantize = with_constant(sums.requantize, total)
        return Tiled(
            tile=plain_tile("usada8", windows, words, in_pairs=bool(planes.combine)),
            words=words,
            convert=(_convert(sums),),
            combine=planes.combine,
            requantize=replace(requantize, multiplier=requantize.multiplier * planes.factor),
        )


def _signed(sums: Sums) -> bool:
    return sums.input.signed


def _convert(sums: Sums) -> str:
    if sums.similarity == "binary":
        return "mcu_word_sign"
    return "mcu_word_s8" if _signed(sums) else "mcu_word_u8"


def _planes(sums: Sums) -> _Planes:
    w = sums.weights.values
    z = 128 if _signed(sums) else 0
    none = np.zeros(len(w), dtype=np.int64)
    match sums.similarity:
        case "adder":
            return _Planes((w + z,), "", -1, none)
        case "binary":
            return _Planes(((w >= 0).astype(np.int64),), "", -2, none + w.shape[1])
        case "minconv":
            return _Planes((z - w, z + w), "subtract", 1, none)
    sign = np.sign(w)
    negative, zeros = (sign < 0).sum(axis=1), (sign == 0).sum(axis=1)
    shift = z * sign.sum(axis=1)
    first = np.where(sign < 0, _LARGEST, 0)
    if not zeros.any():
        return _Planes((first,), "", 1, -_LARGEST * negative - shift)
    # D(a) + D(b) = 2 sum u sgn(w) + 255 (2 negative + zeros).
    constant = -(_LARGEST * (2 * negative + zeros) // 2) - shift
    return _Planes((first, np.where(sign > 0, 0, _LARGEST)), "add", 1, constant)
