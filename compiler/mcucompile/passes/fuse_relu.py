"""Give a rectifier to the layer before it: there it is a clamp that is made anyway."""

from dataclasses import replace

from mcucompile.ir import Graph, Op
from mcucompile.ops import Add, Affine, Clip, Conv, Dense, Relu
from mcucompile.passes.rewrite import Change, Draft, rewrite


def fuse_relu(graph: Graph) -> Graph:
    """Return the graph with each Relu, or Clip from 0 up, that alone reads a Dense, Conv, Affine or Add fused into it.

    Needs: fold_affine, so that no Affine stands between. Gives: unsigned formats after those layers.
    """
    return rewrite(graph, _fuse)


def _fuse(graph: Draft, op: Op) -> Change | None:
    before = graph.producer(op.inputs[0])
    is_rectifier = isinstance(op, Relu) or (isinstance(op, Clip) and op.low == 0 < op.high)
    if not is_rectifier or not isinstance(before, (Dense, Conv, Affine, Add)):
        return None
    if len(graph.consumers(before.output)) != 1 or before.output in graph.outputs:
        return None
    ceiling = min(before.ceiling, op.high) if isinstance(op, Clip) else before.ceiling
    return Change({before: (replace(before, relu=True, ceiling=ceiling, output=op.output),), op: ()})
