"""Many values become one along an axis: sum, mean, sum of magnitudes, largest, smallest."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.ir import Array, Format, Op, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp
from mcucompile.numerics import Int, Requantization
from mcucompile.ops.linear import fitted_format

EXTREMES = ("max", "min")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reduce(RealOp):
    """x: (outer, n, inner) -> y: (outer, inner), real. The front-end brings the reduced axes together.

    Attributes:
        function: "sum", "mean", "magnitudes" (sum of |x|), "max" or "min".
    """

    kind: ClassVar[str] = "reduce"
    takes_format: ClassVar[bool] = True
    function: str

    def output_shape(self, *shapes: Shape) -> Shape:
        """(outer, inner)."""
        return _checked(self, shapes[0])

    def run(self, *inputs: Array) -> Array:
        """Sums in float64, returned as float32."""
        x = inputs[0]
        if self.function in EXTREMES:
            return _extreme(x, self.function)
        y = (np.abs(x) if self.function == "magnitudes" else x).sum(axis=2, dtype=np.float64)
        return np.asarray(y / x.shape[2] if self.function == "mean" else y, dtype=np.float32)

    def lower(self, lowering: Lowering) -> Lowered:
        """Keep the format of an extreme; for a sum choose an output scale whose multiplier is exact.

        The 1 / n of a mean is part of the multiplier.
        """
        source = lowering.formats[0]
        if self.function in EXTREMES:
            extreme = IntegerExtreme(
                name=self.name,
                inputs=self.inputs,
                output=self.output,
                source=self.source,
                largest=self.function == "max",
            )
            return Lowered(extreme, source)
        count = lowering.inputs[0].shape[2]
        unit = source.scale / (count if self.function == "mean" else 1)
        magnitudes = self.function == "magnitudes"
        format_ = fitted_format(lowering, unit, signed=source.minimum < source.zero_point and not magnitudes)
        reach = count * max(source.maximum - source.zero_point, source.zero_point - source.minimum)
        low, high = (0, reach) if magnitudes else (count * source.minimum, count * source.maximum)
        requantize = lowering.requantize_to(
            format_,
            gain=np.array([unit / format_.scale]),
            bias=np.array([0.0 if magnitudes else -count * source.zero_point]),
            bounds=(np.array([low]), np.array([high])),
            multipliers=lowering.multipliers,
        )
        op = IntegerSum(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            requantize=requantize,
            count=count,
            magnitudes=magnitudes,
            zero_point=source.zero_point,
        )
        return Lowered(op, format_)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerSum(Op):
    """x: (outer, n, inner) -> y: (outer, inner): y = requantize(sum x), or of |x - zero_point|: one rounding.

    Attributes:
        requantize: one multiplier; the zero point of a plain sum is inside the offset.
        count: n.
        magnitudes: sum |x - zero_point|.
        zero_point: of x.
    """

    kind: ClassVar[str] = "reduce_sum"
    requantize: Requantization
    count: int
    magnitudes: bool
    zero_point: int

    def output_shape(self, *shapes: Shape) -> Shape:
        """(outer, inner)."""
        return _checked(self, shapes[0])

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        x = inputs[0].astype(np.int64)
        return self.requantize.apply((np.abs(x - self.zero_point) if self.magnitudes else x).sum(axis=2))

    def accumulator_bounds(self, *formats: Format) -> tuple[Int, Int]:
        """Return the smallest and largest accumulator for any input, (1,) each."""
        low, high = formats[0].minimum, formats[0].maximum
        if self.magnitudes:
            low, high = 0, max(abs(low - self.zero_point), abs(high - self.zero_point))
        return np.array([low * self.count]), np.array([high * self.count])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerExtreme(Op):
    """x: (outer, n, inner) -> y: (outer, inner): the largest or smallest code, same format.

    Attributes:
        largest: else the smallest.
    """

    kind: ClassVar[str] = "reduce_extreme"
    largest: bool

    def output_shape(self, *shapes: Shape) -> Shape:
        """(outer, inner)."""
        return _checked(self, shapes[0])

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        return _extreme(inputs[0], "max" if self.largest else "min")


def _extreme(x: Array, function: str) -> Array:
    return np.asarray(x.max(axis=2) if function == "max" else x.min(axis=2))


def _checked(op: Op, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise ModelError(op.source, f"reduces the middle of three axes, its input is {shape}", "re-export the model")
    return shape[0], shape[2]
