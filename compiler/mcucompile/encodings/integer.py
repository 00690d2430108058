"""Plain integers, one scale for each output channel: real = scale[o] * value, two's complement codes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mcucompile.encodings.encoding import Codebook, Encoding
from mcucompile.numerics import Int, Real


@dataclass(frozen=True, slots=True)
class IntegerEncoding(Encoding):
    """Symmetric integers of `bits` bits: values -(2**(bits-1) - 1) .. 2**(bits-1) - 1, code = value mod 2**bits."""

    def codebooks(self, weight: Real, value_bits: int) -> Iterator[Codebook]:  # noqa: ARG002 - the same for all layers
        """Yield the one codebook; scales are chosen for each channel."""
        codes = np.arange(1 << self.bits)
        yield Codebook(np.where(codes < 1 << (self.bits - 1), codes, codes - (1 << self.bits)), per_channel=True)

    def encode(self, weight: Real, codebook: Codebook, scale: Real) -> Int:  # noqa: ARG002 - integers need no table
        """Round to the nearest integer, ties up, clamp symmetrically.

        Example:
            >>> book = next(INT4.codebooks(np.zeros((1, 1)), 3))
            >>> INT4.encode(np.array([[0.5, -0.26, 9.0]]), book, np.array([[0.25]])).tolist()
            [[2, 15, 7]]
        """
        limit = (1 << (self.bits - 1)) - 1
        value = np.clip(np.floor(weight / scale + 0.5), -limit, limit).astype(np.int64)
        return np.asarray(value & ((1 << self.bits) - 1))


INT8 = IntegerEncoding("int8", 8, "8-bit integers, one scale per output channel")
INT4 = IntegerEncoding("int4", 4, "4-bit integers, one scale per output channel")
