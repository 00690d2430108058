"""Matrix product of two activations."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.errors import ModelError, QuantizationError
from mcucompile.ir import Array, Format, Op, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp
from mcucompile.numerics import Int, Requantization
from mcucompile.ops.linear import fitted_format
from mcucompile.ops.pair import bits_beyond, centred_bounds, product_bounds, product_requantization

# Bits of a sum of products; the requantization multiplier takes the others of the 32.
_SUM_BITS = 26


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MatMul(RealOp):
    """a: (batch, m, k), b: (batch, k, n) -> y: (batch, m, n), real; one of the batches may be 1."""

    kind: ClassVar[str] = "matmul"
    takes_format: ClassVar[bool] = True

    def output_shape(self, *shapes: Shape) -> Shape:
        """(batch, m, n)."""
        return _checked(self, *shapes)

    def run(self, *inputs: Array) -> Array:
        """Compute in float64, return float32."""
        return np.asarray(inputs[0].astype(np.float64) @ inputs[1].astype(np.float64), dtype=np.float32)

    def operations(self, *shapes: Shape) -> int:
        """Products."""
        return math.prod(_checked(self, *shapes)) * shapes[0][2]

    def lower(self, lowering: Lowering) -> Lowered:
        """Choose an output scale for which the multiplier is exact; products of 16-bit inputs lose their low bits."""
        first, second = lowering.formats
        inner = lowering.inputs[0].shape[3]
        low, high = product_bounds(first, second)
        if low < -(1 << 31) or high >= 1 << (32 if low >= 0 else 31):
            raise QuantizationError(self.source, f"multiplies {first} by {second}", "give it symmetric activations")
        dropped = bits_beyond((inner * low, inner * high), _SUM_BITS)
        unit = first.scale * second.scale * 2.0**dropped
        format_ = fitted_format(lowering, unit, signed=bool(lowering.output.min() < 0))
        rounded = inner * (low >> dropped), inner * ((high >> dropped) + 1)
        op = IntegerMatMul(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            zero_points=(first.zero_point, second.zero_point),
            inner=inner,
            dropped=dropped,
            requantize=product_requantization(lowering, format_, unit, rounded, lowering.multipliers),
        )
        return Lowered(op, format_)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerMatMul(Op):
    """y = requantize(sum over k of ((a - zero_points[0]) * (b - zero_points[1]) + half) >> dropped).

    Attributes:
        zero_points: of a and b.
        inner: k.
        dropped: bits of each product that are rounded away, 0 for 8-bit inputs and fewer than 1024 products.
    """

    kind: ClassVar[str] = "matmul"
    zero_points: tuple[int, int]
    inner: int
    dropped: int
    requantize: Requantization

    def output_shape(self, *shapes: Shape) -> Shape:
        """(batch, m, n)."""
        return _checked(self, *shapes)

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        a, b = (x.astype(np.int64) - zero for x, zero in zip(inputs, self.zero_points, strict=True))
        if not self.dropped:
            return self.requantize.apply(a @ b)
        half = 1 << self.dropped >> 1
        sums = sum(((a[..., i, None] * b[..., i, None, :] + half) >> self.dropped) for i in range(self.inner))
        return self.requantize.apply(np.asarray(sums))

    def operations(self, *shapes: Shape) -> int:
        """Products."""
        return math.prod(_checked(self, *shapes)) * self.inner

    def is_unsigned(self, *formats: Format) -> bool:
        """Return whether no product is negative: it then has 32 bits."""
        return all(centred_bounds(format_)[0] >= 0 for format_ in formats)

    def accumulator_bounds(self, *formats: Format) -> tuple[Int, Int]:
        """Return the smallest and largest sum for any input, (1,) each."""
        half = 1 << self.dropped >> 1
        low, high = (self.inner * ((bound + half) >> self.dropped) for bound in product_bounds(*formats))
        return np.array([low]), np.array([high])


def _checked(op: Op, *shapes: Shape) -> Shape:
    if len(shapes) != 2 or any(len(shape) != 3 for shape in shapes):
        raise ModelError(op.source, f"multiplies {' by '.join(map(str, shapes))}", "give it two batches of matrices")
    (first, m, k), (second, own, n) = shapes
    if k != own or (1 not in (first, second) and first != second):
        raise ModelError(op.source, f"multiplies {shapes[0]} by {shapes[1]}", "re-export the model")
    return max(first, second), m, n
