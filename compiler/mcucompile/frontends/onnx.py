"""ONNX front-end: a model file becomes a graph of real operators, or an error that says why not."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto

from mcucompile.errors import ModelError
from mcucompile.frontends.builder import MAX_ELEMENTS, Activation, Builder, Value
from mcucompile.frontends.names import c_name, label
from mcucompile.frontends.onnx_convert import NodeReader
from mcucompile.frontends.onnx_functions import inline_functions
from mcucompile.frontends.onnx_node import read_by
from mcucompile.frontends.onnx_ops import CONVERTERS
from mcucompile.frontends.onnx_reader import MAX_NODES, Budget, TensorReader, check_model, opset_versions, read_model
from mcucompile.frontends.refusals import Refusal, RefusalError, unsupported
from mcucompile.ir import Format, Graph, Shape, Source

_INPUT_FORMATS = {
    TensorProto.UINT8: Format(8, False),
    TensorProto.INT8: Format(8, True),
    TensorProto.FLOAT: None,
    TensorProto.DOUBLE: None,
    TensorProto.FLOAT16: None,
    TensorProto.BFLOAT16: None,
}


def load_onnx(path: Path | str) -> Graph:
    """Read an ONNX file (opset 7 to the newest of the installed onnx) as a graph of real operators.

    Shapes are the file's, with a symbolic or missing first dimension of the input set to 1. An input of
    type uint8 or int8 is raw integers: its tensor has that format, every other tensor has none.

    Args:
        path: of the .onnx file; external data lies in its folder.
    Raises:
        ModelError: the file is missing, damaged or no valid model.
        UnsupportedError: it holds nodes, types or an opset that cannot be compiled; all nodes are listed.
    """
    path = Path(path)
    return graph_from_model(read_model(path), path.name, path.parent)


def graph_from_model(model: onnx.ModelProto, file: str = "model.onnx", folder: Path | None = None) -> Graph:
    """Convert a model in memory; errors as in `load_onnx`.

    Args:
        model: the parsed file.
        file: its name, for errors and for the graph's name.
        folder: where external data lies; None refuses it.
    """
    check_model(model, file)
    model = inline_functions(model, CONVERTERS, file)
    graph = model.graph
    sources = _sources(graph, file)
    initializers = _initializers(graph, file)
    given, format_ = _input(graph, initializers, file)
    result = _result(graph, file)
    order = _execution_order(graph, sources, {given.name, *initializers}, result, file)

    builder = Builder(file)
    values: dict[str, Value | None] = {given.name: builder.input(label(given.name), _input_shape(given, file), format_)}
    tensors = TensorReader(file, folder, Budget())
    nodes = NodeReader(
        builder, tensors, opset_versions(model, file), _read_names(graph, order, result), Budget(MAX_NODES)
    )
    refusals: list[Refusal] = []
    for index in order:
        node, source = graph.node[index], sources[index]
        for name in read_by(node):
            if name in initializers and name not in values:
                values[name] = tensors.read(initializers[name], name)
        outputs: tuple[Value | None, ...]
        try:
            outputs = nodes.convert(node, source, values)
        except RefusalError as refusal:
            refusals.append(Refusal(source, refusal.reason, refusal.fix))
            outputs = (nodes.placeholder(node, values),)
        except ModelError as error:
            # What stands in for a refused node's output may contradict the nodes after it: the refusal is the cause.
            if refusals:
                raise unsupported(file, refusals) from error
            raise
        values |= dict.fromkeys(node.output, None) | dict(zip(node.output, outputs, strict=False))
    if refusals:
        raise unsupported(file, refusals)
    output = values.get(result)
    if not isinstance(output, Activation):
        raise ModelError(
            f"{file}: output '{label(result)}'", "does not depend on the input", "export the model with its input"
        )
    return builder.finish(c_name(Path(file).stem), output)


def _sources(graph: onnx.GraphProto, file: str) -> list[Source]:
    """Return the place of every node; one without a name is called by its type and position."""
    return [
        Source(file, label(node.name) or f"{label(node.op_type).lower()}_{index}", label(node.op_type))
        for index, node in enumerate(graph.node)
    ]


def _initializers(graph: onnx.GraphProto, file: str) -> dict[str, TensorProto]:
    found: dict[str, TensorProto] = {}
    for tensor in graph.initializer:
        if tensor.name in found:
            raise ModelError(f"{file}: tensor '{label(tensor.name)}'", "has two initializers", "export the model again")
        found[tensor.name] = tensor
    return found


def _input(
    graph: onnx.GraphProto, initializers: Mapping[str, TensorProto], file: str
) -> tuple[onnx.ValueInfoProto, Format | None]:
    """Return the only input that is no initializer, and its format."""
    inputs = [value for value in graph.input if value.name not in initializers]
    if len(inputs) != 1:
        raise ModelError(
            file, f"has {len(inputs)} inputs{_listed(value.name for value in inputs)}", "export a model with one input"
        )
    type_ = inputs[0].type.tensor_type.elem_type
    if type_ not in _INPUT_FORMATS:
        names = {number: name.lower() for name, number in TensorProto.DataType.items()}
        raise ModelError(
            f"{file}: input '{label(inputs[0].name)}'",
            f"has the element type {names.get(type_, type_)}",
            "give the model an input of uint8, int8 or float",
        )
    return inputs[0], _INPUT_FORMATS[type_]


def _input_shape(value: onnx.ValueInfoProto, file: str) -> Shape:
    """Return the input's shape; only the first dimension may be symbolic or missing, and becomes 1."""
    where = f"{file}: input '{label(value.name)}'"
    fix = "export the model with fixed sizes for every dimension but the first"
    if not value.type.tensor_type.HasField("shape") or not value.type.tensor_type.shape.dim:
        raise ModelError(where, "has no shape", fix)
    shape: list[int] = []
    for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
        if dimension.HasField("dim_value"):
            shape.append(dimension.dim_value)
        elif axis == 0:
            shape.append(1)
        else:
            name = f" ('{label(dimension.dim_param)}')" if dimension.dim_param else ""
            raise ModelError(where, f"has a dynamic dimension {axis}{name}", fix)
    size = 1
    for n in shape:
        size *= n
        if n < 1 or size > MAX_ELEMENTS:
            raise ModelError(where, f"has the shape {tuple(shape)}; sizes are 1 to {MAX_ELEMENTS:,} values", fix)
    return tuple(shape)


