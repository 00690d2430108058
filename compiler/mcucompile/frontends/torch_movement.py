"""Operators of torch that copy elements."""

import math

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends import movement
from mcucompile.frontends.builder import Activation, Builder, Value
from mcucompile.frontends.refusals import RefusalError
from mcucompile.frontends.resizing import Resizing, nearest
from mcucompile.frontends.torch_call import Call, Converter

_PAD_MODES = {"constant": "constant", "replicate": "edge", "reflect": "reflect", "circular": "wrap"}


def _parts(call: Call) -> tuple[list[Value], int]:
    """Return the tensors of a list and the most axes that one has."""
    given = call.arguments["tensors"]
    values = [value if isinstance(value, Activation) else np.asarray(value) for value in given]
    return values, max(len(value.shape) for value in values)


def _concat(call: Call, builder: Builder) -> Value:
    values, rank = _parts(call)
    return movement.concat(builder, values, call.axis("dim", rank))


def _stack(call: Call, builder: Builder) -> Value:
    values, rank = _parts(call)
    axis = call.axis("dim", rank + 1)
    wide = [
        builder.reshape(value, (*value.shape[:axis], 1, *value.shape[axis:])) if isinstance(value, Activation)
        else np.expand_dims(value, axis)
        for value in values
    ]  # fmt: skip
    return movement.concat(builder, wide, axis)


def _slice(call: Call, builder: Builder) -> Value:
    x = call.activation()
    (step,) = call.integers("step")
    start, end = (None if call.arguments[name] is None else call.integers(name)[0] for name in ("start", "end"))
    return movement.slices(builder, x, {call.axis("dim", len(x.shape)): slice(start, end, step)})


def _select(call: Call, builder: Builder) -> Value:
    x = call.activation()
    (index,) = call.integers("index")
    return movement.gather(builder, x, np.array(index), call.axis("dim", len(x.shape)))


def _index_select(call: Call, builder: Builder) -> Value:
    x = call.activation()
    return movement.gather(builder, x, call.constant("index"), call.axis("dim", len(x.shape)))


def _flip(call: Call, builder: Builder) -> Value:
    x = call.activation()
    axes = [call.normalised(axis, len(x.shape)) for axis in call.integers("dims")]
    return movement.slices(builder, x, {axis: slice(None, None, -1) for axis in axes})


def _pad(call: Call, builder: Builder) -> Value:
    x = call.activation()
    pads = call.integers("pad")
    mode = str(call.arguments.get("mode", "constant"))
    value = call.arguments.get("value")
    if len(pads) % 2 or len(pads) > 2 * len(x.shape):
        raise ModelError(
            call.source, f"pads {x.shape} by {list(pads)}", "give a pair for each axis, the last one first"
        )
    last = len(x.shape) - 1
    margins = {last - i: (pads[2 * i], pads[2 * i + 1]) for i in range(len(pads) // 2)}
    return movement.pad(builder, x, margins, _PAD_MODES.get(mode, mode), float(value or 0.0))


def _split(call: Call, builder: Builder) -> tuple[Value, ...]:
    x = call.activation()
    axis = call.axis("dim", len(x.shape))
    length = x.shape[axis]
    if "chunks" in call.arguments:
        (chunks,) = call.integers("chunks")
        given: tuple[int, ...] = (-(-length // max(chunks, 1)),)
    else:
        given = call.integers("split_size" if "split_size" in call.arguments else "split_sizes")
    is_list = "split_sizes" in call.arguments
    sizes = given if is_list else tuple(min(given[0], length - start) for start in range(0, length, max(given[0], 1)))
    return movement.split(builder, x, axis, sizes)


def _expand(call: Call, builder: Builder) -> Value:
    x = call.activation()
    size = call.integers("size")
    lead = len(size) - len(x.shape)
    # -1 leaves an axis as it is.
    wanted = [x.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(size)]
    return movement.expand(builder, x, wanted)


def _repeat(call: Call, builder: Builder) -> Value:
    x = call.activation()
    repeats = call.integers("repeats")
    wide = builder.reshape(x, (1,) * (len(repeats) - len(x.shape)) + x.shape)
    return movement.tile(builder, wide, repeats)


def _pixel_shuffle(call: Call, builder: Builder) -> Value:
    (factor,) = call.integers("upscale_factor")
    return movement.depth_to_space(builder, call.activation(), factor, depth_first=False)


def _pixel_unshuffle(call: Call, builder: Builder) -> Value:
    (factor,) = call.integers("downscale_factor")
    return movement.space_to_depth(builder, call.activation(), factor, depth_first=False)


def _upsample(call: Call, builder: Builder) -> Value:
    x = call.activation("input" if "input" in call.arguments else "self")
    spatial = x.shape[2:]
    factors = call.arguments.get("scale_factors")
    if call.arguments.get("output_size") is not None:
        sizes = call.integers("output_size")
        scales = [size / length for size, length in zip(sizes, spatial, strict=False)]
    elif factors is not None:
        scales = [float(factor) for factor in factors]
        sizes = tuple(math.floor(length * scale) for length, scale in zip(spatial, scales, strict=False))
    else:
        raise RefusalError("has neither a size nor factors", "give it one of them")
    if not len(sizes) == len(scales) == len(spatial) or min(sizes) < 1:
        raise ModelError(call.source, f"resizes {x.shape} to {list(sizes)}", "give it a batch of images")
    movement.require_lengths(sizes)
    resizings = (Resizing(*axis) for axis in zip(spatial, sizes, scales, strict=True))
    return movement.take(builder, x, {i + 2: nearest(one, "asymmetric", "floor") for i, one in enumerate(resizings)})


CONVERTERS: dict[str, Converter] = {
    "aten::cat": _concat,
    "aten::chunk": _split,
    "aten::constant_pad_nd": _pad,
    "aten::expand": _expand,
    "aten::flip": _flip,
    "aten::index_select": _index_select,
    "aten::pad": _pad,
    "aten::pixel_shuffle": _pixel_shuffle,
    "aten::pixel_unshuffle": _pixel_unshuffle,
    "aten::repeat": _repeat,
    "aten::select": _select,
    "aten::slice": _slice,
    "aten::split": _split,
    "aten::split_with_sizes": _split,
    "aten::stack": _stack,
    "aten::upsample_nearest1d": _upsample,
    "aten::upsample_nearest2d": _upsample,
}
