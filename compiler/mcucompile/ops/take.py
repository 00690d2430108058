"""Elements chosen by position on every axis: slices, paddings, repetitions, gathers, nearest-neighbour resizing."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mcucompile.errors import ModelError, QuantizationError
from mcucompile.ir import Array, Format, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp

# In `indices`: not from the input.
FILL = -1
# Who fills with more than this many times what a format holds means infinity.
_INFINITE = 1000


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Take(RealOp):
    """y[i, j, ...] = x[indices[0][i], indices[1][j], ...], `fill` where an index is FILL.

    The same operator serves reals and integers.

    Attributes:
        indices: for each axis of x, the positions in it that y has.
        fill: a real, or a code.
    """

    kind: ClassVar[str] = "take"
    keeps_format: ClassVar[bool] = True
    indices: tuple[tuple[int, ...], ...]
    fill: float = 0.0

    @property
    def fills(self) -> bool:
        """Whether `fill` is used."""
        return any(min(index) == FILL for index in self.indices)

    def output_shape(self, *shapes: Shape) -> Shape:
        """As many elements on each axis as it has indices."""
        if len(self.indices) != len(shapes[0]):
            raise ModelError(self.source, f"chooses on {len(self.indices)} axes of {shapes[0]}", "re-export the model")
        for axis, (index, length) in enumerate(zip(self.indices, shapes[0], strict=True)):
            if index and not (min(index) >= FILL and max(index) < length):
                raise ModelError(
                    self.source,
                    f"chooses elements {min(index)} to {max(index)} on axis {axis} of {shapes[0]}",
                    "re-export the model",
                )
        return tuple(len(index) for index in self.indices)

    def run(self, *inputs: Array) -> Array:
        """Choose in the input's type."""
        y = inputs[0]
        fill = int(np.clip(self.fill, *_limits(y))) if y.dtype.kind in "iu" else self.fill
        for axis, index in enumerate(self.indices):
            if index == tuple(range(y.shape[axis + 1])):
                continue
            chosen = np.array(index)
            y = np.take(y, np.maximum(chosen, 0), axis=axis + 1)
            y[(slice(None),) * (axis + 1) + (chosen == FILL,)] = fill
        return y

    def permuted(self, permutation: tuple[int, ...]) -> "Take":
        """Each axis keeps its indices."""
        inverse = np.argsort(permutation)
        return replace(self, indices=tuple(self.indices[axis] for axis in inverse))

    def lower(self, lowering: Lowering) -> Lowered:
        """Keep the format, in which the fill becomes a code; an infinite fill saturates."""
        source = lowering.formats[0]
        if self.fills:
            self._check_fill(source)
        return Lowered(replace(self, fill=int(source.quantize(np.array(self.fill)))), source)

    def _check_fill(self, format_: Format) -> None:
        low, high = (float(format_.dequantize(np.array(code))) for code in (format_.minimum, format_.maximum))
        slack = format_.scale / 2
        if low - slack <= self.fill <= high + slack or abs(self.fill) > _INFINITE * max(-low, high):
            return
        raise QuantizationError(
            self.source,
            f"fills with {self.fill:.4g}, its input ranges over {low:.4g}..{high:.4g}",
            "fill with a value of the input's range, or give samples that have it",
        )


def _limits(x: Array) -> tuple[int, int]:
    limits = np.iinfo(x.dtype)
    return limits.min, limits.max
