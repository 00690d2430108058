"""Give a network of views, which only renames its input, a layer that copies it."""

from dataclasses import replace

from mcucompile.ir import Graph, Tensor
from mcucompile.ops import Take


def copy_input(graph: Graph) -> Graph:
    """Return the graph with a copy of the input before everything else if it has no layer.

    Needs: nothing. Gives: at least one layer, which firmware calls and checks.
    """
    if graph.layers:
        return graph
    given = graph.input
    name = "copy"
    while name in graph.tensors:
        name += "_"
    indices = tuple(tuple(range(n)) for n in given.shape)
    copy = Take(name="copy", inputs=graph.inputs, output=name, source=graph.source, indices=indices)
    views = tuple(replace(op, inputs=(name,)) if op.inputs == graph.inputs else op for op in graph.ops)
    outputs = (name,) if graph.outputs == graph.inputs else graph.outputs
    tensors = {**graph.tensors, name: Tensor(name, given.shape)}
    return graph.replaced(ops=(copy, *views), outputs=outputs, tensors=tensors)
