"""Another shape over the same elements in the same order: no code, no memory."""

import math
from dataclasses import dataclass
from typing import ClassVar

from mcucompile.errors import ModelError
from mcucompile.ir import Array, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reshape(RealOp):
    """y = x under `shape`. The same operator serves reals and integers."""

    kind: ClassVar[str] = "reshape"
    keeps_format: ClassVar[bool] = True
    is_view: ClassVar[bool] = True
    shape: Shape

    def output_shape(self, *shapes: Shape) -> Shape:
        """The new shape, if it holds as many elements."""
        if math.prod(shapes[0]) != math.prod(self.shape):
            raise ModelError(self.source, f"cannot give {shapes[0]} the shape {self.shape}", "re-export the model")
        return self.shape

    def run(self, *inputs: Array) -> Array:
        """Reshape each sample."""
        return inputs[0].reshape(len(inputs[0]), *self.shape)

    def lower(self, lowering: Lowering) -> Lowered:
        """Keep the operator and the format."""
        return Lowered(self, lowering.formats[0])
