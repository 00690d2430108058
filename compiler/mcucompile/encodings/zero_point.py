"""Integers with a zero point: real = scale[o] * (code - zero point), as quantized models store weights, too."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mcucompile.encodings.encoding import Codebook, Encoding
from mcucompile.numerics import Int, Real

_CODES = 256


@dataclass(frozen=True, slots=True)
class ZeroPointEncoding(Encoding):
    """Codes 0..255 and one zero point for the layer: it serves weights that are not spread evenly around 0."""

    def codebooks(self, weight: Real, value_bits: int) -> Iterator[Codebook]:  # noqa: ARG002 - the same for all layers
        """Yield the one codebook, its zero point from the layer's range; scales are chosen for each channel.

        Example:
            >>> next(ZERO_POINT_INT8.codebooks(np.array([[-1.0, 4.1]]), 8)).values[[0, 255]].tolist()
            [-50, 205]
        """
        low, high = min(float(weight.min()), 0.0), max(float(weight.max()), 0.0)
        zero = int((_CODES - 1) * -low / ((high - low) or 1.0) + 0.5)
        yield Codebook(np.arange(_CODES) - zero, per_channel=True, parameters=f"zero point {zero}")

    def encode(self, weight: Real, codebook: Codebook, scale: Real) -> Int:
        """Round to the nearest integer, ties up, clamp."""
        value = np.floor(weight / scale + 0.5)
        return np.asarray(np.clip(value - codebook.values[0], 0, _CODES - 1), dtype=np.int64)


ZERO_POINT_INT8 = ZeroPointEncoding("int8z", 8, "8-bit integers minus a zero point, one scale per output channel")
