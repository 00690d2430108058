"""Pooling and reductions as both front-ends' operators mean them: images are (n, channels, *spatial)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends.builder import Activation, Builder, Kind
from mcucompile.frontends.convolution import Slide, as_image, as_planes, window_of
from mcucompile.frontends.movement import concat, slices
from mcucompile.frontends.refusals import RefusalError
from mcucompile.ir import Shape
from mcucompile.ops import Add, AveragePool, Lookup, MaxPool, Multiply, Reduce
from mcucompile.ops.formula import Step, applied
from mcucompile.ops.reduce import EXTREMES

# Of all windows along one axis together: a few bytes of a hostile file can ask for any number.
_MAX_TAPS = 1 << 20


def max_pool(builder: Builder, x: Activation, kernel: Sequence[int], slide: Slide, *, ceil: bool) -> Activation:
    """Largest value of each window; padding never wins.

    Args:
        builder: gets the operators.
        x: (n, c, *spatial), one or two spatial axes.
        kernel: sizes of the window.
        slide: how it slides.
        ceil: a last window that begins inside of image and padding may reach beyond them.
    """
    _require_values(builder, x)
    spatial = _spatial(builder, x, kernel)
    used = _widened(spatial, kernel, slide) if ceil else slide
    window = window_of(kernel, used)
    _require_few(spatial, kernel, used)
    y = builder.emit(MaxPool, (as_image(builder, x),), window=window)
    return as_planes(builder, replace(y, kind=x.kind), len(spatial))


def average_pool(
    builder: Builder, x: Activation, kernel: Sequence[int], slide: Slide, *, ceil: bool, count_padding: bool
) -> Activation:
    """Mean of each window; arguments as of `max_pool`.

    count_padding: the padding of `slide` takes part as zeros; what `ceil` adds to it never does.
    """
    builder.require_real(x)
    spatial = _spatial(builder, x, kernel)
    used = _widened(spatial, kernel, slide) if ceil else slide
    window = window_of(kernel, used)
    _require_few(spatial, kernel, used)
    counts = []
    for i, (extent, size) in enumerate(zip(spatial, kernel, strict=True)):
        low = slide.before[i] if not count_padding else 0
        high = slide.before[i] + extent + (slide.after[i] if count_padding else 0)
        starts = range(0, _outputs(extent, size, used, i) * slide.strides[i], slide.strides[i])
        reach = size * slide.dilations[i]
        counts.append(
            tuple(sum(low <= tap < high for tap in range(start, start + reach, slide.dilations[i])) for start in starts)
        )
    rows, columns = counts if len(counts) == 2 else ((1,), counts[0])
    y = builder.emit(AveragePool, (as_image(builder, x),), window=window, counts=(rows, columns))
    return as_planes(builder, y, len(spatial))


def reduce(builder: Builder, x: Activation, axes: Iterable[int], function: str, *, keep: bool) -> Activation:
    """Reduce some axes, counted from the front, to one value; `function` as of Reduce.

    keep: the axes stay, one long.
    """
    if function in EXTREMES:
        _require_values(builder, x)
    else:
        builder.require_real(x)
    reduced = set(axes)
    shape, kept = (_reduced(x.shape, reduced, keep=stays) for stays in (False, keep))
    count = math.prod(x.shape[axis] for axis in reduced)
    if count == 1 and function != "magnitudes":
        return builder.reshape(x, kept)
    lanes = _lanes(builder, x, reduced)
    y = builder.reshape(replace(builder.emit(Reduce, (lanes,), function=function), kind=x.kind), shape)
    return builder.reshape(y, kept)


def lp_pool(builder: Builder, x: Activation, kernel: Sequence[int], slide: Slide, p: int, *, ceil: bool) -> Activation:
    """Return the p-norm of each window, from its mean; arguments as of `max_pool`."""
    powers = _power(builder, x, p)
    mean = average_pool(builder, powers, kernel, slide, ceil=ceil, count_padding=True)
    # Padding is counted, so that every window has as many elements.
    total = builder.affine(mean, np.array(float(math.prod(kernel))), np.zeros(()))
    return _root(builder, total, p)


def norm(builder: Builder, x: Activation, axes: Iterable[int], p: int, *, keep: bool) -> Activation:
    """Return the p-norm over some axes; arguments as of `reduce`."""
    return _root(builder, reduce(builder, _power(builder, x, p), axes, "sum", keep=keep), p)


def square_sum(builder: Builder, x: Activation, axes: Iterable[int], *, keep: bool) -> Activation:
    """Return the sum of the squares over some axes; arguments as of `reduce`."""
    return reduce(builder, _power(builder, x, 2), axes, "sum", keep=keep)


def log_sum(builder: Builder, x: Activation, axes: Iterable[int], *, keep: bool) -> Activation:
    """Return the logarithm of the sum over some axes; arguments as of `reduce`."""
    return builder.emit(Lookup, (reduce(builder, x, axes, "sum", keep=keep),), formula=applied("log"))


def log_sum_exp(builder: Builder, x: Activation, axes: Iterable[int], *, keep: bool) -> Activation:
    """Return log(sum(exp(x))) over some axes as max(x) - max(log_softmax(x)); arguments as of `reduce`."""
    builder.require_real(x)
    shape = _reduced(x.shape, axes, keep=keep)
    lanes = _lanes(builder, x, set(axes))
    shares = builder.softmax(lanes, 1, logarithm=True)
    largest, share = (reduce(builder, values, (1,), "max", keep=False) for values in (lanes, shares))
    return builder.reshape(builder.pair(Add, largest, share, subtracts=True), shape)


def product(builder: Builder, x: Activation, axes: Iterable[int], *, keep: bool) -> Activation:
    """Return the product over some axes, one half times the other until one is left; arguments as of `reduce`."""
    builder.require_real(x)
    shape = _reduced(x.shape, axes, keep=keep)
    y = _lanes(builder, x, set(axes))
    while (count := y.shape[1]) > 1:
        half = count // 2
        low, high = (slices(builder, y, {1: part}) for part in (slice(half), slice(half, 2 * half)))
        pairs = builder.pair(Multiply, low, high)
        y = concat(builder, [pairs, slices(builder, y, {1: slice(2 * half, None)})], 1) if count % 2 else pairs
    return builder.reshape(y, shape)


def _power(builder: Builder, x: Activation, p: int) -> Activation:
    builder.require_real(x)
    if p < 1:
        raise RefusalError(f"takes the norm with p={p}", "use a positive p")
    magnitude = applied("abs")
    formula = magnitude if p == 1 else (*magnitude, Step("power", (float(p),)))
    return builder.emit(Lookup, (x,), part="_power", formula=formula)


def _root(builder: Builder, x: Activation, p: int) -> Activation:
    formula = applied("sqrt") if p == 2 else applied("power", 1 / p)
    return x if p == 1 else builder.emit(Lookup, (x,), part="_root", formula=formula)


def _reduced(shape: Shape, axes: Iterable[int], *, keep: bool) -> Shape:
    reduced = set(axes)
    if keep:
        return tuple(1 if axis in reduced else n for axis, n in enumerate(shape))
    return tuple(n for axis, n in enumerate(shape) if axis not in reduced)


def global_pool(builder: Builder, x: Activation, function: str) -> Activation:
    """Reduce all spatial axes of (n, c, *spatial), kept one long."""
    if len(x.shape) < 3:
        raise ModelError(builder.source, f"pools {x.shape}", "give it images: (n, channels, *spatial)")
    return reduce(builder, x, range(2, len(x.shape)), function, keep=True)


def _lanes(builder: Builder, x: Activation, reduced: set[int]) -> Activation:
    """Return x as (outer, n, inner), n the reduced axes."""
    rank = len(x.shape)
    if rank in (3, 4) and reduced == set(range(2, rank)) and x.shape[1] > 1:
        # Channels last, as the convolutions before it: their transposition and this one cancel.
        image = as_image(builder, x)
        return builder.reshape(image, (x.shape[0], math.prod(x.shape[2:]), x.shape[1]))
    long = [axis for axis in range(rank) if x.shape[axis] > 1]
    places = [i for i, axis in enumerate(long) if axis in reduced]
    if places and places[-1] - places[0] != len(places) - 1:
        x = builder.transpose(x, [*(a for a in range(rank) if a not in reduced), *sorted(reduced)])
        count = math.prod(x.shape[rank - len(reduced) :])
        return builder.reshape(x, (math.prod(x.shape) // count, count, 1))
    first, last = (long[places[0]], long[places[-1]]) if places else (rank, rank)
    ends = (math.prod(x.shape[:first]), math.prod(x.shape[last + 1 :]))
    return builder.reshape(x, (ends[0], math.prod(x.shape) // math.prod(ends), ends[1]))


def _spatial(builder: Builder, x: Activation, kernel: Sequence[int]) -> tuple[int, ...]:
    """Return the sizes of the spatial axes, which the kernel must have, too."""
    spatial = x.shape[2:]
    if len(spatial) != len(kernel) or not spatial:
        raise ModelError(builder.source, f"slides a window of {list(kernel)} over {x.shape}", "export the model again")
    if len(spatial) > 2:
        raise RefusalError(f"pools {len(spatial)} spatial axes", "use one or two")
    return spatial


def _require_few(spatial: Sequence[int], kernel: Sequence[int], slide: Slide) -> None:
    for i, (extent, size) in enumerate(zip(spatial, kernel, strict=True)):
        if max(_outputs(extent, size, slide, i), 1) * size > _MAX_TAPS:
            raise RefusalError(
                f"slides a window of {size} over {extent} with {slide.before[i]} and {slide.after[i]} of padding",
                "use a smaller window or less padding",
            )


def _outputs(extent: int, size: int, slide: Slide, axis: int) -> int:
    room = extent + slide.before[axis] + slide.after[axis] - (size - 1) * slide.dilations[axis] - 1
    return room // slide.strides[axis] + 1


def _widened(spatial: Sequence[int], kernel: Sequence[int], slide: Slide) -> Slide:
    """Return the slide with the padding after that gives ceil_mode's windows.

    A window that would begin in the padding after the image is left out.
    Source: onnx.ai/onnx/operators/onnx__MaxPool.html, output_shape with ceil_mode.
    """
    after = []
    for i, (extent, size) in enumerate(zip(spatial, kernel, strict=True)):
        reach = (size - 1) * slide.dilations[i] + 1
        room = extent + slide.before[i] + slide.after[i] - reach
        last = -(-room // slide.strides[i]) * slide.strides[i]
        if last >= extent + slide.before[i]:
            last -= slide.strides[i]
        after.append(max(last + reach - extent - slide.before[i], 0))
    return replace(slide, after=tuple(after))


def _require_values(builder: Builder, x: Activation) -> None:
    """Refuse indices; integers are ordered as reals are."""
    if x.kind is Kind.INDEX:
        builder.require_real(x)
