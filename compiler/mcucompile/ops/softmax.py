"""Softmax over the last axis: a table of exp, or CORDIC, and one restoring division for each output."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.errors import ModelError, QuantizationError
from mcucompile.ir import Array, Format, Op, Shape, Source
from mcucompile.lowering import MASKED, Lowered, Lowering, RealOp
from mcucompile.numerics import INT32_MAX, Int, fraction
from mcucompile.ops.cordic_function import CordicExponentials, cordic_exponentials

# exp in units of 2**-15: fits uint16, and 65,535 of them fit a uint32 sum.
TABLE_BITS = 15
_TABLE_STEPS = 256
# exp(-10) is a tenth of the smallest step of 8 bits.
_NOTHING = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Exponentials:
    """exp(-scale * d) for d = 0..255, or as the product of two for d = 0..65535, in units of 2**-15.

    Attributes:
        fine: (256,) of d's low byte, 0..32768.
        coarse: (256,) of its high byte; (0,) if d has 8 bits.
    """

    fine: Int
    coarse: Int

    def of(self, distance: Int) -> Int:
        """Return the exponentials, rounded once more where they are products."""
        if not len(self.coarse):
            return np.asarray(self.fine[distance])
        product = self.fine[distance & (_TABLE_STEPS - 1)] * self.coarse[distance // _TABLE_STEPS]
        return np.asarray((product + (1 << (TABLE_BITS - 1))) >> TABLE_BITS)


def exponentials(source: Format, place: Source, *, by_cordic: bool) -> Exponentials | CordicExponentials:
    """Return exponentials for an input's format, by CORDIC if wanted and possible, or raise QuantizationError."""
    if source.bits > 16:
        raise QuantizationError(place, f"its input is {source}", "give it an 8-bit or 16-bit activation")
    computed = cordic_exponentials(source) if by_cordic else None
    if computed is not None:
        return computed
    steps = np.arange(_TABLE_STEPS)
    coarse = steps * _TABLE_STEPS if source.bits == 16 else steps[:0]
    fine, upper = (
        np.floor(np.exp(-source.scale * distance) * (1 << TABLE_BITS) + 0.5).astype(np.int64)
        for distance in (steps, coarse)
    )
    return Exponentials(fine, upper)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Softmax(RealOp):
    """y = exp(x - max x) / sum exp(x - max x) over the last axis, real."""

    kind: ClassVar[str] = "softmax"
    keeps_format: ClassVar[bool] = True

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return checked_classes(self, shapes[0])

    def run(self, *inputs: Array) -> Array:
        """Compute in float32."""
        x = inputs[0].astype(np.float32)
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return np.asarray(e / e.sum(axis=-1, keepdims=True), dtype=np.float32)

    def seen(self, x: Array) -> Array:
        """Return what it needs to see of an input: masked values are small enough if their share is next to nothing."""
        masked = x < -MASKED / 2
        if not masked.any():
            return x
        top = x.max(axis=-1, keepdims=True)
        return np.where(masked, np.where(top < -MASKED / 2, 0, top - np.float32(_NOTHING)), x)

    def lower(self, lowering: Lowering) -> Lowered:
        """Make the tables for the input's scale. A result has steps of 2**-15, another output 8 or 16 bits."""
        bits = TABLE_BITS if lowering.is_result else lowering.activation_bits
        format_ = Format(32, True, 2.0**-bits) if lowering.is_result else Format(bits, False, 2.0**-bits)
        op = IntegerSoftmax(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            exponentials=exponentials(lowering.formats[0], self.source, by_cordic=lowering.by_cordic),
            bits=bits,
            maximum=format_.maximum,
        )
        return Lowered(op, format_)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerSoftmax(Op):
    """y = min(round(e(max x - x) * 2**bits / sum of them), maximum).

    Attributes:
        exponentials: e.
        bits: fraction bits of the output.
        maximum: largest output code.
    """

    kind: ClassVar[str] = "softmax"
    exponentials: Exponentials | CordicExponentials
    bits: int
    maximum: int

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return checked_classes(self, shapes[0])

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        x = inputs[0].astype(np.int64)
        e = self.exponentials.of(x.max(axis=-1, keepdims=True) - x)
        return np.minimum(fraction(e, e.sum(axis=-1, keepdims=True), self.bits), self.maximum)


def checked_classes(op: Op, shape: Shape) -> Shape:
    """Return the shape, or raise ModelError if a sum of exponentials over its last axis could leave 31 bits."""
    limit = INT32_MAX >> TABLE_BITS
    if not shape or shape[-1] > limit:
        raise ModelError(op.source, f"normalises over {shape[-1:]} values, at most {limit} work", "use fewer classes")
    return shape
