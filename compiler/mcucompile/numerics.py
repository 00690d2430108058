"""THE arithmetic: the only places where a value is rounded (twin: runtime_c/mcu_numerics.h).

Between these functions everything is exact integer arithmetic, so that loop order, unrolling, SIMD,
tables and targets cannot change a bit.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int = npt.NDArray[np.int64]
Real = npt.NDArray[np.float64]

INT32_MAX = 2**31 - 1
MAX_SHIFT = 31
# 2**61 leaves room for any code, times the power of two that is shifted out.
MAX_WIDE_SHIFT = 52
WIDE_MAX = 2**62
_WIDEST = 2.0**60
_FLOAT32_BITS = 24


def canonical_signed_digits(value: int) -> tuple[tuple[int, int], ...]:
    """Write an integer as the shortest signed sum of powers of two.

    Args:
        value: any integer.
    Returns:
        Pairs (sign, shift), highest shift first, with value == sum(sign << shift); no two
        neighbouring shifts occur, which makes the form unique and minimal.
    Source: Reitwiesner, "Binary arithmetic", Advances in Computers 1 (1960).
    Example:
        >>> canonical_signed_digits(7)
        ((1, 3), (-1, 0))
    """
    digits: list[tuple[int, int]] = []
    shift = 0
    while value:
        if value & 1:
            sign = 2 - (value & 3)
            digits.append((sign, shift))
            value -= sign
        value >>= 1
        shift += 1
    return tuple(reversed(digits))


def short_multipliers(terms: int, width: int) -> tuple[int, ...]:
    """Return all odd positive integers below 2**width with at most `terms` signed digits, ascending.

    An even multiplier is an odd one and a smaller shift, so these are all the multipliers there are.
    """
    return tuple(m for m in range(1, 1 << width, 2) if len(canonical_signed_digits(m)) <= terms)


@dataclass(frozen=True, slots=True, eq=False)
class Requantization:
    """How an accumulator becomes a code: y = (acc * multiplier + offset + half) >> shift, then clamped.

    The shift is arithmetic (floor) and half is 2**(shift - 1), or 0 for shift 0: ties round up, but see tie_window.
    Every multiplier is a short signed sum of powers of two, so that a core without a multiplier
    computes the same product in shifts and adds.

    Attributes:
        multiplier: (channels,) or (1,), at least 1.
        offset: (channels,) or (1,), already in units of acc * multiplier.
        shift: (channels,) or (1,), 0..31, or 0..MAX_WIDE_SHIFT if wide.
        minimum, maximum: the clamp, in codes.
        is_wide: intermediates have 64 bits, two words of 32, as multipliers need that are given and not chosen.
        tie_window: 0, or ties go to even codes, as a quantized model may want it: then what is less than this above
            half a code counts as a tie. Not if wide.
        even: 0, or 1 where an even multiple of the output's scale has an odd code: the zero point is odd.
        zero_point: None, or y = round(round24(acc * multiplier + offset) / 2**shift) + zero_point instead, as float32
            arithmetic has it: round24 is to 24 significant bits, ties go to even both times. Only if wide.
    """

    multiplier: Int
    offset: Int
    shift: Int
    minimum: int
    maximum: int
    is_wide: bool = False
    tie_window: int = 0
    even: int = 0
    zero_point: int | None = None

    def half(self) -> Int:
        """Return the rounding half of each channel."""
        return np.asarray((np.int64(1) << self.shift) >> 1, dtype=np.int64)

    def apply(self, acc: Int) -> Int:
        """Requantize accumulators. acc: (..., channels) -> codes, same shape."""
        scaled = acc * self.multiplier + self.offset
        if self.zero_point is not None:
            y = _rounded_as_float32(scaled, self.shift) + self.zero_point
            return np.asarray(np.clip(y, self.minimum, self.maximum), dtype=np.int64)
        rounding = self.half()
        if self.tie_window:
            is_odd = ((scaled >> self.shift) ^ self.even) & 1
            rounding = rounding - np.where(is_odd == 1, 0, self.tie_window)
        y = (scaled + rounding) >> self.shift
        return np.asarray(np.clip(y, self.minimum, self.maximum), dtype=np.int64)

    def worst(self, low: Int, high: Int) -> Int:
        """Bound every intermediate of `apply` as C computes it, for accumulators in low..high.

        C adds the signed power-of-two terms of the multiplier one by one, so the bound takes the sum
        of their magnitudes, not the product.

        Args:
            low, high: (channels,) smallest and largest accumulator.
        Returns:
            (channels,) the largest magnitude any intermediate can reach.
        """
        magnitude = np.maximum(np.abs(low), np.abs(high))
        gain = np.array([sum(1 << s for _, s in canonical_signed_digits(int(m))) for m in self.multiplier])
        return np.asarray(magnitude * gain + np.abs(self.offset) + self.half(), dtype=np.int64)


def _rounded_as_float32(scaled: Int, shift: Int) -> Int:
    """Return scaled / 2**shift rounded to 24 significant bits, then to an integer, ties to even; |scaled| < 2**53."""
    magnitude = np.abs(scaled)
    _, length = np.frexp(magnitude.astype(np.float64))
    dropped = np.maximum(length.astype(np.int64) - _FLOAT32_BITS, 0)
    rounded = _rounded_to_even(magnitude, dropped) << dropped
    return np.asarray(np.sign(scaled) * _rounded_to_even(rounded, shift), dtype=np.int64)


def _rounded_to_even(magnitude: Int, shift: Int) -> Int:
    """Return magnitude / 2**shift to the nearest integer, ties to even."""
    half = (np.int64(1) << shift) >> 1
    is_odd = (magnitude >> shift) & 1
    return np.asarray((magnitude + np.where(half > 0, half - 1 + is_odd, 0)) >> shift, dtype=np.int64)


def requantization(
    gain: Real, bias: Real, *, minimum: int, maximum: int, zero_point: int, multipliers: Iterable[int]
) -> Requantization:
    """Choose multiplier, shift and offset for y = acc * gain + (bias in accumulator units) * gain.

    The offset is computed from the rounded multiplier, never from the ideal one: a rounded multiplier
    then only scales a channel, it cannot shift it (numerics: distance sums have a huge mean).

    Args:
        gain: (channels,) or (1,), positive: accumulator to output code.
        bias: (channels,) what is added to the accumulator, in accumulator units, real.
        minimum, maximum: clamp in output codes.
        zero_point: code of the real 0 in the output.
        multipliers: the allowed multipliers, as of `short_multipliers`.
    """
    allowed = np.array(sorted(multipliers), dtype=np.float64)
    exponent = np.floor(np.log2(gain))[:, None]
    top = np.floor(np.log2(allowed))
    # Each odd multiplier m stands for m * 2**-(top - exponent); the best one lies within a factor 2 of
    # the gain, from above (mantissa 1.x) or from the next octave (a gain of 1.97 is nearer to 2 than to 1.875).
    candidates = np.concatenate([allowed * 2.0 ** (exponent - top), allowed * 2.0 ** (exponent + 1 - top)], 1)
    best = np.argmin(np.abs(np.log(candidates / gain[:, None])), axis=1)
    index = best % len(allowed)
    multiplier = allowed[index].astype(np.int64)
    shift = (top[index] - exponent[:, 0] - (best >= len(allowed))).astype(np.int64)
    # A gain of more than the multiplier itself needs a left shift, which is an even multiplier.
    multiplier = multiplier << np.maximum(-shift, 0)
    shift = np.clip(shift, 0, MAX_SHIFT)
    # What int64 cannot hold is far beyond int32 as well, which passes/check_accumulators.py refuses.
    scaled = np.clip(np.floor(bias * multiplier + 0.5), -_WIDEST, _WIDEST)
    offset = scaled.astype(np.int64) + (np.int64(zero_point) << shift)
    return Requantization(multiplier, offset, shift, minimum, maximum)


def square_root(value: Int) -> Int:
    """Return floor(sqrt(value)), value 0..2**62 - 1. Twin: mcu_root_u64."""
    root = np.sqrt(value.astype(np.float64)).astype(np.int64)
    # The float root is off by one at most.
    root -= np.square(root) > value
    root += np.square(root + 1) <= value
    return root


def fraction(numerator: Int, denominator: Int, bits: int) -> Int:
    """Return numerator / denominator in units of 2**-bits, rounded to nearest, ties up.

    The C twin, mcu_fraction_u32, subtracts and shifts once for each bit: no divide instruction and no
    helper routine.

    Args:
        numerator: 0..denominator.
        denominator: 1..2**31 - 1.
        bits: 0..30.
    """
    doubled = 2 * denominator
    return np.asarray(((numerator << (bits + 1)) + denominator) // doubled, dtype=np.int64)
