"""Requantization between formats that are given, not chosen: every accumulator gets the exactly rounded code.

`numerics.requantization` may round a multiplier because quantization then chooses scales that fit it. A model that
comes quantized has its scales; here the multiplier gets as many bits as it takes. A requantization is a staircase:
it is right for every accumulator if each of its steps, one for each output code, is where it should be. So the
smallest multiplier that puts all steps there is found by intersecting intervals, and nothing is left to luck.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mcucompile.numerics import (
    INT32_MAX,
    MAX_SHIFT,
    MAX_WIDE_SHIFT,
    WIDE_MAX,
    Int,
    Real,
    Requantization,
)

# Beyond the first shift that serves, this many more are looked at for a multiplier with fewer digits.
_FURTHER_SHIFTS = 5
# Outputs with more codes than these get a multiplier of _DIRECT_BITS bits, without a search.
_MOST_CODES = 1 << 10
_DIRECT_BITS = 24
# How far from whole a bias may be that is taken for whole.
_WHOLE = 1e-6
# Steps are placed for this many channels at a time.
_CHANNELS_AT_ONCE = 1 << 11


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """The exact requantization that is wanted: code = round((acc + bias) * gain) + zero_point, clamped.

    Ties go to the even multiple, products are rounded to float32 first, as quantized models' runtimes do it.

    Attributes:
        gain: (channels,) positive.
        bias: (channels,) in accumulator units, whole or not.
        low, high: (channels,) smallest and largest accumulator, without the bias.
        minimum, maximum: the clamp, in codes.
        zero_point: of the output.
    """

    gain: Real
    bias: Real
    low: Int
    high: Int
    minimum: int
    maximum: int
    zero_point: int

    def code(self, acc: Int) -> Int:
        """Return the exact codes, unclamped. acc: (channels, any)."""
        total = (acc + self.bias[:, None]).astype(np.float32)
        product = total * self.gain.astype(np.float32)[:, None]
        return np.rint(product.astype(np.float64)).astype(np.int64) + self.zero_point

    def part(self, channels: slice) -> "Target":
        """Return some of the channels."""
        return replace(
            self,
            gain=self.gain[channels],
            bias=self.bias[channels],
            low=self.low[channels],
            high=self.high[channels],
        )

    def steps(self) -> Int:
        """Return (channels, codes - 1): the smallest accumulator for each code above the minimum, in low..high + 1."""
        wanted = np.arange(self.minimum + 1, self.maximum + 1)
        real = (wanted - self.zero_point - 0.5) / self.gain[:, None] - self.bias[:, None]
        nearest = np.floor(np.clip(real, self.low[:, None] - 1, self.high[:, None] + 1)).astype(np.int64)
        step = nearest + 2
        for offset in (1, 0, -1):
            reaches = self.code(nearest + offset) >= wanted
            step = np.where(reaches, nearest + offset, step)
        return np.asarray(np.clip(step, self.low[:, None], self.high[:, None] + 1))


def precise_requantization(target: Target) -> Requantization:
    """Return the requantization with the smallest multipliers that gives the target for every accumulator.

    Where no multiplier does, because float32 makes ties, which go to even codes: the one that misses fewest steps, or
    float32's own rounding if that is possible and they miss any. An output of more than
    1024 codes gets 24-bit multipliers: less than 2**-8 codes off, for 16 bits.
    The result is wide if one of its channels does not fit 32 bits.
    """
    if target.maximum - target.minimum >= _MOST_CODES:
        return _directly(target)
    parts = [
        _placed(target.part(slice(start, start + _CHANNELS_AT_ONCE)))
        for start in range(0, len(target.gain), _CHANNELS_AT_ONCE)
    ]
    multiplier, offset, shift, is_placed = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    found = _narrow_if_possible(target, multiplier, offset, shift)
    if is_placed.all():
        return found
    found = _fewest_misses(target, found)
    single = _as_float32(target) if _misses(target, found) else None
    return found if single is None else single


def narrow_requantization(target: Target) -> Requantization:
    """Return the requantization with as many bits of each multiplier as 32-bit intermediates have room for.

    For sums of few codes, which leave about 16 bits: less than 2**-7 codes off.
    """
    return _fewest_misses(target, _full_width(target))


def _full_width(target: Target) -> Requantization:
    reach = np.maximum(np.abs(target.low), np.abs(target.high))
    # The signed powers of two of a multiplier add up to less than twice as much.
    whole = target.gain * (2 * reach + np.abs(target.bias)) + abs(target.zero_point) + 1
    shift = np.clip(np.floor(np.log2(INT32_MAX / whole)) - 1, 1, MAX_SHIFT - 1).astype(np.int64)
    multiplier = np.maximum(np.floor(target.gain * 2.0**shift + 0.5), 1).astype(np.int64)
    multiplier, shift = _halved(multiplier, shift)
    offset = np.floor(target.bias * multiplier + 0.5).astype(np.int64) + (np.int64(target.zero_point) << shift)
    return Requantization(multiplier, offset, shift, target.minimum, target.maximum)


def _fewest_misses(target: Target, found: Requantization) -> Requantization:
    """Return a requantization with ties to even codes, or the one given if that is as good."""
    plain = _full_width(target)
    total = np.maximum(np.abs(target.low + target.bias), np.abs(target.high + target.bias))
    error = float((total * np.abs(plain.multiplier - target.gain * 2.0**plain.shift)).max()) + 0.5
    # An exact multiplier puts ties exactly where they belong; of another, they lie around there.
    window = 1 if error <= 0.5 else 1 << math.ceil(math.log2(2 * error))
    even = replace(plain, offset=plain.offset + window // 2, tie_window=window, even=target.zero_point & 1)
    fits = even.worst(target.low, target.high).max() <= INT32_MAX
    return even if fits and _misses(target, even) < _misses(target, found) else found


def _as_float32(target: Target) -> Requantization | None:
    """Return the requantization that rounds products to float32; None where sums are not whole or beyond 24 bits."""
    bias = np.rint(target.bias)
    ends = np.abs(np.stack([target.low + bias, target.high + bias]))
    if np.abs(bias - target.bias).max() > _WHOLE or ends.max() >= 1 << _DIRECT_BITS:
        return None
    multiplier, _, shift = _nearest(target)
    if not np.array_equal(multiplier * 2.0**-shift, target.gain.astype(np.float32)) or shift.min() < 1:
        return None
    offset = bias.astype(np.int64) * multiplier
    limits = target.minimum, target.maximum
    return Requantization(multiplier, offset, shift, *limits, is_wide=True, zero_point=target.zero_point)


def _misses(target: Target, found: Requantization) -> int:
    """Return how many accumulators around the target's steps get another code than they should."""
    steps = target.steps().T
    near = np.clip(np.concatenate([steps - 1, steps, steps + 1]), target.low, target.high)
    wanted = np.clip(target.code(near.T).T, target.minimum, target.maximum)
    return int(np.count_nonzero(found.apply(near) != wanted))


