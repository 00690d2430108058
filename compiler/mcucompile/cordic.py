"""CORDIC: trigonometric, hyperbolic and logistic functions by shifts and additions (twin: runtime_c/mcu_cordic.h).

Arguments and results are integers in steps of 2**-15 ("Q15"); between them values have GUARD_BITS more. Every
function is its own exact definition, and C gives the same bits. Its error is the largest distance from the real
function, over its whole domain, in units of 2**-15 (LSB); tests/test_cordic.py measures it:

    function                      domain                       steps      error in LSB
    cordic_sin, cordic_cos        angles up to pi / 2          17         1.00 (18 steps: 0.83)
                                  up to pi, 16                 17         1.03, 1.09
    cordic_polar                  coordinates up to 2**15      17         angle 1.04, length 0.51 of its unit
    cordic_exp                    up to 0                      18         0.91
    cordic_sigmoid, cordic_tanh   any                          18 + 17    0.66, 0.76

The similarity of trigonometric inference, sin x sin w = (cos(x - w) - cos(x + w)) / 2, needs cosines of angles up
to pi in whole steps of 2**-f, f up to 15: those are cordic_cos(angle << (15 - f)).

Sources: Volder, "The CORDIC trigonometric computing technique", IRE Trans. Electronic Computers 8 (1959);
Walther, "A unified algorithm for elementary functions", AFIPS 1971 (hyperbolic and linear, repeated steps);
Wu, "Log or trig?" (thesis) 4.1.1, whose equation 4.6 prints a plus where a rotation has a minus.
"""

import math
from dataclasses import dataclass

import numpy as np

from mcucompile.numerics import Int, canonical_signed_digits

FRACTION_BITS = 15
GUARD_BITS = 6
ONE = 1 << (FRACTION_BITS + GUARD_BITS)
PI = round(math.pi * ONE)
LN2 = round(math.log(2) * ONE)
# The largest angle that is not reflected, in Q15.
HALF_PI = round(math.pi / 2 * (1 << FRACTION_BITS))
# The largest argument of any function, in Q15; exp(-16) is 0.
REACH = 16 << FRACTION_BITS
DIVISION_STEPS = 17
# A vector's larger coordinate is brought to so many bits: the angle of a short vector is as exact as a long one's.
LONG_BITS = 28
_SCALE_BITS = 24


@dataclass(frozen=True, slots=True)
class Rotations:
    """A sequence of CORDIC steps.

    Attributes:
        guard_bits: steps between are of 2**-(15 + guard_bits).
        shifts: of each step.
        angles: of each step, in guarded steps.
        start: 1 divided by the gain of all steps, in guarded steps.
    """

    guard_bits: int
    shifts: tuple[int, ...]
    angles: tuple[int, ...]
    start: int


def circular(steps: int = 17, guard_bits: int = GUARD_BITS) -> Rotations:
    """Return rotations by atan(2**-i), i = 0, 1, 2 ..."""
    one = 1 << (FRACTION_BITS + guard_bits)
    shifts = tuple(range(steps))
    gain = math.prod(math.sqrt(1 + 4.0**-i) for i in shifts)
    return Rotations(guard_bits, shifts, tuple(round(math.atan(2.0**-i) * one) for i in shifts), round(one / gain))


def hyperbolic(last: int = 16, repeats: tuple[int, ...] = (4, 13), guard_bits: int = GUARD_BITS) -> Rotations:
    """Return hyperbolic rotations by atanh(2**-i), i = 1 .. last.

    Args:
        last: the largest shift.
        repeats: shifts that occur twice. Unlike circular angles, hyperbolic ones are more than twice the next
            one, so that without the repeats some arguments cannot be reached (Walther, section 4).
        guard_bits: steps between are of 2**-(15 + guard_bits).
    """
    one = 1 << (FRACTION_BITS + guard_bits)
    shifts = tuple(i for i in range(1, last + 1) for _ in range(1 + (i in repeats)))
    gain = math.prod(math.sqrt(1 - 4.0**-i) for i in shifts)
    return Rotations(guard_bits, shifts, tuple(round(math.atanh(2.0**-i) * one) for i in shifts), round(one / gain))


CIRCULAR = circular()
HYPERBOLIC = hyperbolic()
# 1 / (the gain of CIRCULAR) as right shifts: n adds x >> n, -n subtracts it.
SCALE_DIGITS = tuple(
    sign * (_SCALE_BITS - shift)
    for sign, shift in canonical_signed_digits(
        round(2**_SCALE_BITS / math.prod(math.sqrt(1 + 4.0**-i) for i in CIRCULAR.shifts))
    )
)


def cordic_sin_cos(angle: Int, rotations: Rotations = CIRCULAR) -> tuple[Int, Int]:
    """Return sine and cosine.

    Args:
        angle: Q15 radians, magnitude up to 16 (REACH); beyond pi it is turned back, beyond pi / 2 reflected.
        rotations: circular; what C does is the default.
    Returns:
        Sine and cosine, Q15, -32768..32768.
    Example:
        >>> [int(value) for value in cordic_sin_cos(np.array(51472))]
        [32768, 0]
    """
    guard = rotations.guard_bits
    pi = round(math.pi * (1 << (FRACTION_BITS + guard)))
    z = angle << guard
    for power in (1, 0):
        half_turns = pi << power
        z = z + np.where(z > half_turns, -2, np.where(z < -half_turns, 2, 0)) * half_turns
    is_reflected = np.abs(z) > HALF_PI << guard
    z = np.where(is_reflected, np.where(z > 0, pi, -pi) - z, z)
    x = np.full(z.shape, rotations.start, dtype=np.int64)
    y = np.zeros_like(x)
    for shift, step in zip(rotations.shifts, rotations.angles, strict=True):
        turn = np.where(z < 0, -1, 1)
        x, y = x - turn * (y >> shift), y + turn * (x >> shift)
        z = z - turn * step
    cosine = _rounded(x, guard)
    return _rounded(y, guard), np.where(is_reflected, -cosine, cosine)


