"""Let a recurrent layer give only its last step where nothing else is read: its sequence then takes no memory."""

from dataclasses import replace

import numpy as np

from mcucompile.ir import Graph, Op
from mcucompile.ops import Recurrent, Reshape, Take
from mcucompile.passes.rewrite import Change, Draft, rewrite


def keep_last_step(graph: Graph) -> Graph:
    """Return the graph with each Recurrent of which only the state made last is taken giving that alone.

    Needs: sink_transposes and remove_views, so that at most one view stands between layer and Take. Gives: layers
    whose output is one step.
    """
    return rewrite(graph, _keep)


def _keep(graph: Draft, op: Op) -> Change | None:
    if not isinstance(op, Take):
        return None
    view = graph.producer(op.inputs[0])
    between = (view,) if isinstance(view, Reshape) else ()
    layer = graph.producer(between[0].inputs[0]) if between else view
    if not isinstance(layer, Recurrent) or layer.last:
        return None
    if any(len(graph.consumers(made.output)) != 1 or made.output in graph.outputs for made in (layer, *between)):
        return None
    steps, batch, hidden = graph.tensors[layer.output].shape
    places = np.arange(steps * batch * hidden).reshape(graph.tensors[op.inputs[0]].shape)
    chosen = places[np.ix_(*op.indices)].reshape(-1)
    first = 0 if layer.reverse else (steps - 1) * batch * hidden
    if op.fills or not np.array_equal(chosen, first + np.arange(batch * hidden)):
        return None
    inner = f"{layer.output}@last"
    last = replace(layer, output=inner, last=True)
    shape = graph.tensors[op.output].shape
    taken = Reshape(name=op.name, inputs=(inner,), output=op.output, source=op.source, shape=shape)
    removed: dict[Op, tuple[Op, ...]] = dict.fromkeys(between, ())
    return Change({layer: (last,), **removed, op: (taken,)}, shapes={inner: (1, batch, hidden)})