def digit_count(values: Int) -> Int:
    """Return how many canonical signed digits each positive number has.

    Source: the digits that are not zero are where n and 3 n differ (Reitwiesner's carries).
    """
    return np.asarray(np.bitwise_count((values ^ (3 * values)).astype(np.uint64)), dtype=np.int64)


def _placed(target: Target) -> tuple[Int, Int, Int, npt.NDArray[np.bool_]]:
    """Return multipliers, offsets and shifts of each channel that put every step in its place, and whether they do."""
    if target.minimum == target.maximum:
        one = np.ones(len(target.gain), dtype=np.int64)
        return one, target.minimum * one, 0 * one, one > 0
    step = target.steps()
    codes = np.arange(target.minimum + 1, target.maximum + 1)
    channels = len(target.gain)
    # A step at `low` means that `low` has the code already; one beyond `high`, that nothing has it.
    is_reached = step <= target.high[:, None]
    is_left = step > target.low[:, None]
    reach = np.maximum(np.abs(target.low), np.abs(target.high)) + 1
    best_digits = np.full(channels, 99)
    first = np.full(channels, MAX_WIDE_SHIFT + 1)
    multiplier, offset, shift = (np.zeros(channels, dtype=np.int64) for _ in range(3))
    for exponent in range(MAX_WIDE_SHIFT + 1):
        open_ = (exponent <= first + _FURTHER_SHIFTS) & (target.gain * 2.0**exponent * reach < WIDE_MAX / 2)
        if not open_.any():
            break
        exact = target.gain * 2.0**exponent
        for candidate in (np.floor(exact), np.floor(exact) + 1):
            m = np.maximum(np.where(open_, candidate, 1), 1).astype(np.int64)[:, None]
            wanted = codes << exponent
            # (step * m + offset) reaches the code, (step - 1) * m + offset does not.
            least = np.where(is_reached, wanted - step * m, -WIDE_MAX).max(axis=1)
            most = np.where(is_left, wanted - (step - 1) * m - 1, WIDE_MAX).min(axis=1)
            digits = digit_count(m[:, 0])
            serves = open_ & (least <= most) & (m[:, 0] <= INT32_MAX) & (digits < best_digits)
            middle = np.where(least == -WIDE_MAX, most, np.where(most == WIDE_MAX, least, (least + most) // 2))
            half = (np.int64(1) << exponent) >> 1
            multiplier = np.where(serves, m[:, 0], multiplier)
            offset = np.where(serves, middle - half, offset)
            shift = np.where(serves, exponent, shift)
            best_digits = np.where(serves, digits, best_digits)
            first = np.where(serves, np.minimum(first, exponent), first)
    left = best_digits == 99
    if left.any():
        nearest = _nearest(target)
        multiplier, offset, shift = (
            np.where(left, there, here) for there, here in zip(nearest, (multiplier, offset, shift), strict=True)
        )
    return multiplier, offset, shift, ~left


def _nearest(target: Target) -> tuple[Int, Int, Int]:
    """Return multipliers of _DIRECT_BITS bits with ties up, halved while that loses nothing."""
    exponent = np.clip(_DIRECT_BITS - 1 - np.floor(np.log2(target.gain)), 0, MAX_WIDE_SHIFT).astype(np.int64)
    multiplier = np.maximum(np.floor(target.gain * 2.0**exponent + 0.5), 1).astype(np.int64)
    multiplier, exponent = _halved(multiplier, exponent)
    offset = np.floor(target.bias * multiplier + 0.5).astype(np.int64) + (np.int64(target.zero_point) << exponent)
    return multiplier, offset, exponent


def _halved(multiplier: Int, shift: Int) -> tuple[Int, Int]:
    """Return multipliers and shifts, at least 1, halved while that loses nothing."""
    is_even = (multiplier & 1 == 0) & (shift > 1)
    while is_even.any():
        multiplier, shift = np.where(is_even, multiplier >> 1, multiplier), np.where(is_even, shift - 1, shift)
        is_even = (multiplier & 1 == 0) & (shift > 1)
    return multiplier, shift


def _directly(target: Target) -> Requantization:
    return _narrow_if_possible(target, *_nearest(target))


def _narrow_if_possible(target: Target, multiplier: Int, offset: Int, shift: Int) -> Requantization:
    wide = Requantization(multiplier, offset, shift, target.minimum, target.maximum, is_wide=True)
    fits = wide.worst(target.low, target.high).max() <= INT32_MAX and shift.max() <= MAX_SHIFT
    return Requantization(multiplier, offset, shift, target.minimum, target.maximum, is_wide=not fits)
