"""Convolution by bit planes of the weights, without a product: exact for integer weights of any size.

A bit plane of an output's weights takes one table row for four channels of a tap (kernels/conv_subsets.py). Planes are
combined by Horner's rule, in the lanes as long as these hold the sum of several planes, and then once for each output.
Weights that are powers of two have one bit each.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mcucompile.kernels.conv_subsets import ConvSubsets, Plane, PlanedPart, Program, Step, in_parts, signed_digits
from mcucompile.kernels.kernel import Layer
from mcucompile.numerics import Int


@dataclass(frozen=True, slots=True)
class ConvPlanes(ConvSubsets):
    """For integer weights of any size."""

    def refused(self, layer: Layer) -> str | None:  # noqa: ARG002 - all weights have planes
        """Refuse nothing."""
        return None

    def programs(self, layer: Layer, values: Int) -> Iterator[Program]:
        """Yield the planes of each representation of the weights."""
        for form in (_twos_complement, _sign_and_magnitude, signed_digits):
            yield _program(in_parts(layer, form(values)))


def _program(parts: list[PlanedPart]) -> Program:
    sums = []
    for part in parts:
        steps = zip(part.shifts, part.planes, strict=True)
        sums.append(tuple(Step.of_signs(shift, plane.digits) for shift, plane in steps))
    return Program(tuple(sums), tuple(part.lane for part in parts))


def _twos_complement(values: Int) -> Iterator[Plane]:
    low, high = int(values.min()), int(values.max())
    count = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0, 1)
    if low < 0:
        yield Plane(count, -(values < 0).astype(np.int64))
    for bit in range(count - 1, -1, -1):
        yield Plane(bit, values >> bit & 1)


def _sign_and_magnitude(values: Int) -> Iterator[Plane]:
    for bit in range(int(np.abs(values).max()).bit_length() - 1, -1, -1):
        yield Plane(bit, np.sign(values) * (np.abs(values) >> bit & 1))


CONV_PLANES = tuple(
    ConvPlanes("planes", "conv", "kernels/conv_subsets.c.j2", table_bytes) for table_bytes in (2048, 8192, 32768)
)
