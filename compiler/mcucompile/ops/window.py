"""Windows that slide over images (n, h, w, c): their geometry, and the values under them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.ir import Array, Op, RowAccess, Shape

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """A window over rows and columns; every pair is (rows, columns).

    Attributes:
        size: taps.
        strides: steps between outputs.
        dilations: steps between taps.
        before, after: padding above and left, below and right.
    """

    size: Pair
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    before: Pair = (0, 0)
    after: Pair = (0, 0)

    @property
    def taps(self) -> int:
        """Positions in the window."""
        return self.size[0] * self.size[1]

    @property
    def is_pointwise(self) -> bool:
        """Whether every output sees one pixel and none is padding."""
        return self.size == (1, 1) and self.before == (0, 0) and self.after == (0, 0)

    def output_size(self, op: Op, height: int, width: int) -> Pair:
        """Return rows and columns of the output, or raise ModelError if the window does not fit."""
        sizes = []
        for axis, extent in enumerate((height, width)):
            reach = (self.size[axis] - 1) * self.dilations[axis] + 1
            room = extent + self.before[axis] + self.after[axis] - reach
            if room < 0:
                raise ModelError(
                    op.source, f"slides a window of {reach} over {extent} with padding", "use a smaller kernel"
                )
            sizes.append(room // self.strides[axis] + 1)
        return sizes[0], sizes[1]

    def row_access(self, op: Op, height: int, width: int) -> RowAccess:
        """Return which rows of one image each row of the output needs."""
        rows, _ = self.output_size(op, height, width)
        return RowAccess(rows, height, self.strides[0], self.before[0], (self.size[0] - 1) * self.dilations[0])

    def positions(self, axis: int, outputs: int) -> Array:
        """Return (outputs, size) positions of taps in the padded image along rows (0) or columns (1)."""
        return (
            np.arange(outputs)[:, None] * self.strides[axis]
            + np.arange(self.size[axis])[None, :] * self.dilations[axis]
        )

    def patches(self, x: Array, outputs: Pair, fill: int) -> Array:
        """Return what each window sees: x (m, h, w, c) -> (m, rows, columns, *size, c); padding is `fill`."""
        rows, columns = self.positions(0, outputs[0]), self.positions(1, outputs[1])
        # Padding after may reach farther than the last window; nothing reads it.
        below = max(int(rows.max()) + 1 - self.before[0] - x.shape[1], 0)
        right = max(int(columns.max()) + 1 - self.before[1] - x.shape[2], 0)
        padded = np.pad(x, ((0, 0), (self.before[0], below), (self.before[1], right), (0, 0)), constant_values=fill)
        return np.asarray(padded[:, rows[:, None, :, None], columns[None, :, None, :]])

    def taps_of(self, x: Array, outputs: Pair, fill: float) -> Iterator[Array]:
        """Yield what each tap sees, tap by tap in row order: x (m, h, w, c) -> (m, rows, columns, c)."""
        ends = [
            (outputs[axis] - 1) * self.strides[axis] + (self.size[axis] - 1) * self.dilations[axis] + 1
            for axis in (0, 1)
        ]
        after = [max(ends[axis] - self.before[axis] - x.shape[axis + 1], 0) for axis in (0, 1)]
        if any((*self.before, *after)):
            margins = [(before, end) for before, end in zip(self.before, after, strict=True)]
            x = np.pad(x, ((0, 0), *margins, (0, 0)), constant_values=fill)
        for row in range(self.size[0]):
            top = row * self.dilations[0]
            rows = slice(top, top + (outputs[0] - 1) * self.strides[0] + 1, self.strides[0])
            for column in range(self.size[1]):
                left = column * self.dilations[1]
                columns = slice(left, left + (outputs[1] - 1) * self.strides[1] + 1, self.strides[1])
                yield x[:, rows, columns]


def require_taps(op: Op, window: Window, image: Pair, outputs: Pair) -> None:
    """Raise ModelError if a window sees nothing but padding."""
    for axis, extent in enumerate(image):
        positions = window.positions(axis, outputs[axis]) - window.before[axis]
        if not ((positions >= 0) & (positions < extent)).any(axis=1).all():
            raise ModelError(op.source, f"has a window that sees only the padding of {image}", "use less padding")


def images(op: Op, shape: Shape) -> tuple[int, int, int, int]:
    """Return a shape as (n, h, w, c), or raise ModelError."""
    if len(shape) != 4:
        raise ModelError(op.source, f"needs images (n, h, w, c), its input is {shape}", "re-export the model")
    return shape[0], shape[1], shape[2], shape[3]
