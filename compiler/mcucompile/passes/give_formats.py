"""Formats that the model gives: from its own quantization to the tensors that are stored so."""

from dataclasses import replace

from mcucompile.ir import Graph, Op
from mcucompile.lowering import RealOp
from mcucompile.ops import FakeQuantize
from mcucompile.passes.rewrite import Change, Draft, rewrite


def give_input_format(graph: Graph) -> Graph:
    """Return the graph with its input in the format to which all of its readers quantize it first.

    Needs: nothing. Gives: layers that read the input itself.
    """
    name = graph.inputs[0]
    readers = graph.consumers(name)
    formats = {reader.format for reader in readers if isinstance(reader, FakeQuantize)}
    is_free = graph.tensors[name].format is None and name not in graph.outputs
    if not is_free or len(formats) != 1 or not all(isinstance(reader, FakeQuantize) for reader in readers):
        return graph
    if any(reader.output in graph.outputs for reader in readers):
        return graph
    dropped = {reader.output: name for reader in readers}
    ops = tuple(
        replace(op, inputs=tuple(dropped.get(read, read) for read in op.inputs))
        for op in graph.ops
        if op.output not in dropped
    )
    tensors = {key: tensor for key, tensor in graph.tensors.items() if key not in dropped}
    (format_,) = formats
    return graph.replaced(ops=ops, tensors=tensors | {name: replace(tensors[name], format=format_)})


def give_formats(graph: Graph) -> Graph:
    """Return the graph with each FakeQuantize removed whose input's layer can give its output that format.

    Needs: all other passes, which a FakeQuantize keeps from mixing what is rounded and what is not. Gives: tensors
    with formats; `quantize` chooses the others.
    """
    given = {}

    def absorb(draft: Draft, op: Op) -> Change | None:
        if not isinstance(op, FakeQuantize):
            return None
        name = op.inputs[0]
        before = draft.producer(name)
        if before is None or len(draft.consumers(name)) != 1 or name in draft.outputs:
            return None
        if isinstance(before, FakeQuantize):
            return Change({op: ()}, renamed={op.output: name}) if before.format == op.format else None
        if not (isinstance(before, RealOp) and before.takes_format) or name in given:
            return None
        given[op.output] = op.format
        return Change({before: (replace(before, output=op.output),), op: ()})

    changed = rewrite(graph, absorb)
    tensors = {name: replace(tensor, format=given.get(name, tensor.format)) for name, tensor in changed.tensors.items()}
    return changed.replaced(tensors=tensors)
