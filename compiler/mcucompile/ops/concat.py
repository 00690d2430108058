"""Activations one after the other along an axis."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.ir import Array, Format, Op, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp
from mcucompile.numerics import Int, Requantization, short_multipliers
from mcucompile.ops.linear import fitted_format

# One output scale cannot fit every input's: more signed digits keep the others within 0.4 %.
_TERMS = 4
_WIDTH = 8


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Concat(RealOp):
    """Inputs of shapes that differ only on `axis`, counted from the front; real."""

    kind: ClassVar[str] = "concat"
    takes_format: ClassVar[bool] = True
    axis: int

    def output_shape(self, *shapes: Shape) -> Shape:
        """The inputs' shape with their lengths on the axis added."""
        return _joined(self, self.axis, shapes)

    def run(self, *inputs: Array) -> Array:
        """Copy."""
        return np.concatenate(inputs, axis=self.axis + 1)

    def permuted(self, permutation: tuple[int, ...]) -> "Concat":
        """Join along the axis that becomes `axis`."""
        return replace(self, axis=permutation[self.axis])

    def lower(self, lowering: Lowering) -> Lowered:
        """Copy inputs of one format; else choose a format that the widest input reaches exactly."""
        formats = lowering.formats
        if lowering.given is not None:
            format_ = lowering.given
        elif len(set(formats)) == 1:
            format_ = formats[0]
        else:
            widest = max(formats, key=lambda f: f.scale * (f.maximum - f.minimum))
            signed = any(f.minimum < f.zero_point for f in formats)
            format_ = fitted_format(lowering, widest.scale, signed=signed)
        requantize = lowering.requantize_to(
            format_,
            gain=np.array([f.scale / format_.scale for f in formats]),
            bias=np.array([-float(f.zero_point) for f in formats]),
            bounds=(np.array([f.minimum for f in formats]), np.array([f.maximum for f in formats])),
            multipliers=short_multipliers(max(lowering.terms, _TERMS), _WIDTH),
        )
        op = IntegerConcat(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            axis=self.axis,
            requantize=requantize,
        )
        return Lowered(op, format_)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerConcat(Op):
    """y = requantize[i](x[i]) for every input i, along `axis`.

    Attributes:
        requantize: one multiplier, offset and shift for each input; the zero points are in the offsets.
    """

    kind: ClassVar[str] = "concat"
    axis: int
    requantize: Requantization

    def output_shape(self, *shapes: Shape) -> Shape:
        """The inputs' shape with their lengths on the axis added."""
        return _joined(self, self.axis, shapes)

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        return np.concatenate(
            [self.of_input(i).apply(x.astype(np.int64)) for i, x in enumerate(inputs)], axis=self.axis + 1
        )

    def of_input(self, index: int) -> Requantization:
        """Return what one input goes through."""
        one = slice(index, index + 1)
        parts = self.requantize
        return replace(parts, multiplier=parts.multiplier[one], offset=parts.offset[one], shift=parts.shift[one])

    def accumulator_bounds(self, *formats: Format) -> tuple[Int, Int]:
        """Return each input's smallest and largest code."""
        return np.array([f.minimum for f in formats]), np.array([f.maximum for f in formats])


def _joined(op: Op, axis: int, shapes: tuple[Shape, ...]) -> Shape:
    first = shapes[0]
    others = [shape[:axis] + shape[axis + 1 :] for shape in shapes]
    if not 0 <= axis < len(first) or any(
        len(shape) != len(first) or rest != others[0] for shape, rest in zip(shapes, others, strict=True)
    ):
        listed = ", ".join(map(str, shapes))
        raise ModelError(op.source, f"joins {listed} along axis {axis}", "give all inputs the same other sizes")
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])
