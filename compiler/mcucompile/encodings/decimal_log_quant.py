"""Decimal LogQuant (DLQ): the exponents are equally spaced but not whole numbers.

Source: Log-or-Trig thesis, section 3.4, eq. 3.6 and listing 3.8 (2**b levels; the printed equation has
one more). listing 3.7 lacks the absolute value; zero gets a code of its own.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mcucompile.encodings.encoding import Codebook, Encoding
from mcucompile.numerics import Int, Real

# 45 / 64 stands for 1 / sqrt(2): 0.6 % below, far inside the 19 % half step; three shifts and adds. Where an
# accumulator has not the bits for it, a smaller power of two takes the place of 64.
_HALF_STEP_BITS = 6


@dataclass(frozen=True, slots=True)
class DecimalLogQuant(Encoding):
    """2**b levels -R * k / (2**b - 1), k = 0 .. 2**b - 1: weight = sign * layer scale * 2**level.

    A code is the sign (bit b) beside k (bits 0 .. b-1); 2**(b+1) is the value 0. On the chip a level is
    the integer nearest to 2**(fraction bits + level), so that a sum over levels is exact in integers and
    each level costs a few shifts and adds, once for each output.

    Attributes:
        level_bits: b, 3..6, without the sign.
        ranges: the values of R that calibration chooses from.
        half_step: levels of exactly half an octave, R = 7.5 with b = 4: integer shifts and one constant.
    """

    level_bits: int
    ranges: tuple[float, ...]
    half_step: bool

    def codebooks(self, weight: Real, value_bits: int) -> Iterator[Codebook]:
        """Yield codebooks for each range R and for layer scales of the two powers of two around the maximum."""
        top = math.ceil(math.log2(float(np.abs(weight).max()) or 1.0))
        for span in self.ranges:
            magnitude = self._half_steps(value_bits) if self.half_step else self._steps(span, value_bits)
            values = np.concatenate([magnitude, -magnitude, [0]])
            for layer in (top, top - 1):
                yield Codebook(
                    values, 2.0**layer / int(magnitude[0]), parameters=f"R = {span:g}, layer scale 2^{layer}"
                )

    def _steps(self, span: float, value_bits: int) -> Int:
        fraction_bits = min(value_bits, math.ceil(span) + self.level_bits)
        level = np.linspace(0.0, -span, 1 << self.level_bits)
        return np.floor(2.0 ** (fraction_bits + level) + 0.5).astype(np.int64)

    def _half_steps(self, value_bits: int) -> Int:
        octaves = (1 << (self.level_bits - 1)) - 1
        one = 1 << max(min(_HALF_STEP_BITS, value_bits - octaves), 1)
        root = round(one / math.sqrt(2))
        octave = np.int64(1) << np.arange(octaves, -1, -1)
        return np.stack([one * octave, root * octave], axis=1).ravel()

    def encode(self, weight: Real, codebook: Codebook, scale: Real) -> Int:
        """Round each weight to the nearest level in log distance; 0 keeps its own code.

        Example:
            >>> encoding = DecimalLogQuant("dlq4", 8, "", 4, (7.0,), False)
            >>> book = next(encoding.codebooks(np.array([[1.0]]), 20))
            >>> encoding.encode(np.array([[1.0, -0.5, 0.0]]), book, np.array([[book.scale]])).tolist()
            [[0, 18, 32]]
        """
        levels = 1 << self.level_bits
        # With few value bits the smallest levels become the integer 0, which is infinitely far from any weight.
        with np.errstate(divide="ignore"):
            logs = -np.log2(codebook.values[:levels].astype(np.float64))
        middles = (logs[1:] + logs[:-1]) / 2
        magnitude = np.abs(weight) / scale
        zero = magnitude == 0
        index = np.searchsorted(middles, -np.log2(np.where(zero, 1.0, magnitude)))
        return np.asarray(np.where(zero, 2 * levels, index + np.where(weight < 0, levels, 0)), dtype=np.int64)


_CALIBRATED_RANGES = (4.0, 5.0, 6.0, 7.0)

DECIMAL_LOG_QUANT = (
    *(
        DecimalLogQuant(f"dlq{b}", 8, f"Decimal LogQuant: 2^{b} fractional exponents", b, _CALIBRATED_RANGES, False)
        for b in range(3, 7)
    ),
    DecimalLogQuant("dlq4half", 8, "half-step DLQ: 16 exponents, half an octave apart", 4, (7.5,), True),
)
