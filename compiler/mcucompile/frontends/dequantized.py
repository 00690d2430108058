"""Real constants that come from integers: what multiplies the integers stays beside the reals."""

from typing import Any

import numpy as np

from mcucompile.ir import Array
from mcucompile.numerics import Real

# Weights minus their zero point.
_LARGEST = 255


class Dequantized(np.ndarray):
    """Float32 constants that are whole multiples of `steps`, which broadcasts to their shape.

    Transposed and reshaped, they still are; whatever is computed from them is plain real constants, steps None.
    """

    steps: Array | None = None

    @classmethod
    def of(cls, integers: Array, steps: Array) -> "Dequantized":
        """Return integers * steps; zero points are subtracted already."""
        values = np.asarray(integers * steps.astype(np.float64), dtype=np.float32).view(cls)
        values.steps = np.asarray(steps, dtype=np.float64)
        return values

    @property
    def T(self) -> Any:  # noqa: N802 - numpy's name
        """The constants and their steps transposed."""
        return self.transpose()

    def transpose(self, *axes: Any) -> Any:
        """Transpose the constants and their steps."""
        return self._moved(np.asarray(self).transpose(*axes), lambda steps: steps.transpose(*axes))

    def reshape(self, *shape: Any, **options: Any) -> Any:
        """Reshape the constants and their steps."""
        return self._moved(np.asarray(self).reshape(*shape, **options), lambda steps: steps.reshape(*shape, **options))

    def _moved(self, values: Array, move: Any) -> Any:
        moved = values.view(Dequantized)
        moved.steps = None if self.steps is None else move(np.broadcast_to(self.steps, self.shape))
        return moved


def output_steps(weight: Array) -> Real | None:
    """Return (n_out,) the steps of weights (n_out, ...), None if they are no whole multiples of such."""
    if not isinstance(weight, Dequantized) or weight.steps is None:
        return None
    rows = np.broadcast_to(weight.steps, weight.shape).reshape(len(weight), -1)
    steps = rows[:, 0]
    is_alike = bool((rows == steps[:, None]).all())
    integers = np.asarray(weight).reshape(rows.shape) / steps[:, None]
    return np.array(steps) if is_alike and np.abs(integers).max(initial=0.0) < _LARGEST + 0.5 else None
