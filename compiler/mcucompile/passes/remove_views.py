"""Drop views that change nothing and join views of views."""

from dataclasses import replace

from mcucompile.ir import Graph
from mcucompile.ops import Reshape


def remove_views(graph: Graph) -> Graph:
    """Return the graph with a view of a view reading the first one's input, and unread views dropped.

    Needs: nothing. Gives: at most one view between two layers. A view of the graph's result stays.
    """
    ops = list(graph.ops)
    views = {op.output: op for op in ops if isinstance(op, Reshape)}
    for i, op in enumerate(ops):
        if isinstance(op, Reshape) and op.inputs[0] in views:
            joined = replace(op, inputs=views[op.inputs[0]].inputs)
            ops[i] = views[op.output] = joined
    renamed: dict[str, str] = {}
    kept = []
    for op in ops:
        current = replace(op, inputs=tuple(renamed.get(name, name) for name in op.inputs))
        same = isinstance(op, Reshape) and graph.tensors[current.inputs[0]].shape == op.shape
        if same and op.output not in graph.outputs:
            renamed[op.output] = current.inputs[0]
        else:
            kept.append(current)
    read = {name for op in kept for name in op.inputs} | set(graph.outputs)
    return graph.replaced(ops=tuple(op for op in kept if not op.is_view or op.output in read))
