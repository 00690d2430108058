"""Make one table of whatever is computed from one tensor element by element."""

from mcucompile.ir import Graph, Op
from mcucompile.ops import Add, Affine, Clip, Extremum, Lookup, Multiply, Relu
from mcucompile.ops.formula import Formula, Step, X, substituted
from mcucompile.passes.rewrite import Change, Draft, rewrite


def fuse_lookups(graph: Graph) -> Graph:
    """Return the graph with chains of Lookups and scalar operators, and sums of functions of one tensor, as Lookups.

    Needs: fold_affine and fuse_relu, which give cheaper places to scales and rectifiers. Gives: no Lookup next
    to a Lookup, a Clip, a Relu or a scalar Affine that nothing else reads, and no x * sigmoid(x) in pieces.
    """
    return rewrite(graph, _fuse)


def _fuse(graph: Draft, op: Op) -> Change | None:
    formula = _formula(op)
    if formula is None:
        return None
    inner = [_of_one_tensor(graph, op, name) for name in op.inputs]
    tensors = {tensor for tensor, _ in inner}
    if len(tensors) != 1:
        return None
    if len(inner) == 1:
        before = graph.producer(op.inputs[0])
        if inner[0][1] == (X,) or not (isinstance(op, Lookup) or isinstance(before, Lookup)):
            return None
        joined = substituted(formula, inner[0][1])
    else:
        joined = (*inner[0][1], *inner[1][1], *formula)
    (tensor,) = tensors
    return Change({op: (Lookup(name=op.name, inputs=(tensor,), output=op.output, source=op.source, formula=joined),)})


def _of_one_tensor(graph: Draft, op: Op, name: str) -> tuple[str, Formula]:
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
    formula: Formula | None = None
    match op:
        case Lookup():
            formula = op.formula
        case Relu():
            formula = (X, Step("relu"))
        case Clip():
            formula = (X, Step("clip", (op.low, op.high)))
        case Affine() if len(op.scale) == 1:
            formula = (X, Step("affine", (float(op.scale[0]), float(op.offset[0]))), *_rectifier(op))
        case Add():
            formula = (Step("subtract" if op.subtracts else "add"), *_rectifier(op))
        case Multiply():
            formula = (Step("multiply"),)
        case Extremum():
            formula = (Step("maximum" if op.largest else "minimum"),)
    return formula


def _rectifier(op: Affine | Add) -> Formula:
    return (Step("clip", (0.0, op.ceiling)),) if op.relu else ()
