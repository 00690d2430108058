"""Operators of ONNX that copy elements, all opsets."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends import linear_maps, movement, scattering
from mcucompile.frontends.builder import Activation, Builder, Constant, Value
from mcucompile.frontends.onnx_node import Converter, Node
from mcucompile.frontends.refusals import RefusalError
from mcucompile.frontends.resizing import Interpolation, Resizing, interpolation, nearest, resized_by


def _slice(node: Node, builder: Builder) -> Value:
    x = node.activation()
    # Attributes before opset 10, then inputs.
    if node.opset < 10:
        starts, ends = tuple(node.attributes["starts"]), tuple(node.attributes["ends"])
        axes = tuple(node.attributes.get("axes", range(len(starts))))
        steps: tuple[int, ...] = (1,) * len(starts)
    else:
        starts, ends = node.integers(1), node.integers(2)
        axes = _optional_integers(node, 3, tuple(range(len(starts))))
        steps = _optional_integers(node, 4, (1,) * len(starts))
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ModelError(node.source, f"has {len(starts)} starts for {len(axes)} axes", "export the model again")
    parts = zip(axes, starts, ends, steps, strict=True)
    ranges = {node.normalised(axis, len(x.shape)): slice(start, end, step) for axis, start, end, step in parts}
    return movement.slices(builder, x, ranges)


def _pad(node: Node, builder: Builder) -> Value:
    x = node.activation()
    rank = len(x.shape)
    # Attributes before opset 11, then inputs.
    if node.opset < 11:
        pads, value = tuple(node.attributes["pads"]), float(node.attributes.get("value", 0.0))
    else:
        pads, value = node.integers(1), _number(node, 2, 0.0)
    axes = [node.normalised(axis, rank) for axis in _optional_integers(node, 3, tuple(range(rank)))]
    if len(pads) != 2 * len(axes):
        raise ModelError(node.source, f"has {len(pads)} pads for {len(axes)} axes", "export the model again")
    margins = {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    return movement.pad(builder, x, margins, node.text("mode", "constant"), builder.meaning(x, value))


def _gather(node: Node, builder: Builder) -> Value:
    x = node.activation()
    return movement.gather(builder, x, node.constant(1), node.axis(0, len(x.shape)))


def _gather_elements(node: Node, builder: Builder) -> Value:
    x, indices = node.activation(), node.constant(1)
    if indices.ndim != len(x.shape) or indices.dtype.kind not in "iu":
        raise ModelError(node.source, f"gathers from {x.shape} by {indices.shape}", "export the model again")
    return movement.gather_elements(builder, x, indices, node.axis(0, len(x.shape)))


def _gather_nd(node: Node, builder: Builder) -> Value:
    x, indices = node.activation(), node.constant(1)
    batch = node.integer("batch_dims", 0)
    if batch or not indices.ndim or indices.dtype.kind not in "iu" or not 0 < indices.shape[-1] <= len(x.shape):
        raise RefusalError(f"gathers from {x.shape} by {indices.shape}", "use Gather or batch_dims=0")
    positions = movement.places(x)
    try:
        chosen = positions[tuple(np.moveaxis(indices, -1, 0))]
    except IndexError as error:
        raise ModelError(node.source, f"gathers outside of {x.shape}", "export the model again") from error
    return movement.rearranged(builder, x, chosen)


def _scatter_elements(node: Node, builder: Builder) -> Value:
    data, indices = node.value(0), node.constant(1)
    if indices.ndim != len(data.shape) or indices.dtype.kind not in "iu":
        raise ModelError(node.source, f"writes into {data.shape} by {indices.shape}", "export the model again")
    places = scattering.places_along(indices, node.axis(0, len(data.shape)))
    return scattering.scatter(builder, data, places, node.value(2), node.text("reduction", "none"))


def _scatter_nd(node: Node, builder: Builder) -> Value:
    data, indices = node.value(0), node.constant(1)
    if not indices.ndim or indices.dtype.kind not in "iu" or not 0 < indices.shape[-1] <= len(data.shape):
        raise ModelError(node.source, f"writes into {data.shape} by {indices.shape}", "export the model again")
    places = tuple(np.moveaxis(indices, -1, 0))
    return scattering.scatter(builder, data, places, node.value(2), node.text("reduction", "none"))


def _tensor_scatter(node: Node, builder: Builder) -> Value:
    cache, updates = node.value(0), node.value(1)
    if len(cache.shape) != len(updates.shape) or len(cache.shape) < 2 or cache.shape[0] != updates.shape[0]:
        raise ModelError(node.source, f"writes {updates.shape} into {cache.shape}", "export the model again")
    starts = np.zeros(1, dtype=np.int64) if node.optional_constant(2) is None else node.constant(2)
    if starts.size not in (1, cache.shape[0]):
        raise ModelError(node.source, f"has {starts.size} places for {cache.shape[0]} samples", "export it again")
    axis = node.axis(-2, len(cache.shape))
    circular = node.text("mode", "linear") == "circular"
    places = scattering.cache_places(cache.shape, updates.shape, starts, axis, circular=circular)
    return scattering.scatter(builder, cache, places, updates)


def _split(node: Node, builder: Builder) -> tuple[Value, ...]:
    x = node.activation()
    axis = node.axis(0, len(x.shape))
    length = x.shape[axis]
    # An attribute before opset 13, then an input.
    given = tuple(node.attributes.get("split", ())) or _optional_integers(node, 1, ())
    count = node.integer("num_outputs", node.outputs)
    if count != node.outputs:
        raise ModelError(node.source, f"has num_outputs={count} and {node.outputs} outputs", "export the model again")
    part = -(-length // count)
    sizes = given or tuple(min(part, length - i * part) for i in range(count))
    return movement.split(builder, x, axis, sizes)


def _concat(node: Node, builder: Builder) -> Value:
    values = [node.value(i) for i in range(len(node.inputs))]
    rank = len(next((value.shape for value in values if isinstance(value, Activation)), ()))
    return movement.concat(builder, values, node.axis(1, rank))


def _expand(node: Node, builder: Builder) -> Value:
    return movement.expand(builder, node.activation(), node.integers(1))


def _tile(node: Node, builder: Builder) -> Value:
    return movement.tile(builder, node.activation(), node.integers(1))


def _depth_to_space(node: Node, builder: Builder) -> Value:
    mode = node.text("mode", "DCR")
    return movement.depth_to_space(builder, node.activation(), node.integer("blocksize"), depth_first=mode == "DCR")


def _space_to_depth(node: Node, builder: Builder) -> Value:
    mode = node.text("mode", "DCR")
    return movement.space_to_depth(builder, node.activation(), node.integer("blocksize"), depth_first=mode == "DCR")


def _compress(node: Node, builder: Builder) -> Value:
    x, condition = node.activation(), node.constant(1)
    chosen = np.flatnonzero(condition)
    if "axis" not in node.attributes:
        flat = builder.reshape(x, (math.prod(x.shape),))
        return movement.gather(builder, flat, chosen, 0)
    return movement.gather(builder, x, chosen, node.axis(0, len(x.shape)))


def _center_crop_pad(node: Node, builder: Builder) -> Value:
    x, wanted = node.activation(), node.integers(1)
    axes = [node.normalised(axis, len(x.shape)) for axis in node.attributes.get("axes", range(len(x.shape)))]
    if len(axes) != len(wanted):
        raise ModelError(node.source, f"has {len(wanted)} sizes for {len(axes)} axes", "export the model again")
    margins = {}
    for axis, size in zip(axes, wanted, strict=True):
        # Padding puts the odd element behind; cropping takes it from the front half rounded down.
        extra = size - x.shape[axis]
        before = extra // 2 if extra > 0 else -(-extra // 2)
        margins[axis] = (before, extra - before)
    return movement.pad(builder, x, margins, "constant")


def _reverse_sequence(node: Node, builder: Builder) -> Value:
    x = node.activation()
    lengths = node.integers(1)
    batch, time = node.integer("batch_axis", 1), node.integer("time_axis", 0)
    if sorted((batch, time)) != [0, 1] or len(x.shape) < 2 or len(lengths) != x.shape[batch]:
        raise ModelError(node.source, f"reverses {len(lengths)} sequences of {x.shape}", "export the model again")
    positions = np.moveaxis(movement.places(x), batch, 0)
    rows = [np.concatenate([row[:length][::-1], row[length:]]) for row, length in zip(positions, lengths, strict=True)]
    return movement.rearranged(builder, x, np.moveaxis(np.stack(rows), 0, batch))


def _upsample(node: Node, builder: Builder) -> Value:
    x = node.activation()
    mode = node.text("mode", "nearest")
    scales = tuple(node.attributes["scales"]) if node.opset < 9 else _floats(node.constant(1))
    axes = _resizings(node, x, range(len(x.shape)), scales, resized_by(x.shape, scales))
    if mode != "nearest":
        how = Interpolation(mode, "asymmetric")
        return linear_maps.interpolated(builder, x, axes, lambda axis: interpolation(axis, how), 0.0)
    indices = {axis: nearest(one, "asymmetric", "floor") for axis, one in axes.items()}
    return movement.take(builder, x, indices)


def _resize(node: Node, builder: Builder) -> Value:
    x = node.activation()
    rank = len(x.shape)
    mode = node.text("mode", "nearest")
    axes = [node.normalised(axis, rank) for axis in node.attributes.get("axes", range(rank))]
    lengths = [x.shape[axis] for axis in axes]
    scales: Sequence[float]
    resized: Sequence[int]
    if node.opset < 11:
        scales = _floats(node.constant(1))
        resized = resized_by(lengths, scales)
        coordinates, rounding, value = "asymmetric", "floor", 0.0
    else:
        scales, resized = _scales_and_sizes(node, lengths)
        coordinates = node.text("coordinate_transformation_mode", "half_pixel")
        rounding = node.text("nearest_mode", "round_prefer_floor")
        value = float(node.attributes.get("extrapolation_value", 0.0))
    regions = _regions(node, len(axes)) if coordinates == "tf_crop_and_resize" else {}
    resizings = _resizings(node, x, axes, scales, resized, regions)
    if mode != "nearest":
        how = Interpolation(
            mode,
            coordinates,
            float(node.attributes.get("cubic_coeff_a", -0.75)),
            bool(node.integer("exclude_outside", 0)),
            bool(node.integer("antialias", 0)),
        )
        return linear_maps.interpolated(builder, x, resizings, lambda axis: interpolation(axis, how), value)
    if node.opset < 11 and any(scale < 1 for scale in scales):
        # Resize-10 leaves the rounding open; onnxruntime rounds up where it shrinks.
        indices = {a: nearest(r, coordinates, "ceil" if r.scale < 1 else "floor") for a, r in resizings.items()}
    else:
        indices = {a: nearest(r, coordinates, rounding) for a, r in resizings.items()}
    return movement.take(builder, x, indices, value)


def _scales_and_sizes(node: Node, lengths: Sequence[int]) -> tuple[Sequence[float], Sequence[int]]:
    """Return scale and output size of each axis, one of them given."""
    scales = node.optional_constant(2)
    if scales is not None and scales.size:
        values = _floats(scales)
        if len(values) != len(lengths):
            raise ModelError(node.source, f"has {len(values)} scales for {len(lengths)} axes", "export it again")
        return values, resized_by(lengths, values)
    sizes = _optional_integers(node, 3, ())
    if len(sizes) != len(lengths):
        raise ModelError(node.source, f"has {len(sizes)} sizes for {len(lengths)} axes", "export the model again")
    shares = [size / length for size, length in zip(sizes, lengths, strict=True)]
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return shares, sizes
    if policy not in ("not_larger", "not_smaller"):
        raise RefusalError(f"has the policy '{policy}'", "use stretch, not_larger or not_smaller")
    share = min(shares) if policy == "not_larger" else max(shares)
    return [share] * len(lengths), [math.floor(share * length + 0.5) for length in lengths]


def _regions(node: Node, count: int) -> dict[int, tuple[float, float]]:
    region = _floats(node.constant(1))
    if len(region) != 2 * count:
        raise ModelError(node.source, f"has a region of {len(region)} numbers for {count} axes", "export it again")
    return {i: (region[i], region[i + count]) for i in range(count)}


def _resizings(
    node: Node,
    x: Activation,
    axes: Sequence[int],
    scales: Sequence[float],
    resized: Sequence[int],
    regions: Mapping[int, tuple[float, float]] | None = None,
) -> dict[int, Resizing]:
    if len(scales) != len(axes) or min(scales, default=1) <= 0 or min(resized, default=1) < 1:
        raise ModelError(
            node.source, f"resizes {x.shape} by {[float(s) for s in scales]} to {list(resized)}", "use positive scales"
        )
    movement.require_lengths(resized)
    return {
        axis: Resizing(x.shape[axis], resized[i], scales[i], (regions or {}).get(i, (0.0, 1.0)))
        for i, axis in enumerate(axes)
    }


def _floats(values: Constant) -> tuple[float, ...]:
    return tuple(float(value) for value in values.reshape(-1))


def _number(node: Node, index: int, default: float) -> float:
    """Return an input of one number that may be absent."""
    values = node.optional_constant(index)
    return default if values is None or not values.size else float(values.reshape(-1)[0])


def _optional_integers(node: Node, index: int, default: tuple[int, ...]) -> tuple[int, ...]:
    return default if node.optional_constant(index) is None else node.integers(index)


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "CenterCropPad"): _center_crop_pad,
    ("", "Compress"): _compress,
    ("", "Concat"): _concat,
    ("", "DepthToSpace"): _depth_to_space,
    ("", "Expand"): _expand,
    ("", "Gather"): _gather,
    ("", "GatherElements"): _gather_elements,
    ("", "GatherND"): _gather_nd,
    ("", "Pad"): _pad,
    ("", "Resize"): _resize,
    ("", "ReverseSequence"): _reverse_sequence,
    ("", "Scatter"): _scatter_elements,
    ("", "ScatterElements"): _scatter_elements,
    ("", "ScatterND"): _scatter_nd,
    ("", "Slice"): _slice,
    ("", "SpaceToDepth"): _space_to_depth,
    ("", "Split"): _split,
    ("", "TensorScatter"): _tensor_scatter,
    ("", "Tile"): _tile,
    ("", "Upsample"): _upsample,
}
