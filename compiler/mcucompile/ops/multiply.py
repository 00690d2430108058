"""Product of two activations: y = a * b."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.errors import QuantizationError
from mcucompile.ir import Array, Format, Op, RowAccess, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp
from mcucompile.numerics import Int, Requantization
from mcucompile.ops.pair import (
    bits_beyond,
    centred_bounds,
    pair_access,
    pair_shape,
    product_bounds,
    product_format,
    product_requantization,
)

# Bits of a product that is requantized; the multiplier takes the others of the 32.
_PRODUCT_BITS = 22


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Multiply(RealOp):
    """y = a * b, element by element, broadcast over axes of length 1, real."""

    kind: ClassVar[str] = "multiply"
    takes_format: ClassVar[bool] = True

    def output_shape(self, *shapes: Shape) -> Shape:
        """The broadcast shape."""
        return pair_shape(self, *shapes)

    def run(self, *inputs: Array) -> Array:
        """Compute in float32."""
        return inputs[0].astype(np.float32) * inputs[1]

    def permuted(self, _permutation: tuple[int, ...]) -> "Multiply":
        """The same operator."""
        return self

    def lower(self, lowering: Lowering) -> Lowered:
        """Choose an output scale for which the multiplier is exact; 16-bit products lose their lowest bits first."""
        first, second = lowering.formats
        bounds = product_bounds(first, second)
        if bounds[0] < -(1 << 31) or bounds[1] >= 1 << 32:
            raise QuantizationError(self.source, f"multiplies {first} by {second}", "give it symmetric activations")
        dropped = bits_beyond(bounds, _PRODUCT_BITS)
        unit = first.scale * second.scale * 2.0**dropped
        format_, multipliers = product_format(lowering, unit)
        rounded = bounds[0] >> dropped, (bounds[1] >> dropped) + 1
        op = IntegerMultiply(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            zero_points=(first.zero_point, second.zero_point),
            dropped=dropped,
            requantize=product_requantization(lowering, format_, unit, rounded, multipliers),
        )
        return Lowered(op, format_)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerMultiply(Op):
    """y = requantize(((a - zero_points[0]) * (b - zero_points[1]) + half) >> dropped).

    Attributes:
        zero_points: of a and b.
        dropped: bits of the product that are rounded away first, 0 for 8-bit inputs.
    """

    kind: ClassVar[str] = "multiply"
    is_elementwise: ClassVar[bool] = True
    zero_points: tuple[int, int]
    dropped: int
    requantize: Requantization

    def output_shape(self, *shapes: Shape) -> Shape:
        """The broadcast shape."""
        return pair_shape(self, *shapes)

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        a, b = (x.astype(np.int64) - zero for x, zero in zip(inputs, self.zero_points, strict=True))
        return self.requantize.apply((a * b + (1 << self.dropped >> 1)) >> self.dropped)

    def row_access(self, *shapes: Shape) -> RowAccess | None:
        """Row by row, if both inputs have all rows."""
        return pair_access(*shapes)

    def is_unsigned(self, *formats: Format) -> bool:
        """Return whether no product is negative: it then has 32 bits."""
        return all(centred_bounds(format_)[0] >= 0 for format_ in formats)

    def accumulator_bounds(self, *formats: Format) -> tuple[Int, Int]:
        """Return the smallest and largest rounded product for any input, (1,) each."""
        half = 1 << self.dropped >> 1
        low, high = ((bound + half) >> self.dropped for bound in product_bounds(*formats))
        return np.array([low]), np.array([high])
