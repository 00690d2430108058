"""Which elements of an image a constant grid or constant blocks take, and by what weight.

Sources: onnx.ai/onnx/operators/onnx__GridSample.html, onnx.ai/onnx/operators/onnx__Col2Im.html.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mcucompile.frontends.convolution import Slide
from mcucompile.frontends.refusals import RefusalError
from mcucompile.frontends.resizing import KERNELS
from mcucompile.ir import Shape
from mcucompile.numerics import Real

# GridSample's, after Keys.
_CUBIC = -0.75


def grid_weights(grid: Real, spatial: Shape, mode: str, padding: str, *, align_corners: bool) -> Real:
    """Return the weight of every input element in every output element, (n, points, elements).

    Args:
        grid: (n, *points, axes), positions in -1..1, the last spatial axis first.
        spatial: sizes of the input.
        mode: "nearest", "linear" or "cubic".
        padding: what lies outside: "zeros", "border" (the edge) or "reflection".
        align_corners: -1 and 1 are the centres of the first and last element, else their outer edges.
    """
    if padding not in _OUTSIDE:
        raise RefusalError(f"pads by '{padding}'", f"use {', '.join(_OUTSIDE)}")
    n, points = len(grid), math.prod(grid.shape[1:-1])
    flat = grid.reshape(n, points, len(spatial))[:, :, ::-1].astype(np.float64)
    weights, places = np.ones((n, points, 1)), np.zeros((n, points, 1), dtype=np.int64)
    for axis, length in enumerate(spatial):
        share = (flat[:, :, axis] + 1) / 2
        exact = share * (length - 1) if align_corners else share * length - 0.5
        low, high = (0.0, length - 1.0) if align_corners else (-0.5, length - 0.5)
        if mode != "cubic":
            exact = _OUTSIDE[padding](exact, low, high, length)
        taps, share = _taps(exact, mode)
        inner = _OUTSIDE[padding](taps, low, high, length)
        share = np.where((inner >= 0) & (inner <= length - 1), share, 0.0)
        index = np.clip(inner, 0, length - 1).astype(np.int64)
        weights = (weights[..., None] * share[:, :, None, :]).reshape(n, points, -1)
        places = (places[..., None] * length + index[:, :, None, :]).reshape(n, points, -1)
    matrix = np.zeros((n, points, math.prod(spatial)))
    sample, point = np.indices((n, points))
    np.add.at(matrix, (sample[..., None], point[..., None], places), weights)
    return matrix


def _taps(exact: Real, mode: str) -> tuple[Real, Real]:
    """Return the positions around each coordinate and their weights, (n, points, taps)."""
    if mode == "nearest":
        return np.asarray(np.rint(exact)[..., None]), np.ones((*exact.shape, 1))
    if mode not in KERNELS:
        raise RefusalError(f"interpolates by '{mode}'", f"use nearest, {' or '.join(KERNELS)}")
    kernel, reach = KERNELS[mode]
    taps: Real = np.floor(exact)[..., None] + np.arange(1 - reach, reach + 1)
    return taps, kernel(taps - exact[..., None], _CUBIC)


def _reflected(x: Real, low: float, high: float, _length: int) -> Real:
    span = high - low
    if span == 0:
        return np.zeros_like(x)
    folded = (x - low) % (2 * span)
    return low + np.minimum(folded, 2 * span - folded)


_OUTSIDE: Mapping[str, Callable[[Real, float, float, int], Real]] = {
    "zeros": lambda x, _low, _high, _length: x,
    "border": lambda x, _low, _high, length: np.clip(x, 0, length - 1),
    "reflection": _reflected,
}


def column_weights(image: Sequence[int], block: Sequence[int], slide: Slide) -> Real:
    """Return which elements of columns each pixel of an image is the sum of, (pixels, block elements * blocks)."""
    place, is_inside = np.zeros((1, 1), dtype=np.int64), np.ones((1, 1), dtype=bool)
    for axis, length in enumerate(image):
        reach = (block[axis] - 1) * slide.dilations[axis] + 1
        blocks = (length + slide.before[axis] + slide.after[axis] - reach) // slide.strides[axis] + 1
        taps = np.arange(block[axis]) * slide.dilations[axis]
        position = taps[:, None] + np.arange(blocks) * slide.strides[axis] - slide.before[axis]
        inside = (position >= 0) & (position < length)
        place = (place[:, None, :, None] * length + position[:, None, :]).reshape(len(place) * len(taps), -1)
        is_inside = (is_inside[:, None, :, None] & inside[:, None, :]).reshape(place.shape)
    matrix = np.zeros((math.prod(image), place.size))
    columns = np.arange(place.size)[is_inside.reshape(-1)]
    matrix[place.reshape(-1)[columns], columns] = 1.0
    return matrix
