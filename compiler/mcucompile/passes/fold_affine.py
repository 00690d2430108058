"""Fold scales and offsets (batch-norm, constants) into the weighted layer before or after them."""

from dataclasses import replace

import numpy as np

from mcucompile.ir import Array, Graph, Op
from mcucompile.ops import Affine, Conv, Dense
from mcucompile.ops.sums import single
from mcucompile.passes.rewrite import Change, Draft, rewrite


def fold_affine(graph: Graph) -> Graph:
    """Return the graph with every Affine that has a Dense, Conv or Affine neighbour folded into it.

    Needs: hoist_elementwise, so that neighbours are adjacent. Gives: no batch-norm after a weighted layer, no
    standardisation before one, but for an offset before a convolution that pads: it pads with 0 after the
    offset. The folding is done in float64.
    """
    return rewrite(graph, _fold)


def _fold(graph: Draft, op: Op) -> Change | None:
    if not isinstance(op, Affine):
        return None
    before = graph.producer(op.inputs[0])
    alone = before is not None and len(graph.consumers(before.output)) == 1 and before.output not in graph.outputs
    if alone and isinstance(before, Dense | Conv | Affine) and not before.relu:
        merged = _into_previous(before, op, len(graph.tensors[op.output].shape) - 1)
        if merged is not None:
            return Change({before: (merged,), op: ()})
    layer = _next_weighted(graph, op)
    if layer is not None and layer.is_linear and not op.relu:
        is_adjacent = layer.inputs[0] == op.output
        channels = 1 if isinstance(layer, Conv) and layer.planar else len(graph.tensors[op.output].shape) - 1
        is_free = layer.weight_scale is None
        if (len(op.scale) == 1 and (is_free or op.scale.all())) or (is_free and is_adjacent and op.axis == channels):
            return _into_next(op, layer)
    return None


def _into_previous(before: Dense | Conv | Affine, op: Affine, last_axis: int) -> Dense | Conv | Affine | None:
    scale, offset = op.scale.astype(np.float64), op.offset.astype(np.float64)
    if not isinstance(before, Affine):
        if before.weight_scale is not None and not scale.all():
            return None
        if len(scale) != 1 and op.axis != last_axis:
            return None
        return replace(before.scaled(scale, offset), output=op.output, relu=op.relu, ceiling=op.ceiling)
    if before.axis != op.axis and len(before.scale) != 1 and len(scale) != 1:
        return None
    axis = op.axis if len(before.scale) == 1 else before.axis
    return replace(
        before,
        scale=single(before.scale.astype(np.float64) * scale),
        offset=single(before.offset.astype(np.float64) * scale + offset),
        axis=axis,
        output=op.output,
        relu=op.relu,
    )


def _into_next(op: Affine, layer: Dense | Conv) -> Change:
    groups = layer.groups if isinstance(layer, Conv) else 1
    weight = layer.weight.astype(np.float64)
    inputs = weight.shape[-1] * groups
    # (groups, 1 for a group's outputs, 1 for each tap, the group's inputs), so that it broadcasts to the weights.
    shape = (groups, *(1,) * (weight.ndim - 1), weight.shape[-1])
    scale = np.broadcast_to(op.scale.astype(np.float64), (inputs,)).reshape(shape)
    offset = np.broadcast_to(op.offset.astype(np.float64), (inputs,)).reshape(shape)
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    added = (grouped * offset).reshape(len(weight), -1).sum(axis=1)
    merged = replace(
        layer,
        weight_scale=_scaled(layer, op.scale),
        weight=single((grouped * scale).reshape(weight.shape)),
        bias=single(layer.bias.astype(np.float64) + added),
    )
    return Change({layer: (merged,), op: ()}, renamed={op.output: op.inputs[0]})


def _scaled(layer: Dense | Conv, scale: Array) -> Array | None:
    """Return the real size of 1 of given integer weights once they are multiplied."""
    return None if layer.weight_scale is None else layer.weight_scale * np.abs(scale.astype(np.float64))


def _next_weighted(graph: Draft, op: Affine) -> Dense | Conv | None:
    """Return the layer that reads op, directly or through views that have no other reader."""
    tensor = op.output
    while tensor not in graph.outputs:
        readers = graph.consumers(tensor)
        if len(readers) != 1:
            return None
        (reader,) = readers
        if isinstance(reader, Dense):
            return reader
        if isinstance(reader, Conv):
            pads = any((*reader.window.before, *reader.window.after))
            return None if pads and op.offset.any() else reader
        if not reader.is_view:
            return None
        tensor = reader.output
    return None
