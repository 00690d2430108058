"""Another order of the axes, copied element by element."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.ir import Array, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Transpose(RealOp):
    """Axis i of the output is axis permutation[i] of the input. The same operator serves reals and integers."""

    kind: ClassVar[str] = "transpose"
    keeps_format: ClassVar[bool] = True
    permutation: tuple[int, ...]

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape, permuted."""
        if sorted(self.permutation) != list(range(len(shapes[0]))):
            raise ModelError(self.source, f"permutes {shapes[0]} by {self.permutation}", "use each axis once in 'perm'")
        return tuple(shapes[0][axis] for axis in self.permutation)

    def run(self, *inputs: Array) -> Array:
        """Permute the axes of each sample."""
        return np.transpose(inputs[0], (0, *(axis + 1 for axis in self.permutation)))

    def lower(self, lowering: Lowering) -> Lowered:
        """Keep the operator and the format."""
        return Lowered(self, lowering.formats[0])
