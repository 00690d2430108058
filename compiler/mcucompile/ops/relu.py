"""Rectifier that no layer could take in: y = max(x, 0)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.ir import Array, Format, Op, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Relu(RealOp):
    """y = max(x, 0), real; passes/fuse_relu.py gives most of them to the layer before."""

    kind: ClassVar[str] = "relu"
    keeps_format: ClassVar[bool] = True

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return shapes[0]

    def run(self, *inputs: Array) -> Array:
        """Compute in the input's type."""
        return np.maximum(inputs[0], 0)

    def permuted(self, _permutation: tuple[int, ...]) -> "Relu":
        """The same operator."""
        return self

    def lower(self, lowering: Lowering) -> Lowered:
        """Keep the format: codes below the zero point become the zero point."""
        source = lowering.formats[0]
        op = IntegerRelu(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            zero_point=source.zero_point,
        )
        return Lowered(op, Format(source.bits, source.signed, source.scale, source.zero_point))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerRelu(Op):
    """y = max(x, zero_point), same format."""

    kind: ClassVar[str] = "relu"
    is_elementwise: ClassVar[bool] = True
    zero_point: int

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return shapes[0]

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        return np.maximum(inputs[0], self.zero_point)
