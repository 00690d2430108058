"""Largest value under each window of an image (n, h, w, c)."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mcucompile.ir import Array, Op, RowAccess, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp
from mcucompile.ops.window import Window, images, require_taps


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MaxPool(RealOp):
    """x: (n, h, w, c) -> y: (n, rows, columns, c). Codes are ordered as their reals: one operator serves both.

    Attributes:
        window: geometry; padding never wins, every window sees at least one value.
        lowest: what padding counts as: no value of x is smaller.
    """

    kind: ClassVar[str] = "max_pool"
    keeps_format: ClassVar[bool] = True
    window: Window
    lowest: float = -np.inf

    def output_shape(self, *shapes: Shape) -> Shape:
        """(n, rows, columns, c)."""
        return pooled_shape(self, shapes[0], self.window)

    def row_access(self, *shapes: Shape) -> RowAccess | None:
        """One image: a window's rows."""
        return self.window.row_access(self, shapes[0][1], shapes[0][2]) if shapes[0][0] == 1 else None

    def run(self, *inputs: Array) -> Array:
        """Compute in the input's type."""
        x = inputs[0]
        _, rows, columns, _ = self.output_shape(x.shape[1:])
        flat = x.reshape(-1, *x.shape[2:])
        lowest = self.lowest if x.dtype.kind == "f" else max(self.lowest, np.iinfo(x.dtype).min)
        taps = self.window.taps_of(flat, (rows, columns), lowest)
        y = next(taps).copy()
        for tap in taps:
            np.maximum(y, tap, out=y)
        return y.reshape(*x.shape[:2], rows, columns, x.shape[-1])

    def lower(self, lowering: Lowering) -> Lowered:
        """Keep the format."""
        source = lowering.formats[0]
        return Lowered(replace(self, lowest=source.minimum), source)


def pooled_shape(op: Op, shape: Shape, window: Window) -> Shape:
    """Return (n, rows, columns, c), or raise ModelError if a window sees nothing but padding."""
    n, h, w, c = images(op, shape)
    rows, columns = window.output_size(op, h, w)
    require_taps(op, window, (h, w), (rows, columns))
    return n, rows, columns, c
