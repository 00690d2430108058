"""Make one table of whatever is computed from one tensor element by element."""

from mcucompile.ir import Graph, Op
from mcucompile.ops import Add, Affine, Clip, Lookup, Relu
from mcucompile.ops.formula import Formula, Step, X, substituted


def fuse_lookups(graph: Graph) -> Graph:
    """Return the graph with chains of Lookups and scalar operators, and sums of functions of one tensor, as Lookups.

    Needs: fold_affine and fuse_relu, which give cheaper places to scales and rectifiers. Gives: no Lookup next
    to a Lookup, a Clip, a Relu or a scalar Affine that nothing else reads, and no x * sigmoid(x) in pieces.
    """
    while True:
        fused = _fuse_one(graph)
        if fused is None:
            return graph
        graph = fused


def _fuse_one(graph: Graph) -> Graph | None:
    for op in graph.ops:
        formula = _formula(op)
        if formula is None:
            continue
        inner = [_of_one_tensor(graph, op, name) for name in op.inputs]
        tensors = {tensor for tensor, _ in inner}
        if len(tensors) != 1:
            continue
        if len(inner) == 1:
            before = graph.producer(op.inputs[0])
            if inner[0][1] == (X,) or not (isinstance(op, Lookup) or isinstance(before, Lookup)):
                continue
            joined = substituted(formula, inner[0][1])
        else:
            joined = (*inner[0][1], *inner[1][1], *formula)
        (tensor,) = tensors
        lookup = Lookup(name=op.name, inputs=(tensor,), output=op.output, source=op.source, formula=joined)
        return _without_unread(graph.replaced(ops=tuple(lookup if other is op else other for other in graph.ops)))
    return None


def _of_one_tensor(graph: Graph, op: Op, name: str) -> tuple[str, Formula]:
    """Return a tensor and the formula that makes `name` of it; `name` itself if that is best left alone."""
    before = graph.producer(name)
    formula = None if before is None or len(before.inputs) != 1 else _formula(before)
    if before is None or formula is None or name in graph.outputs:
        return name, (X,)
    if len(op.inputs) == 1 and len(graph.consumers(name)) != 1:
        return name, (X,)
    return before.inputs[0], formula


def _formula(op: Op) -> Formula | None:
    """Return what an operator computes from each element, its operands already on the stack if it has two."""
    match op:
        case Lookup():
            return op.formula
        case Relu():
            return (X, Step("relu"))
        case Clip():
            return (X, Step("clip", (op.low, op.high)))
        case Affine() if len(op.scale) == 1:
            scaled = (X, Step("affine", (float(op.scale[0]), float(op.offset[0]))))
            return (*scaled, Step("clip", (0.0, op.ceiling))) if op.relu else scaled
        case Add():
            return (Step("add"), *((Step("clip", (0.0, op.ceiling)),) if op.relu else ()))
    return None


def _without_unread(graph: Graph) -> Graph:
    """Drop operators whose outputs nothing reads any more."""
    read = {name for op in graph.ops for name in op.inputs} | set(graph.outputs)
    kept = tuple(op for op in graph.ops if op.output in read)
    return graph if len(kept) == len(graph.ops) else _without_unread(graph.replaced(ops=kept))
