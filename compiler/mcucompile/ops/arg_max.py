"""Index of the largest or smallest value on the last axis, the first or last one of equals."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.ir import Array, Format, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ArgMax(RealOp):
    """y = index of the maximum. Codes are ordered as their reals: one operator serves both.

    Attributes:
        keep_axis: the last axis stays, one long.
        smallest: of the minimum instead.
        last: of equal values the last one, else the first.
    """

    kind: ClassVar[str] = "arg_max"
    keeps_format: ClassVar[bool] = True
    keep_axis: bool
    smallest: bool = False
    last: bool = False

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape without its last axis, or with it one long."""
        if not shapes[0] or shapes[0][-1] == 0:
            raise ModelError(self.source, f"looks for a maximum in {shapes[0]}", "give ArgMax at least one value")
        return (*shapes[0][:-1], 1) if self.keep_axis else shapes[0][:-1]

    def run(self, *inputs: Array) -> Array:
        """Return int64 indices."""
        x = inputs[0][..., ::-1] if self.last else inputs[0]
        found = np.argmin(x, axis=-1) if self.smallest else np.argmax(x, axis=-1)
        index: Array = x.shape[-1] - 1 - found if self.last else found
        return index[..., None] if self.keep_axis else index

    def lower(self, lowering: Lowering) -> Lowered:  # noqa: ARG002 - an index needs nothing from the samples
        """Keep the operator; the output is a plain int32 index."""
        return Lowered(self, Format(32, True))
