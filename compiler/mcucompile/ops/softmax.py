"""Softmax over the last axis: a table of exp and one restoring division for each output."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.errors import ModelError, QuantizationError
from mcucompile.ir import Array, Format, Op, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp
from mcucompile.numerics import INT32_MAX, Int, fraction

# exp(-scale * d) for d = 0..255 in units of 2**-15: fits uint16, and 65,535 of them fit a uint32 sum.
TABLE_BITS = 15
_TABLE_STEPS = 256


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Softmax(RealOp):
    """y = exp(x - max x) / sum exp(x - max x) over the last axis, real."""

    kind: ClassVar[str] = "softmax"

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return _checked(self, shapes[0])

    def run(self, *inputs: Array) -> Array:
        """Compute in float32."""
        x = inputs[0].astype(np.float32)
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return np.asarray(e / e.sum(axis=-1, keepdims=True), dtype=np.float32)

    def lower(self, lowering: Lowering) -> Lowered:
        """Make the table for the input's scale. A result has steps of 2**-15, another output uint8 of 2**-8."""
        source = lowering.formats[0]
        if source.bits != 8:
            raise QuantizationError(self.source, f"its input is {source}", "give Softmax an 8-bit activation")
        steps = np.arange(_TABLE_STEPS)
        table = np.floor(np.exp(-source.scale * steps) * (1 << TABLE_BITS) + 0.5).astype(np.int64)
        bits = TABLE_BITS if lowering.is_result else 8
        format_ = Format(32, True, 2.0**-bits) if lowering.is_result else Format(8, False, 2.0**-bits)
        op = IntegerSoftmax(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            table=table,
            bits=bits,
            maximum=format_.maximum,
        )
        return Lowered(op, format_)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerSoftmax(Op):
    """y = min(round(table[max x - x] * 2**bits / sum of them), maximum).

    Attributes:
        table: (256,) exp(-scale * d) in units of 2**-15, 0..32768.
        bits: fraction bits of the output.
        maximum: largest output code.
    """

    kind: ClassVar[str] = "softmax"
    table: Int
    bits: int
    maximum: int

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return _checked(self, shapes[0])

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        x = inputs[0].astype(np.int64)
        e = self.table[x.max(axis=-1, keepdims=True) - x]
        return np.minimum(fraction(e, e.sum(axis=-1, keepdims=True), self.bits), self.maximum)


def _checked(op: Op, shape: Shape) -> Shape:
    limit = INT32_MAX >> TABLE_BITS
    if not shape or shape[-1] > limit:
        raise ModelError(op.source, f"normalises over {shape[-1:]} values, at most {limit} work", "use fewer classes")
    return shape