def cordic_sin(angle: Int) -> Int:
    """Return the sine, Q15, of Q15 radians, magnitude up to 16. Twin: mcu_cordic_sin_s32."""
    return cordic_sin_cos(angle)[0]


def cordic_cos(angle: Int) -> Int:
    """Return the cosine, Q15, of Q15 radians, magnitude up to 16. Twin: mcu_cordic_cos_s32."""
    return cordic_sin_cos(angle)[1]


def cordic_polar(y: Int, x: Int) -> tuple[Int, Int]:
    """Return angle and length of a vector. Twin: mcu_cordic_polar_s32.

    Args:
        y, x: coordinates, any unit, magnitude up to 2**15.
    Returns:
        atan2(y, x) in Q15 radians, -102944..102944, and sqrt(x**2 + y**2) in the coordinates' unit, rounded;
        (0, 0) for no vector.
    """
    x, y = np.broadcast_arrays(np.asarray(x, dtype=np.int64), np.asarray(y, dtype=np.int64))
    largest = np.maximum(np.abs(x), np.abs(y))
    # The exponent of frexp is the number of bits.
    shift = LONG_BITS - np.frexp(largest)[1].astype(np.int64)
    angle = np.where(x < 0, np.where(y < 0, -PI, PI), 0)
    sign = np.where(x < 0, -1, 1)
    x, y = sign * x << shift, sign * y << shift
    for step, turn in zip(CIRCULAR.shifts, CIRCULAR.angles, strict=True):
        back = np.where(y < 0, -1, 1)
        x, y = x + back * (y >> step), y - back * (x >> step)
        angle = angle + back * turn
    length = sum((x >> n if n > 0 else -(x >> -n) for n in SCALE_DIGITS), start=np.zeros_like(x))
    is_vector = largest > 0
    rounded = (length + ((np.int64(1) << shift) >> 1)) >> shift
    return np.where(is_vector, _rounded(angle, GUARD_BITS), 0), np.where(is_vector, rounded, 0)


def cordic_exp(z: Int, rotations: Rotations = HYPERBOLIC) -> Int:
    """Return exp(z).

    Args:
        z: Q15, at most 0; twin: mcu_cordic_exp_s32.
        rotations: hyperbolic; what C does is the default.
    Returns:
        Q15, 0..32768.
    """
    return _rounded(_decay(z, rotations), rotations.guard_bits)


def cordic_sigmoid(z: Int) -> Int:
    """Return 1 / (1 + exp(-z)), Q15, 0..32768. z: Q15, any. Twin: mcu_cordic_sigmoid_s32."""
    share = _quotient(np.full(z.shape, ONE), ONE + _decay(-np.abs(z), HYPERBOLIC))
    return np.where(z < 0, (1 << FRACTION_BITS) - share, share)


def cordic_tanh(z: Int) -> Int:
    """Return (1 - exp(-2 z)) / (1 + exp(-2 z)), Q15, -32768..32768. z: Q15, any. Twin: mcu_cordic_tanh_s32."""
    decay = _decay(-2 * np.abs(z), HYPERBOLIC)
    magnitude = _quotient(ONE - decay, ONE + decay)
    return np.where(z < 0, -magnitude, magnitude)


def _decay(z: Int, rotations: Rotations) -> Int:
    """Return exp(z) in guarded steps, z Q15 at most 0.

    exp(z) = exp(z + k ln 2) >> k with 0 <= z + k ln 2 < ln 2. In x + y, the sum of the two coordinates of a
    hyperbolic rotation, a step is one addition: u + d (u >> i).
    """
    guard = rotations.guard_bits
    ln2 = round(math.log(2) * (1 << (FRACTION_BITS + guard)))
    rest = np.maximum(z, -REACH) << guard
    halvings = np.zeros_like(rest)
    for power in (4, 3, 2, 1, 0):
        raised = rest + (ln2 << power)
        halvings += np.where(raised < ln2, 1 << power, 0)
        rest = np.where(raised < ln2, raised, rest)
    u = np.full(rest.shape, rotations.start, dtype=np.int64)
    for shift, step in zip(rotations.shifts, rotations.angles, strict=True):
        turn = np.where(rest < 0, -1, 1)
        u = u + turn * (u >> shift)
        rest = rest - turn * step
    return np.asarray(u >> halvings, dtype=np.int64)


def _quotient(numerator: Int, denominator: Int) -> Int:
    """Return numerator / denominator, Q15, by linear vectoring; 0 <= numerator <= denominator < 2**29."""
    rest, quotient = numerator, np.zeros_like(numerator)
    for i in range(1, DIVISION_STEPS + 1):
        turn = np.where(rest < 0, -1, 1)
        rest = rest - turn * (denominator >> i)
        quotient = quotient + turn * (ONE >> i)
    return _rounded(quotient, GUARD_BITS)


def _rounded(value: Int, bits: int) -> Int:
    return np.asarray((value + ((1 << bits) >> 1)) >> bits, dtype=np.int64)
