"""Inlines model-local functions that have no converter of their own."""

from collections.abc import Collection

import onnx
from onnx import checker, inliner

from mcucompile.errors import ModelError, UnsupportedError
from mcucompile.frontends.names import first_line, label
from mcucompile.frontends.onnx_reader import MAX_NODES, canonical_domain

_Id = tuple[str, str]


def inline_functions(model: onnx.ModelProto, known: Collection[_Id], file: str) -> onnx.ModelProto:
    """Return the model with calls of functions replaced by their bodies, except the known operators.

    Raises:
        ModelError: functions that call themselves, or that grow beyond all measure.
        UnsupportedError: a function written for another opset than the model's.
    """
    functions = {(function.domain, function.name): function for function in model.functions}
    wanted = frozenset(id_ for id_ in functions if (canonical_domain(id_[0]), id_[1]) not in known)
    if not wanted:
        return model
    if any(canonical_domain(domain) == "" for domain, _ in wanted):
        names = ", ".join(f"'{label(name)}'" for domain, name in sorted(wanted) if canonical_domain(domain) == "")
        raise UnsupportedError(
            file, f"defines functions in the domain of the standard operators: {names}", "give them another domain"
        )
    sizes: dict[_Id, int] = {}
    total = sum(_expanded(node, functions, wanted, sizes, (), file) for node in model.graph.node)
    if total > MAX_NODES:
        raise ModelError(
            file, f"has {total:,} nodes with its functions inlined, the limit is {MAX_NODES:,}", "simplify the model"
        )
    try:
        return inliner.inline_selected_functions(model, sorted(wanted))
    except (RuntimeError, ValueError, TypeError, checker.ValidationError) as error:
        raise UnsupportedError(
            file,
            f"has functions that cannot be inlined ({first_line(error)})",
            "export the functions with the model's own opset, or without functions",
        ) from error


def _expanded(
    node: onnx.NodeProto,
    functions: dict[_Id, onnx.FunctionProto],
    wanted: frozenset[_Id],
    sizes: dict[_Id, int],
    callers: tuple[_Id, ...],
    file: str,
) -> int:
    """Return how many nodes a node becomes; each function is counted once."""
    called = (node.domain, node.op_type)
    if called not in wanted:
        return 1
    if called in callers:
        raise ModelError(f"{file}: function '{label(node.op_type)}'", "calls itself", "unroll the recursion")
    if len(callers) > 50:
        raise ModelError(file, "nests functions more than 50 deep", "simplify the model")
    if called not in sizes:
        body = functions[called].node
        sizes[called] = sum(_expanded(n, functions, wanted, sizes, (*callers, called), file) for n in body)
    return sizes[called]
