"""Convolution with weights of few magnitudes, without a product: x is summed in a bucket for each magnitude.

The weights of a magnitude take one table row for four channels of a tap, whatever number they stand for
(kernels/conv_subsets.py). Then an output's buckets, 8 words each, are the rows of a table themselves: those that have
a digit of a certain value are added, and Horner's rule goes from digit to digit, in the lanes as long as these hold
the sum.

Source: buckets are the counts of Wu, "Log or trig?" (thesis), section 3.4, for decimal logarithms.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mcucompile.kernels.conv_subsets import (
    Combination,
    ConvSubsets,
    PlanedPart,
    Program,
    Step,
    in_parts,
    signed_digits,
)
from mcucompile.kernels.dense import sums_of
from mcucompile.kernels.kernel import Layer
from mcucompile.numerics import Int, canonical_signed_digits

_MOST_MAGNITUDES = 16


@dataclass(frozen=True, slots=True)
class ConvBuckets(ConvSubsets):
    """For weights of few magnitudes."""

    def refused(self, layer: Layer) -> str | None:
        """Refuse many magnitudes, and powers of two, which bit planes take as they are."""
        magnitudes = _magnitudes(np.asarray(sums_of(layer).weights.values))
        if len(magnitudes) > _MOST_MAGNITUDES:
            return "weights have too many magnitudes"
        if sums_of(layer).similarity == "ternary" or not (magnitudes & (magnitudes - 1)).any():
            return "leaves powers of two to planes"
        return None

    def programs(self, layer: Layer, values: Int) -> Iterator[Program]:
        """Yield the one way: buckets for each range of channels whose parts the lanes hold."""
        parts = in_parts(layer, signed_digits(values))
        places: dict[tuple[int, int], int] = {}
        for part in parts:
            for magnitude in _magnitudes(values[:, :, part.groups]):
                places.setdefault((part.groups.start, int(magnitude)), len(places))
        sums = []
        ends = {part.groups.start: part.groups for part in parts}
        for start, magnitude in places:
            signs = np.zeros_like(values)
            signs[:, :, ends[start]] = (np.sign(values) * (np.abs(values) == magnitude))[:, :, ends[start]]
            sums.append((Step.of_signs(0, signs),))
        combinations = tuple(tuple(_combinations(part, places)) for part in parts)
        yield Program(tuple(sums), tuple(part.lane for part in parts), combinations)


def _combinations(part: PlanedPart, places: dict[tuple[int, int], int]) -> Iterator[Combination]:
    for shift, plane in zip(part.shifts, part.planes, strict=True):
        signed = (
            tuple(
                place
                for (start, magnitude), place in places.items()
                if start == part.groups.start and (sign, plane.shift) in canonical_signed_digits(magnitude)
            )
            for sign in (1, -1)
        )
        yield Combination(shift, *signed)


def _magnitudes(values: Int) -> Int:
    return np.setdiff1d(np.abs(values), [0])


CONV_BUCKETS = tuple(
    ConvBuckets("buckets", "conv", "kernels/conv_subsets.c.j2", table_bytes) for table_bytes in (2048, 8192, 32768)
)
