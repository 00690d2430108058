"""LogQuant: every weight is a signed power of two.

Source: Miyashita et al., arXiv:1603.01025, section 3; thesis eq. 3.2-3.5. The printed Clip returns 0 as
an exponent for small weights; read it as the value 0.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mcucompile.encodings.encoding import Codebook, Encoding
from mcucompile.numerics import Int, Real

MAX_EXPONENTS = 16
_MAX_INDEX_BITS = 5


@dataclass(frozen=True, slots=True)
class LogQuant(Encoding):
    """Exponents FSR - 2**b + 1 .. FSR - 1 and the value 0; the sign is extra: b + 1 bits.

    Of the 2**b - 1 exponents at most 16 are used, fewer where an int32 accumulator could overflow; a weight
    below them is under 2**-16 of the layer's largest and becomes 0. So 5 bits hold any exponent's index. A
    code is the sign beside the index: value = +-2**index; an index of all ones with a clear sign is the value 0.

    Attributes:
        exponent_bits: b, 3..8.
    """

    exponent_bits: int

    @property
    def index_bits(self) -> int:
        """Bits of the exponent's index in a code; the sign is the bit above them."""
        return min(self.exponent_bits, _MAX_INDEX_BITS)

    def codebooks(self, weight: Real, value_bits: int) -> Iterator[Codebook]:
        """Yield codebooks for full-scale ranges FSR at the layer's maximum and one octave around it.

        They begin at the smallest weight, where that leaves exponents over: sums of small integers are cheaper.
        """
        magnitudes = np.abs(weight[weight != 0]) if np.any(weight) else np.ones(1)
        top, bottom = (math.floor(math.log2(float(m)) + 0.5) for m in (magnitudes.max(), magnitudes.min()))
        zero = (1 << self.index_bits) - 1
        most = min(zero, MAX_EXPONENTS, value_bits + 1)
        for largest in (top, top - 1):
            exponents = min(most, max(largest - bottom, 0) + 1)
            values = np.zeros(2 << self.index_bits, dtype=np.int64)
            values[:exponents] = np.int64(1) << np.arange(exponents)
            values[zero + 1 : zero + 1 + exponents] = -values[:exponents]
            yield Codebook(values, 2.0 ** (largest - exponents + 1), parameters=f"largest 2^{largest}")

    def encode(self, weight: Real, codebook: Codebook, scale: Real) -> Int:
        """Round each weight to the nearest power of two in log distance; small ones become 0.

        Example:
            >>> encoding = LogQuant("log4", 8, "", 4)
            >>> book = next(encoding.codebooks(np.array([[1.0]]), 14))
            >>> codes = encoding.encode(np.array([[1.0, -0.3, 0.0]]), book, np.array([[book.scale]]))
            >>> (book.values[codes] * book.scale).tolist()
            [[1.0, -0.25, 0.0]]
        """
        zero = (1 << self.index_bits) - 1
        exponents = int(np.count_nonzero(codebook.values > 0))
        magnitude = np.abs(weight) / scale
        exponent = np.floor(np.log2(np.where(magnitude > 0, magnitude, 0.25)) + 0.5)
        index = np.clip(exponent, -1, exponents - 1).astype(np.int64)
        code = index + np.where(weight < 0, zero + 1, 0)
        return np.asarray(np.where(index < 0, zero, code))


LOG_QUANT = tuple(
    LogQuant(f"log{b}", 4 if b == 3 else 8, f"LogQuant: signed powers of two, {b}-bit exponents", b)
    for b in range(3, 9)
)