def _result(graph: onnx.GraphProto, file: str) -> str:
    if len(graph.output) != 1:
        listed = _listed(value.name for value in graph.output)
        raise ModelError(file, f"has {len(graph.output)} outputs{listed}", "export a model with one output")
    return str(graph.output[0].name)


def _listed(names: Iterable[str]) -> str:
    """Return the first names in parentheses."""
    shown = [f"'{label(name)}'" for name in names]
    return f" ({', '.join(shown[:5])}{', ...' * (len(shown) > 5)})" if shown else ""


def _execution_order(
    graph: onnx.GraphProto, sources: Sequence[Source], given: set[str], result: str, file: str
) -> list[int]:
    """Return the indices of the nodes that the result needs, each after those it reads.

    Raises:
        ModelError: a tensor is written twice, read but never written, or needs itself.
    """
    writers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in writers or name in given:
                raise ModelError(
                    sources[index], f"writes tensor '{label(name)}' a second time", "rename one of the two tensors"
                )
            writers[name] = index
    if result not in writers and result not in given:
        raise ModelError(f"{file}: output '{label(result)}'", "is written by no node", "export the model again")
    order: list[int] = []
    done: set[int] = set()
    open_: dict[int, None] = {}
    stack = [writers[result]] if result in writers else []
    while stack:
        index = stack[-1]
        if index in done or index in open_:
            stack.pop()
            if index not in done:
                done.add(index)
                del open_[index]
                order.append(index)
            continue
        open_[index] = None
        for name in read_by(graph.node[index]):
            if name in writers:
                if writers[name] in open_:
                    raise ModelError(
                        sources[index], f"needs tensor '{label(name)}', which needs its output: a cycle",
                        "export the model again",
                    )  # fmt: skip
                stack.append(writers[name])
            elif name not in given:
                raise ModelError(
                    sources[index], f"reads tensor '{label(name)}', which nothing writes", "export the model again"
                )
    return order


def _read_names(graph: onnx.GraphProto, order: Iterable[int], result: str) -> frozenset[str]:
    """Return the tensors that the needed nodes and the result read."""
    return frozenset({result, *(name for index in order for name in read_by(graph.node[index]))})
