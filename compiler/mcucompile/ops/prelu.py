"""Rectifier with a slope of its own for each channel below 0: y = x or slope[c] * x."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mcucompile.ir import Array, Format, Op, RowAccess, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp
from mcucompile.numerics import Int, Requantization, requantization
from mcucompile.ops.affine import checked_channels, scaling
from mcucompile.ops.pair import centred_bounds, product_format


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PRelu(RealOp):
    """y = x where x >= 0, else slope[c] * x, real.

    Attributes:
        slope: (channels,) along `axis`, of any sign.
        axis: counted from the front, of the input without samples.
    """

    kind: ClassVar[str] = "prelu"
    slope: npt.NDArray[np.float32]
    axis: int

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return checked_channels(self, shapes[0], self.axis, len(self.slope))

    def run(self, *inputs: Array) -> Array:
        """Compute in float32."""
        x = np.moveaxis(inputs[0].astype(np.float32), self.axis + 1, -1)
        return np.moveaxis(np.where(x < 0, x * self.slope, x), -1, self.axis + 1)

    def permuted(self, permutation: tuple[int, ...]) -> "PRelu":
        """The channels lie along the axis that becomes `axis`."""
        return replace(self, axis=permutation[self.axis])

    def lower(self, lowering: Lowering) -> Lowered:
        """Choose an output scale for which positive values have an exact multiplier."""
        source = lowering.formats[0]
        format_, multipliers = product_format(lowering, source.scale)
        slopes = np.concatenate([[1.0], self.slope.astype(np.float64)])
        sign, gain = scaling(slopes, source, format_)
        op = IntegerPRelu(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            sign=sign,
            requantize=requantization(
                gain,
                np.zeros(len(gain)),
                minimum=format_.minimum,
                maximum=format_.maximum,
                zero_point=format_.zero_point,
                multipliers=multipliers,
            ),
            zero_point=source.zero_point,
            axis=self.axis,
        )
        return Lowered(op, format_)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerPRelu(Op):
    """y = requantize[k](sign[k] * (x - zero_point)), k = 0 where x >= zero_point, else 1 + the channel.

    Attributes:
        sign: (1 + channels,) 1, 0 or -1.
        requantize: of 1 + channels.
        zero_point: of x.
        axis: of the channels.
    """

    kind: ClassVar[str] = "prelu"
    is_elementwise: ClassVar[bool] = True
    sign: Int
    requantize: Requantization
    zero_point: int
    axis: int

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return checked_channels(self, shapes[0], self.axis, len(self.sign) - 1)

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        x = np.moveaxis(inputs[0].astype(np.int64) - self.zero_point, self.axis + 1, -1)
        step = self.requantize
        above = Requantization(step.multiplier[:1], step.offset[:1], step.shift[:1], step.minimum, step.maximum)
        below = Requantization(step.multiplier[1:], step.offset[1:], step.shift[1:], step.minimum, step.maximum)
        y = np.where(x < 0, below.apply(x * self.sign[1:]), above.apply(x * self.sign[:1]))
        return np.moveaxis(y, -1, self.axis + 1)

    def row_access(self, *shapes: Shape) -> RowAccess | None:
        """Row by row, unless each row has a slope of its own."""
        return None if self.axis == 1 else Op.row_access(self, *shapes)

    def accumulator_bounds(self, *formats: Format) -> tuple[Int, Int]:
        """Return the smallest and largest accumulator of each requantization for any input."""
        reach = max(abs(end) for end in centred_bounds(formats[0]))
        return np.full(len(self.sign), -reach), np.full(len(self.sign), reach)
