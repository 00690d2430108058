"""Nearest-neighbour resizing: which input element each output element is.

Source: onnx.ai/onnx/operators/onnx__Resize.html.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mcucompile.frontends.refusals import RefusalError
from mcucompile.numerics import Int, Real
from mcucompile.ops.take import FILL

# A coordinate that float arithmetic puts this near to a half or a whole number is meant to be one.
_EXACT = 1e-5


@dataclass(frozen=True, slots=True)
class Resizing:
    """How one axis is resized.

    Attributes:
        length, resized: elements of the input and of the output.
        scale: output elements per input element, as the model gives it.
        region: the part of the input that tf_crop_and_resize resizes, in shares of it.
    """

    length: int
    resized: int
    scale: float
    region: tuple[float, float] = (0.0, 1.0)


def _align_corners(o: Real, axis: Resizing) -> Real:
    return o * (axis.length - 1) / (axis.resized - 1) if axis.resized > 1 else 0 * o


def _symmetric(o: Real, axis: Resizing) -> Real:
    offset = axis.length / 2 * (1 - axis.resized / (axis.scale * axis.length))
    return offset + (o + 0.5) / axis.scale - 0.5


def _crop(o: Real, axis: Resizing) -> Real:
    start, end = axis.region
    last = axis.length - 1
    if axis.resized == 1:
        return 0 * o + 0.5 * (start + end) * last
    return start * last + o * (end - start) * last / (axis.resized - 1)


_COORDINATES: Mapping[str, Callable[[Real, Resizing], Real]] = {
    "half_pixel": lambda o, axis: (o + 0.5) / axis.scale - 0.5,
    "half_pixel_symmetric": _symmetric,
    "pytorch_half_pixel": lambda o, axis: (o + 0.5) / axis.scale - 0.5 if axis.resized > 1 else 0 * o,
    "align_corners": _align_corners,
    "asymmetric": lambda o, axis: o / axis.scale,
    "tf_half_pixel_for_nn": lambda o, axis: (o + 0.5) / axis.scale,
    "tf_crop_and_resize": _crop,
}
_ROUNDINGS: Mapping[str, Callable[[Real], Real]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def nearest(axis: Resizing, coordinates: str, rounding: str) -> list[int]:
    """Return the input position of every output element, FILL where a cropped region lies outside of the input."""
    if coordinates not in _COORDINATES:
        raise RefusalError(f"has coordinates '{coordinates}'", f"use {', '.join(_COORDINATES)}")
    if rounding not in _ROUNDINGS:
        raise RefusalError(f"rounds by '{rounding}'", f"use {', '.join(_ROUNDINGS)}")
    exact = _COORDINATES[coordinates](np.arange(axis.resized, dtype=np.float64), axis)
    halves = np.round(2 * exact) / 2
    exact = np.where(np.abs(exact - halves) < _EXACT, halves, exact)
    chosen: Int = np.clip(_ROUNDINGS[rounding](exact), 0, axis.length - 1).astype(np.int64)
    if coordinates == "tf_crop_and_resize":
        chosen = np.where((exact < 0) | (exact > axis.length - 1), FILL, chosen)
    return [int(i) for i in chosen]


def resized_by(lengths: Sequence[int], scales: Sequence[float]) -> list[int]:
    """Return the output sizes for scales, which must be finite."""
    if not all(math.isfinite(length * scale) for length, scale in zip(lengths, scales, strict=False)):
        raise RefusalError(f"resizes by {list(scales)}", "use finite scales")
    return [math.floor(length * scale + _EXACT) for length, scale in zip(lengths, scales, strict=False)]
