"""Scale and offset along one axis: y = x * scale[c] + offset[c] (batch-norm, or a constant's +, -, *, /)."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mcucompile.errors import ModelError, QuantizationError
from mcucompile.ir import Array, Format, Op, RowAccess, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp, code_limits, rectified
from mcucompile.numerics import Int, Real, Requantization, short_multipliers

# An affine layer that could not be folded has no free scale to absorb a rounded multiplier: give it more
# signed digits, so that a channel is at most 0.4 % off.
_TERMS = 4
_WIDTH = 8
_NEGLIGIBLE = 0.25


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Affine(RealOp):
    """y = relu?(x * scale + offset), scale and offset (channels,) or (1,) along `axis`, real.

    Attributes:
        axis: counted from the front, of the input without samples.
        relu: clamp the result at 0 and at `ceiling`.
    """

    kind: ClassVar[str] = "affine"
    takes_format: ClassVar[bool] = True
    scale: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]
    axis: int
    relu: bool = False
    ceiling: float = math.inf

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return checked_channels(self, shapes[0], self.axis, len(self.scale))

    def run(self, *inputs: Array) -> Array:
        """Compute in float32."""
        x = np.moveaxis(inputs[0].astype(np.float32), self.axis + 1, -1) if self._is_vector else inputs[0]
        y = x * self.scale + self.offset
        y = np.moveaxis(y, -1, self.axis + 1) if self._is_vector else y
        return np.asarray(rectified(y, relu=self.relu, ceiling=self.ceiling), dtype=np.float32)

    @property
    def _is_vector(self) -> bool:
        return len(self.scale) > 1

    def permuted(self, permutation: tuple[int, ...]) -> "Affine":
        """The channels lie along the axis that becomes `axis`."""
        return replace(self, axis=permutation[self.axis] if self._is_vector else 0)

    def lower(self, lowering: Lowering) -> Lowered:
        """Requantize every channel with its own multiplier; a negative scale is a negative sign bit."""
        source = lowering.formats[0]
        scale = self.scale.astype(np.float64)
        if not (np.isfinite(scale).all() and np.isfinite(self.offset).all()):
            raise QuantizationError(self.source, "a constant is not a finite number", "re-train or repair the model")
        format_ = lowering.output_format(signed=not self.relu)
        sign, gain = scaling(scale, source, format_)
        # An offset beyond these limits, as a mask has, saturates whatever the input is.
        reach = format_.maximum - format_.minimum + gain * (source.maximum - source.minimum)
        offset = np.clip(self.offset.astype(np.float64) / format_.scale, -reach, reach)
        bias = offset / gain - sign * source.zero_point
        bounds = np.sort(np.stack([sign * source.minimum, sign * source.maximum]), axis=0)
        requantize = lowering.requantize_to(
            format_,
            gain=gain,
            bias=bias,
            bounds=(bounds[0], bounds[1]),
            multipliers=short_multipliers(max(lowering.terms, _TERMS), _WIDTH),
            limits=code_limits(format_, relu=self.relu, ceiling=self.ceiling),
        )
        op = IntegerAffine(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            sign=sign,
            requantize=requantize,
            axis=self.axis,
        )
        return Lowered(op, format_)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerAffine(Op):
    """y = requantize(sign[c] * x), channels along `axis`.

    Attributes:
        sign: (channels,) or (1,), 1, -1 or 0.
    """

    kind: ClassVar[str] = "affine"
    is_elementwise: ClassVar[bool] = True
    sign: Int
    requantize: Requantization
    axis: int

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return checked_channels(self, shapes[0], self.axis, len(self.sign))

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        x = inputs[0].astype(np.int64)
        if len(self.sign) == 1:
            return self.requantize.apply(x * self.sign)
        return np.moveaxis(self.requantize.apply(np.moveaxis(x, self.axis + 1, -1) * self.sign), -1, self.axis + 1)

    def row_access(self, *shapes: Shape) -> RowAccess | None:
        """Row by row, unless each row has factors of its own."""
        return None if self.axis == 1 and len(self.sign) > 1 else Op.row_access(self, *shapes)

    def accumulator_bounds(self, *formats: Format) -> tuple[Int, Int]:
        """Return the smallest and largest accumulator of each channel for any input."""
        low, high = formats[0].minimum * self.sign, formats[0].maximum * self.sign
        return np.minimum(low, high), np.maximum(low, high)


def scaling(scale: Real, source: Format, format_: Format) -> tuple[Int, Real]:
    """Return the sign of each factor and its gain from input to output codes, positive.

    A factor that no input takes a quarter of an output code from 0 counts as 0: its sign is 0 and its gain 1.
    """
    gain = np.abs(scale) * source.scale / format_.scale
    reach = max(source.maximum - source.zero_point, source.zero_point - source.minimum)
    sign = np.where(gain * reach < _NEGLIGIBLE, 0, np.where(scale < 0, -1, 1))
    return np.asarray(sign, dtype=np.int64), np.where(sign == 0, 1.0, gain)


def checked_channels(op: Op, shape: Shape, axis: int, channels: int) -> Shape:
    """Return the shape, or raise ModelError if its axis has not as many channels, more than one, as an operator."""
    if channels != 1 and (axis >= len(shape) or shape[axis] != channels):
        raise ModelError(
            op.source, f"has {channels} channels on axis {axis}, its input is {shape}", "re-export the model"
        )
    return shape
