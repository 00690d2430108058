"""Sum or difference of two activations: y = relu?(a + b) or relu?(a - b)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.ir import Array, Format, Op, RowAccess, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp, code_limits, rectified
from mcucompile.numerics import Int, Requantization
from mcucompile.ops.pair import common_scale, pair_access, pair_shape


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Add(RealOp):
    """y = relu?(a + b), element by element, broadcast over axes of length 1, real.

    Attributes:
        relu: clamp the result at 0 and at `ceiling`.
        subtracts: a - b.
    """

    kind: ClassVar[str] = "add"
    takes_format: ClassVar[bool] = True
    relu: bool = False
    ceiling: float = math.inf
    subtracts: bool = False

    def output_shape(self, *shapes: Shape) -> Shape:
        """The broadcast shape."""
        return pair_shape(self, *shapes)

    def run(self, *inputs: Array) -> Array:
        """Compute in float32."""
        first = inputs[0].astype(np.float32)
        y = first - inputs[1] if self.subtracts else first + inputs[1]
        return rectified(y, relu=self.relu, ceiling=self.ceiling)

    def permuted(self, _permutation: tuple[int, ...]) -> "Add":
        """The same operator."""
        return self

    def lower(self, lowering: Lowering) -> Lowered:
        """Choose an output scale near the best one for which both multipliers are nearly exact."""
        common = common_scale(lowering, signed=not self.relu, subtracts=self.subtracts)
        multipliers = common.multipliers * ((1, -1) if self.subtracts else (1, 1))
        zero = sum(int(m) * f.zero_point for m, f in zip(multipliers, lowering.formats, strict=True))
        op = IntegerAdd(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            multipliers=multipliers,
            requantize=common.requantize(-zero, code_limits(common.format, relu=self.relu, ceiling=self.ceiling)),
        )
        return Lowered(op, common.format)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerAdd(Op):
    """y = requantize(a * multipliers[0] + b * multipliers[1]).

    Attributes:
        multipliers: (2,) short signed sums of powers of two, the second one of either sign.
    """

    kind: ClassVar[str] = "add"
    is_elementwise: ClassVar[bool] = True
    multipliers: Int
    requantize: Requantization

    def output_shape(self, *shapes: Shape) -> Shape:
        """The broadcast shape."""
        return pair_shape(self, *shapes)

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        a, b = (x.astype(np.int64) for x in inputs)
        return self.requantize.apply(a * self.multipliers[0] + b * self.multipliers[1])

    def row_access(self, *shapes: Shape) -> RowAccess | None:
        """Row by row, if both inputs have all rows."""
        return pair_access(*shapes)

    def accumulator_bounds(self, *formats: Format) -> tuple[Int, Int]:
        """Return the smallest and largest accumulator for any input, (1,) each."""
        ends = [
            sorted((int(m) * f.minimum, int(m) * f.maximum)) for m, f in zip(self.multipliers, formats, strict=True)
        ]
        return np.array([sum(low for low, _ in ends)]), np.array([sum(high for _, high in ends)])
