"""Clamp to constants that no layer could take in: y = min(max(x, low), high)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.ir import Array, Op, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Clip(RealOp):
    """y = min(max(x, low), high), real; passes/fuse_clip.py gives a rectifier with a ceiling to the layer before.

    Attributes:
        low, high: may be infinite; low above high gives high.
    """

    kind: ClassVar[str] = "clip"
    keeps_format: ClassVar[bool] = True
    low: float = -math.inf
    high: float = math.inf

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return shapes[0]

    def run(self, *inputs: Array) -> Array:
        """Compute in float32."""
        return np.minimum(np.maximum(inputs[0], np.float32(self.low)), np.float32(self.high))

    def permuted(self, _permutation: tuple[int, ...]) -> "Clip":
        """The same operator."""
        return self

    def lower(self, lowering: Lowering) -> Lowered:
        """Keep the format: the limits become codes, rounded to nearest."""
        source = lowering.formats[0]
        low, high = (int(code) for code in source.quantize(np.array([self.low, self.high])))
        op = IntegerClip(
            name=self.name, inputs=self.inputs, output=self.output, source=self.source, minimum=low, maximum=high
        )
        return Lowered(op, source)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerClip(Op):
    """y = min(max(x, minimum), maximum), same format."""

    kind: ClassVar[str] = "clip"
    is_elementwise: ClassVar[bool] = True
    minimum: int
    maximum: int

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return shapes[0]

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        return np.minimum(np.maximum(inputs[0], self.minimum), self.maximum)
