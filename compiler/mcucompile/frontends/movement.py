"""Copies of elements as both front-ends' operators mean them: slices, paddings, gathers, joins, blocks of pixels."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends.builder import Activation, Builder, Constant, Value
from mcucompile.frontends.convolution import as_image, as_planes
from mcucompile.frontends.refusals import RefusalError, constants_only
from mcucompile.ir import Shape
from mcucompile.ops import Concat, Take
from mcucompile.ops.take import FILL

# What padding with infinity becomes: the real graph stays finite, the integer one saturates.
_HUGE = float(np.finfo(np.float32).max)
# Positions are listed one by one: a few bytes of a hostile file can ask for any number.
MAX_LENGTH = 1 << 20


def take(builder: Builder, x: Activation, indices: Mapping[int, Sequence[int]], fill: float = 0.0) -> Activation:
    """Choose positions on some axes, counted from the front; FILL is a position that holds `fill`.

    Axes that are not given stay as they are; no operator if all do.
    """
    require_lengths(x.shape)
    chosen = tuple(tuple(indices.get(axis, range(length))) for axis, length in enumerate(x.shape))
    if all(index == tuple(range(length)) for index, length in zip(chosen, x.shape, strict=True)):
        return x
    if not all(chosen):
        raise RefusalError("makes an empty output", "leave it out")
    fill = float(np.clip(fill, -_HUGE, _HUGE))
    return replace(builder.emit(Take, (x,), indices=chosen, fill=fill), kind=x.kind)


def require_lengths(lengths: Iterable[float]) -> None:
    """Refuse axes too long to list their positions."""
    longest = max(lengths, default=0)
    if not longest <= MAX_LENGTH:
        raise RefusalError(f"copies along an axis of {longest:,.0f} elements", f"use at most {MAX_LENGTH:,}")


def gather(builder: Builder, x: Activation, indices: Constant, axis: int) -> Activation:
    """numpy.take with constant indices of any shape; negative ones count from the end."""
    length = x.shape[axis]
    if indices.dtype.kind not in "iu":
        raise ModelError(builder.source, f"gathers by {indices.dtype} indices", "use whole numbers")
    flat = [int(i) for i in indices.reshape(-1)]
    if any(not -length <= i < length for i in flat):
        worst = next(i for i in flat if not -length <= i < length)
        raise ModelError(builder.source, f"gathers element {worst} of {length}", "export the model again")
    y = take(builder, x, {axis: [i % length for i in flat]})
    return builder.reshape(y, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def gather_elements(builder: Builder, x: Activation, indices: Constant, axis: int) -> Activation:
    """numpy.take_along_axis with constant indices; negative ones count from the end."""
    positions = places(x)
    length = x.shape[axis]
    try:
        if indices.size and not (indices.min() >= -length and indices.max() < length):
            raise ValueError(f"an index outside of {length} elements")
        region = tuple(slice(None) if i == axis else slice(n) for i, n in enumerate(indices.shape))
        chosen = np.take_along_axis(positions[region], indices % length, axis)
    except (ValueError, IndexError) as error:
        raise ModelError(builder.source, f"gathers from {x.shape}: {error}", "export the model again") from error
    return rearranged(builder, x, chosen)


def places(x: Activation) -> Constant:
    """Return the flat position of every element of x."""
    require_lengths((math.prod(x.shape),))
    return np.arange(math.prod(x.shape)).reshape(x.shape)


def rearranged(builder: Builder, x: Activation, positions: Constant) -> Activation:
    """Return x's elements at flat positions; the output has the shape of `positions`."""
    flat = builder.reshape(x, (math.prod(x.shape),))
    return builder.reshape(take(builder, flat, {0: [int(i) for i in positions.reshape(-1)]}), positions.shape)


def slices(builder: Builder, x: Activation, ranges: Mapping[int, slice]) -> Activation:
    """Slice some axes by Python's rules, negative steps included."""
    if any(part.step == 0 for part in ranges.values()):
        raise ModelError(builder.source, "slices with a step of 0", "export the model again")
    return take(builder, x, {axis: range(x.shape[axis])[part] for axis, part in ranges.items()})


def pad(
    builder: Builder, x: Activation, margins: Mapping[int, tuple[int, int]], mode: str, value: float = 0.0
) -> Activation:
    """Widen axes, counted from the front, before and after; negative margins cut.

    mode: "constant", "edge", "reflect" (the edge is not repeated) or "wrap".
    """
    indices: dict[int, list[int]] = {}
    require_lengths(x.shape[axis] + before + after for axis, (before, after) in margins.items())
    for axis, (before, after) in margins.items():
        n = x.shape[axis]
        positions = np.arange(-before, n + after)
        if mode == "constant":
            chosen = np.where((positions >= 0) & (positions < n), positions, FILL)
        elif mode == "edge":
            chosen = np.clip(positions, 0, n - 1)
        elif mode == "wrap":
            chosen = positions % n
        elif mode == "reflect":
            period = max(2 * (n - 1), 1)
            folded = positions % period
            chosen = np.minimum(folded, period - folded) if n > 1 else np.zeros_like(positions)
        else:
            raise RefusalError(f"pads by the mode '{mode}'", "use constant, edge, reflect or wrap")
        indices[axis] = [int(i) for i in chosen]
    return take(builder, x, indices, value)


def split(builder: Builder, x: Activation, axis: int, sizes: Sequence[int]) -> tuple[Value, ...]:
    """Cut an axis, counted from the front, into parts of the given sizes; an empty one is a constant."""
    if sum(sizes) != x.shape[axis] or min(sizes, default=0) < 0:
        raise ModelError(
            builder.source, f"splits {x.shape[axis]} elements into {list(sizes)}", "export the model again"
        )
    ends = np.cumsum(sizes)
    return tuple(
        take(builder, x, {axis: range(int(end) - size, int(end))})
        if size
        else np.zeros((*x.shape[:axis], 0, *x.shape[axis + 1 :]), dtype=np.float32)
        for size, end in zip(sizes, ends, strict=True)
    )


