"""Give scales and rectifiers to the weighted layer whose outputs were only copied in between."""

from dataclasses import replace

import numpy as np

from mcucompile.ir import Graph, Op
from mcucompile.numerics import Real
from mcucompile.ops import Affine, Clip, Conv, Dense, Relu, Reshape, Take, Transpose
from mcucompile.passes.rewrite import Change, Draft, rewrite


def fuse_through_copies(graph: Graph) -> Graph:
    """Return the graph with each Affine, Relu or Clip from 0 up behind copies of a Dense or Conv fused into that.

    Copies are views, transpositions and Takes that fill nothing, each read by nothing else; an Affine must treat all
    outputs of a channel alike. Needs: fold_affine and fuse_relu, which do what needs no copies looked through. Gives:
    transposed convolutions and enlarged images whose batch-norm costs nothing.
    """
    return rewrite(graph, _fuse)


def _fuse(graph: Draft, op: Op) -> Change | None:
    if not isinstance(op, Affine | Relu) and not (isinstance(op, Clip) and op.low == 0 < op.high):
        return None
    copies: list[Op] = []
    tensor = op.inputs[0]
    while (producer := graph.producer(tensor)) is not None:
        if len(graph.consumers(tensor)) != 1 or tensor in graph.outputs:
            return None
        if not isinstance(producer, Reshape | Transpose) and not (isinstance(producer, Take) and not producer.fills):
            break
        copies.append(producer)
        tensor = producer.inputs[0]
    if not copies or not isinstance(producer, Conv | Dense):
        return None
    layer = producer
    if isinstance(op, Affine):
        lanes = None if layer.relu else _of_channels(graph, layer, copies, op)
        if lanes is None:
            return None
        layer = layer.scaled(*lanes)
    rectifies = not isinstance(op, Affine) or op.relu
    ceiling = np.inf if isinstance(op, Relu) else op.high if isinstance(op, Clip) else op.ceiling
    if rectifies:
        layer = replace(layer, relu=True, ceiling=min(layer.ceiling, ceiling))
    last = replace(copies[0], output=op.output)
    return Change({producer: (layer,), copies[0]: (last,), op: ()})


def _of_channels(graph: Draft, layer: Conv | Dense, copies: list[Op], op: Affine) -> tuple[Real, Real] | None:
    """Return scale and offset of each of the layer's channels, None if a channel's outputs have different ones."""
    shape = graph.tensors[layer.output].shape
    channels = np.broadcast_to(np.arange(shape[-1]), (1, *shape))
    for copy in reversed(copies):
        channels = copy.run(channels)
    lanes = []
    for values, unused in ((op.scale, 1.0), (op.offset, 0.0)):
        broadcast = (-1, *(1,) * (channels.ndim - 2 - op.axis)) if len(values) > 1 else (-1,)
        everywhere = np.broadcast_to(values.astype(np.float64).reshape(broadcast), channels.shape)
        of_channel = np.full(shape[-1], unused)
        of_channel[channels] = everywhere
        if not np.array_equal(of_channel[channels], everywhere):
            return None
        lanes.append(of_channel)
    return lanes[0], lanes[1]
