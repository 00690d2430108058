"""Move element-wise operators before the views they follow, next to the layer that made their input."""

from dataclasses import replace

from mcucompile.ir import Graph, Op
from mcucompile.ops import Affine, Clip, FakeQuantize, Lookup, Relu
from mcucompile.passes.rewrite import Change, Draft, rewrite


def hoist_elementwise(graph: Graph) -> Graph:
    """Turn view -> Relu (or Clip, Lookup, a scalar Affine) into Relu -> view, where nothing else reads the view.

    Needs: nothing. Gives: layers followed by their activation, which fuse_relu and fold_affine look for.
    """
    return rewrite(graph, _hoist)


def _hoist(graph: Draft, op: Op) -> Change | None:
    is_scalar = isinstance(op, Relu | Clip | Lookup | FakeQuantize) or (isinstance(op, Affine) and len(op.scale) == 1)
    view = graph.producer(op.inputs[0]) if is_scalar else None
    if view is None or not view.is_view or len(graph.consumers(view.output)) != 1:
        return None
    if view.output in graph.outputs:
        return None
    # The element-wise operator takes over the name between the two, with the shape before the view.
    first = replace(op, inputs=view.inputs, output=view.output)
    second = replace(view, inputs=(view.output,), output=op.output)
    shape = graph.tensors[view.inputs[0]].shape
    return Change({view: (), op: (first, second)}, shapes={view.output: shape})
