"""Fold scales and offsets (batch-norm, constants) into the fully connected layer before or after them."""

from dataclasses import replace

import numpy as np

from mcucompile.ir import Array, Graph, Op
from mcucompile.ops import Affine, Dense


def fold_affine(graph: Graph) -> Graph:
    """Return the graph with every Affine that has a Dense or Affine neighbour folded into it.

    Needs: hoist_elementwise, so that neighbours are adjacent. Gives: no batch-norm after a Dense, no
    standardisation before one. The folding is done in float64.
    """
    while True:
        folded = _fold_one(graph)
        if folded is None:
            return graph
        graph = folded


def _fold_one(graph: Graph) -> Graph | None:
    for op in graph.ops:
        if not isinstance(op, Affine):
            continue
        before = graph.producer(op.inputs[0])
        alone = before is not None and len(graph.consumers(before.output)) == 1 and before.output not in graph.outputs
        if alone and isinstance(before, (Dense, Affine)) and not before.relu:
            merged = _into_previous(before, op, len(graph.tensors[op.output].shape) - 1)
            if merged is not None:
                return _replace_pair(graph, before, op, merged)
        dense = _next_dense(graph, op)
        if dense is not None and not op.relu:
            is_adjacent = dense.inputs[0] == op.output
            last = len(graph.tensors[op.output].shape) - 1
            if len(op.scale) == 1 or (is_adjacent and op.axis == last):
                return _into_next(graph, op, dense)
    return None


def _into_previous(before: Dense | Affine, op: Affine, last_axis: int) -> Dense | Affine | None:
    scale, offset = op.scale.astype(np.float64), op.offset.astype(np.float64)
    if isinstance(before, Dense):
        if len(scale) != 1 and op.axis != last_axis:
            return None
        weight = before.weight.astype(np.float64) * scale[:, None]
        bias = before.bias.astype(np.float64) * scale + offset
        return replace(before, weight=_single(weight), bias=_single(bias), output=op.output, relu=op.relu)
    if before.axis != op.axis and len(before.scale) != 1 and len(scale) != 1:
        return None
    axis = op.axis if len(before.scale) == 1 else before.axis
    return replace(
        before,
        scale=_single(before.scale.astype(np.float64) * scale),
        offset=_single(before.offset.astype(np.float64) * scale + offset),
        axis=axis,
        output=op.output,
        relu=op.relu,
    )


def _into_next(graph: Graph, op: Affine, dense: Dense) -> Graph:
    weight = dense.weight.astype(np.float64)
    n_in = weight.shape[1]
    scale = np.broadcast_to(op.scale.astype(np.float64), (n_in,))
    offset = np.broadcast_to(op.offset.astype(np.float64), (n_in,))
    merged = replace(
        dense,
        weight=_single(weight * scale),
        bias=_single(dense.bias.astype(np.float64) + weight @ offset),
    )
    ops: list[Op] = []
    for other in graph.ops:
        if other is op:
            continue
        current = merged if other is dense else other
        inputs = tuple(op.inputs[0] if name == op.output else name for name in current.inputs)
        ops.append(replace(current, inputs=inputs))
    return graph.replaced(ops=tuple(ops))


def _next_dense(graph: Graph, op: Affine) -> Dense | None:
    """Return the Dense that reads op, directly or through views that have no other reader."""
    tensor = op.output
    while tensor not in graph.outputs:
        readers = graph.consumers(tensor)
        if len(readers) != 1:
            return None
        (reader,) = readers
        if isinstance(reader, Dense):
            return reader
        if not reader.is_view:
            return None
        tensor = reader.output
    return None


def _replace_pair(graph: Graph, first: Op, second: Op, merged: Op) -> Graph:
    return graph.replaced(ops=tuple(merged if op is first else op for op in graph.ops if op is not second))


def _single(values: Array) -> Array:
    return np.asarray(values, dtype=np.float32)
