"""Larger or smaller one of two activations."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.ir import Array, Format, Op, RowAccess, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp
from mcucompile.numerics import Int, Requantization
from mcucompile.ops.pair import common_scale, pair_access, pair_shape


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Extremum(RealOp):
    """y = max(a, b) or min(a, b), element by element, broadcast over axes of length 1, real.

    Attributes:
        largest: else the smallest.
    """

    kind: ClassVar[str] = "extremum"
    largest: bool

    def output_shape(self, *shapes: Shape) -> Shape:
        """The broadcast shape."""
        return pair_shape(self, *shapes)

    def run(self, *inputs: Array) -> Array:
        """Compute in the inputs' type."""
        return np.asarray((np.maximum if self.largest else np.minimum)(*inputs))

    def permuted(self, _permutation: tuple[int, ...]) -> "Extremum":
        """The same operator."""
        return self

    def lower(self, lowering: Lowering) -> Lowered:
        """Keep a format that both inputs have; else compare on a common scale."""
        first, second = lowering.formats
        if first == second and not lowering.is_result:
            keep = Requantization(np.array([1]), np.array([0]), np.array([0]), first.minimum, first.maximum)
            return Lowered(self._integer(np.array([1, 1]), np.array([0, 0]), keep), first)
        common = common_scale(lowering, signed=float(lowering.output.min()) < 0)
        offsets = -common.multipliers * (first.zero_point, second.zero_point)
        step = common.requantize(0, (common.format.minimum, common.format.maximum))
        return Lowered(self._integer(common.multipliers, offsets, step), common.format)

    def _integer(self, multipliers: Int, offsets: Int, requantize: Requantization) -> "IntegerExtremum":
        return IntegerExtremum(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            largest=self.largest,
            multipliers=multipliers,
            offsets=offsets,
            requantize=requantize,
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerExtremum(Op):
    """y = requantize(max or min of a * multipliers[0] + offsets[0] and b * multipliers[1] + offsets[1]).

    Attributes:
        largest: else the smallest.
        multipliers: (2,) short signed sums of powers of two.
        offsets: (2,) minus the inputs' zero points, on the common scale.
    """

    kind: ClassVar[str] = "extremum"
    is_elementwise: ClassVar[bool] = True
    largest: bool
    multipliers: Int
    offsets: Int
    requantize: Requantization

    def output_shape(self, *shapes: Shape) -> Shape:
        """The broadcast shape."""
        return pair_shape(self, *shapes)

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        a, b = (x.astype(np.int64) * m + o for x, m, o in zip(inputs, self.multipliers, self.offsets, strict=True))
        return self.requantize.apply(np.maximum(a, b) if self.largest else np.minimum(a, b))

    def row_access(self, *shapes: Shape) -> RowAccess | None:
        """Row by row, if both inputs have all rows."""
        return pair_access(*shapes)

    def accumulator_bounds(self, *formats: Format) -> tuple[Int, Int]:
        """Return bounds of everything that is compared, (1,) each."""
        scaled = list(zip(self.multipliers, self.offsets, formats, strict=True))
        low = min(int(m) * f.minimum + min(int(o), 0) for m, o, f in scaled)
        high = max(int(m) * f.maximum + max(int(o), 0) for m, o, f in scaled)
        return np.array([low]), np.array([high])