def expand(builder: Builder, x: Activation, shape: Sequence[int]) -> Activation:
    """Broadcast with a shape by numpy's rules."""
    try:
        wanted = np.broadcast_shapes(x.shape, tuple(shape))
    except ValueError as error:
        raise ModelError(builder.source, f"expands {x.shape} to {list(shape)}", "export the model again") from error
    require_lengths(wanted)
    wide = builder.reshape(x, (1,) * (len(wanted) - len(x.shape)) + x.shape)
    return take(builder, wide, {axis: (0,) * n for axis, n in enumerate(wanted) if wide.shape[axis] == 1 and n != 1})


def tile(builder: Builder, x: Activation, repeats: Sequence[int]) -> Activation:
    """Repeat the whole tensor along each axis."""
    if len(repeats) != len(x.shape) or min(repeats, default=1) < 0:
        raise ModelError(builder.source, f"repeats {x.shape} {list(repeats)} times", "export the model again")
    require_lengths(n * times for n, times in zip(x.shape, repeats, strict=True))
    return take(builder, x, {axis: [*range(x.shape[axis])] * times for axis, times in enumerate(repeats) if times != 1})


def concat(builder: Builder, values: Sequence[Value], axis: int) -> Activation:
    """Join activations and constants along an axis, counted from the front.

    Constants are not stored beside activations: their place is filled with one value, and what differs from
    that is added.
    """
    values = [value for value in values if math.prod(value.shape)]
    activations = [value for value in values if isinstance(value, Activation)]
    if not activations:
        raise constants_only()
    if len({value.kind for value in activations}) > 1 or len(activations) < len(values):
        builder.require_real(*activations)
    builder.require_one_format(activations)
    joined = activations[0]
    if len(activations) > 1:
        joined = replace(builder.emit(Concat, tuple(activations), axis=axis), kind=activations[0].kind)
    if len(activations) == len(values):
        return joined
    return _with_constants(builder, joined, values, axis)


def _with_constants(builder: Builder, joined: Activation, values: Sequence[Value], axis: int) -> Activation:
    shapes = [value.shape for value in values]
    others = {shape[:axis] + shape[axis + 1 :] for shape in shapes if len(shape) == len(joined.shape)}
    if len(others) != 1 or any(len(shape) != len(joined.shape) for shape in shapes):
        listed = ", ".join(map(str, shapes))
        raise ModelError(builder.source, f"joins {listed} along axis {axis}", "give all inputs the same other sizes")
    constants = [np.asarray(value, dtype=np.float64) for value in values if isinstance(value, np.ndarray)]
    content = np.concatenate([value.reshape(-1) for value in constants])
    fill = float(content[0]) if content.size and (content == content[0]).all() else 0.0
    positions: list[int] = []
    offsets = []
    place = 0
    for value in values:
        length = value.shape[axis]
        if isinstance(value, np.ndarray):
            positions += [FILL] * length
            offsets.append(np.asarray(value, dtype=np.float64) - fill)
        else:
            positions += range(place, place + length)
            place += length
            offsets.append(np.zeros(value.shape))
    y = take(builder, joined, {axis: positions}, fill)
    offset = np.concatenate(offsets, axis=axis)
    return builder.affine(y, np.ones(()), offset) if offset.any() else y


def depth_to_space(builder: Builder, x: Activation, block: int, *, depth_first: bool) -> Activation:
    """Turn channels into blocks of pixels: (n, c, h, w) -> (n, c / block^2, h * block, w * block).

    depth_first: the block's row and column are the slowest parts of the channel (ONNX's DCR), else the
    fastest (CRD, torch's pixel_shuffle).
    """
    n, c, h, w = _blocks_of(builder, x, block)
    if c % (block * block):
        raise ModelError(builder.source, f"makes blocks of {block} of {c} channels", "export the model again")
    depth = c // (block * block)
    image = as_image(builder, x)
    parts: Shape = (block, block, depth) if depth_first else (depth, block, block)
    order = (0, 1, 3, 2, 4, 5) if depth_first else (0, 1, 4, 2, 5, 3)
    y = builder.transpose(builder.reshape(image, (n, h, w, *parts)), order)
    return as_planes(builder, builder.reshape(y, (n, h * block, w * block, depth)), 2)


def space_to_depth(builder: Builder, x: Activation, block: int, *, depth_first: bool) -> Activation:
    """Turn blocks of pixels into channels, the inverse of `depth_to_space`."""
    n, c, h, w = _blocks_of(builder, x, block)
    if h % block or w % block:
        raise ModelError(builder.source, f"has blocks of {block} in {h}x{w} pixels", "export the model again")
    image = as_image(builder, x)
    order = (0, 1, 3, 2, 4, 5) if depth_first else (0, 1, 3, 5, 2, 4)
    y = builder.transpose(builder.reshape(image, (n, h // block, block, w // block, block, c)), order)
    return as_planes(builder, builder.reshape(y, (n, h // block, w // block, block * block * c)), 2)


def _blocks_of(builder: Builder, x: Activation, block: int) -> tuple[int, int, int, int]:
    if len(x.shape) != 4 or block < 1:
        raise ModelError(
            builder.source, f"has blocks of {block} in {x.shape}", "give it images: (n, channels, height, width)"
        )
    return x.shape[0], x.shape[1], x.shape[2], x.shape[3]
