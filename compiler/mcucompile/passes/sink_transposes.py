"""Move transpositions towards the result until they meet their inverse or a layer that can take them in.

Convolutions work on channels-last images; the front-ends put a transposition before and after each. Between
two of them only element-wise operators stand, which do not mind the order of axes.
"""

from dataclasses import replace

import numpy as np

from mcucompile.ir import Graph, Op, Shape
from mcucompile.lowering import RealOp
from mcucompile.ops import Conv, Dense, Reshape, Transpose
from mcucompile.passes.rewrite import Change, Draft, rewrite

_CHANNELS_LAST = (0, 2, 3, 1)


def sink_transposes(graph: Graph) -> Graph:
    """Return the graph with fewer transpositions, often none.

    Needs: nothing. Gives: convolutions whose neighbours are element-wise operators on the same layout; a
    Dense behind a flattened image has its weights in the image's own order; a Conv that reads the graph's
    input reads planes if the model does.
    """
    return rewrite(graph, _change)


def _change(graph: Draft, op: Op) -> Change | None:
    if not isinstance(op, Transpose):
        return None
    return (
        _merge(graph, op) or _sink(graph, op) or _into_dense(graph, op) or _into_conv(graph, op) or _as_view(graph, op)
    )


def _merge(graph: Draft, op: Transpose) -> Change | None:
    """Make one transposition of two, or none if they cancel."""
    before = graph.producer(op.inputs[0])
    if not isinstance(before, Transpose):
        return None
    permutation = tuple(before.permutation[axis] for axis in op.permutation)
    if permutation != tuple(range(len(permutation))):
        return Change({op: (replace(op, inputs=before.inputs, permutation=permutation),)})
    if op.output in graph.outputs:
        shape = graph.tensors[op.output].shape
        view = Reshape(name=op.name, inputs=before.inputs, output=op.output, source=op.source, shape=shape)
        return Change({op: (view,)})
    return Change({op: ()}, renamed={op.output: before.inputs[0]})


def _sink(graph: Draft, op: Transpose) -> Change | None:
    """Move a transposition below an operator all of whose inputs are transposed alike."""
    for reader in graph.consumers(op.output):
        producers = [graph.producer(name) for name in reader.inputs]
        moved = reader.permuted(op.permutation) if isinstance(reader, RealOp) else None
        if moved is None:
            continue
        # Broadcast, the output is larger than what is turned. An enlarged image most often meets the next layer.
        if len(producers) > 1 and graph.tensors[op.output].size < graph.tensors[reader.output].size:
            continue
        inner = f"{reader.output}@{op.name}"
        inputs: list[str] = []
        turned: list[Op] = []
        shapes: dict[str, Shape] = {}
        for name, producer in zip(reader.inputs, producers, strict=True):
            source = graph.tensors[name]
            if isinstance(producer, Transpose) and producer.permutation == op.permutation:
                inputs.append(producer.inputs[0])
            elif source.size < graph.tensors[reader.output].size:
                # Broadcast: turning the smaller input back costs less than turning the output.
                order = tuple(int(axis) for axis in np.argsort(op.permutation))
                inputs.append(f"{inner}{len(inputs)}")
                shapes[inputs[-1]] = tuple(source.shape[axis] for axis in order)
                part = f"{reader.name}{_suffix(op)}_{len(inputs)}"
                turned.append(replace(op, name=part, inputs=(name,), output=inputs[-1], permutation=order))
        if len(inputs) != len(producers):
            continue
        above = replace(moved, inputs=tuple(inputs), output=inner)
        below = replace(op, name=f"{reader.name}{_suffix(op)}", inputs=(inner,), output=reader.output)
        known = {name: graph.tensors[name].shape for name in inputs if name not in shapes} | shapes
        shape = above.output_shape(*(known[name] for name in inputs))
        return Change({reader: (*turned, above, below)}, shapes={**shapes, inner: shape})
    return None


def _into_dense(graph: Draft, op: Transpose) -> Change | None:
    """Let a Dense that reads the whole flattened tensor take its weights' columns in the order before."""
    readers = graph.consumers(op.output)
    view = readers[0] if len(readers) == 1 and op.output not in graph.outputs else None
    if not isinstance(view, Reshape) or view.output in graph.outputs:
        return None
    layers = graph.consumers(view.output)
    dense = layers[0] if len(layers) == 1 else None
    source = graph.tensors[op.inputs[0]]
    if not isinstance(dense, Dense) or dense.weight.shape[1] != source.size:
        return None
    order = np.arange(source.size).reshape(source.shape).transpose(op.permutation).reshape(-1)
    weight = np.empty_like(dense.weight)
    weight[:, order] = dense.weight
    return Change({op: (), dense: (replace(dense, weight=weight),)}, renamed={op.output: op.inputs[0]})


def _into_conv(graph: Draft, op: Transpose) -> Change | None:
    """Let convolutions read the planes of the graph's input as they are."""
    if op.permutation != _CHANNELS_LAST or graph.producer(op.inputs[0]) is not None or op.output in graph.outputs:
        return None
    readers = graph.consumers(op.output)
    convolutions = [reader for reader in readers if isinstance(reader, Conv) and not reader.planar]
    if len(convolutions) != len(readers):
        return None
    planar: dict[Op, tuple[Op, ...]] = {conv: (replace(conv, planar=True),) for conv in convolutions}
    return Change({op: (), **planar}, renamed={op.output: op.inputs[0]})


def _as_view(graph: Draft, op: Transpose) -> Change | None:
    """Turn a transposition that only moves axes of length 1 into a view."""
    shape = graph.tensors[op.inputs[0]].shape
    long = [axis for axis in op.permutation if shape[axis] != 1]
    if long != sorted(long):
        return None
    permuted = graph.tensors[op.output].shape
    return Change({op: (Reshape(name=op.name, inputs=op.inputs, output=op.output, source=op.source, shape=permuted),)})


def _suffix(op: Transpose) -> str:
    return "_channels_first" if op.permutation == (0, 3, 1, 2) else "_transposed"
