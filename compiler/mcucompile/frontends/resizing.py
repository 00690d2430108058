"""Resizing: which input elements each output element is made of.

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


@dataclass(frozen=True, slots=True)
class Interpolation:
    """How elements between those of the input are made.

    Attributes:
        mode: "linear" or "cubic".
        coordinates: of Resize, coordinate_transformation_mode.
        cubic: the coefficient of the cubic convolution.
        excludes_outside: weights of elements outside of the input are 0, not the edge's.
        antialias: a smaller output is made of all elements that it covers.
    """

    mode: str
    coordinates: str
    cubic: float = -0.75
    excludes_outside: bool = False
    antialias: bool = False


def _linear(distance: Real, _cubic: float) -> Real:
    return np.asarray(np.maximum(1 - np.abs(distance), 0))


def _cubic(distance: Real, a: float) -> Real:
    """Keys' cubic convolution kernel ("Cubic convolution interpolation", 1981, equation 4)."""
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


# Each with how many input elements it reaches to either side.
KERNELS: Mapping[str, tuple[Callable[[Real, float], Real], int]] = {"linear": (_linear, 1), "cubic": (_cubic, 2)}


def interpolation(axis: Resizing, how: Interpolation) -> Real:
    """Return the weight of every input element in every output element, (resized, length).

    Rows of zeros belong to a cropped region outside of the input.
    """
    if how.mode not in KERNELS:
        raise RefusalError(f"interpolates by '{how.mode}'", f"use nearest, {' or '.join(KERNELS)}")
    exact_length = axis.length * axis.scale
    if how.coordinates == "align_corners" and abs(exact_length - axis.resized) > _EXACT * exact_length:
        raise RefusalError(
            f"aligns the corners of {exact_length:g} elements, which ONNX and onnxruntime read differently",
            "give whole sizes",
        )
    kernel, reach = KERNELS[how.mode]
    exact = _coordinates(axis, how.coordinates)
    shrink = min(axis.scale, 1.0) if how.antialias else 1.0
    sides = math.ceil(reach / shrink)
    taps = np.floor(exact)[:, None] + np.arange(1 - sides - how.antialias, sides + 1 + how.antialias)
    weights = kernel((taps - exact[:, None]) * shrink, how.cubic)
    if how.excludes_outside:
        weights = np.where((taps >= 0) & (taps < axis.length), weights, 0.0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((axis.resized, axis.length))
    rows = np.broadcast_to(np.arange(axis.resized)[:, None], taps.shape)
    np.add.at(matrix, (rows, np.clip(taps, 0, axis.length - 1).astype(np.int64)), weights)
    if how.coordinates == "tf_crop_and_resize":
        matrix[(exact < 0) | (exact > axis.length - 1)] = 0.0
    return matrix


def _coordinates(axis: Resizing, coordinates: str) -> Real:
    """Return where in the input every output element lies."""
    if coordinates not in _COORDINATES:
        raise RefusalError(f"has coordinates '{coordinates}'", f"use {', '.join(_COORDINATES)}")
    return _COORDINATES[coordinates](np.arange(axis.resized, dtype=np.float64), axis)


def nearest(axis: Resizing, coordinates: str, rounding: str) -> list[int]:
    """Return the input position of every output element, FILL where a cropped region lies outside of the input."""
    exact = _coordinates(axis, coordinates)
    if rounding not in _ROUNDINGS:
        raise RefusalError(f"rounds by '{rounding}'", f"use {', '.join(_ROUNDINGS)}")
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
