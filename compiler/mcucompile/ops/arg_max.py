"""Index of the largest value on the last axis, the first one of equals."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.ir import Array, Format, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ArgMax(RealOp):
    """y = first index of the maximum. Codes are ordered as their reals: one operator serves both.

    Attributes:
        keep_axis: the last axis stays, one long.
    """

    kind: ClassVar[str] = "arg_max"
    keep_axis: bool

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape without its last axis, or with it one long."""
        if not shapes[0] or shapes[0][-1] == 0:
            raise ModelError(self.source, f"looks for a maximum in {shapes[0]}", "give ArgMax at least one value")
        return (*shapes[0][:-1], 1) if self.keep_axis else shapes[0][:-1]

    def run(self, *inputs: Array) -> Array:
        """Return int64 indices."""
        index: Array = np.argmax(inputs[0], axis=-1)
        return index[..., None] if self.keep_axis else index

    def lower(self, lowering: Lowering) -> Lowered:  # noqa: ARG002 - an index needs nothing from the samples
        """Keep the operator; the output is a plain int32 index."""
        return Lowered(self, Format(32, True))
