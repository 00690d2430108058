"""PyTorch front-end: a module or a saved torch.export program becomes a graph of real operators."""

import json
import logging
import math
import operator
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mcucompile.errors import ModelError, ToolError

try:
    import torch
except ModuleNotFoundError as error:
    # torch is an extra. Whoever imports this file wants to read a model of it.
    raise ToolError(
        "torch",
        "is not installed; it reads .pt2 files and modules",
        "pip install 'mcucompile[torch]', or export the model to ONNX",
    ) from error
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument

# Imported for its effect: it registers mcucompile::four_view, which a saved program may call.
import mcucompile.nn.four_view  # noqa: F401
from mcucompile.frontends.builder import MAX_ELEMENTS, Activation, Builder, Constant, Kind, Value
from mcucompile.frontends.files import MAX_FILE_BYTES, read_file
from mcucompile.frontends.names import c_name, first_line, label
from mcucompile.frontends.refusals import Refusal, RefusalError, unsupported
from mcucompile.frontends.torch_call import Call
from mcucompile.frontends.torch_ops import ADVICE, CONVERTERS
from mcucompile.ir import Format, Graph, Shape, Source

_INPUT_FORMATS = {
    torch.uint8: Format(8, False),
    torch.int8: Format(8, True),
    torch.float32: None,
    torch.float64: None,
    torch.float16: None,
    torch.bfloat16: None,
}
# The shape arithmetic that a symbolic batch leaves in the graph.
_INTEGER_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    {operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg}
)
_MODEL_JSON = "models/model.json"
# Compiled code inside of an archive: loading it would run it.
_NATIVE_CODE = "data/aotinductor/"


def load_module(module: torch.nn.Module, example_inputs: tuple[Any, ...], name: str) -> Graph:
    """Trace a module with torch.export and convert it to a graph of real operators.

    Args:
        module: in evaluation mode.
        example_inputs: one tensor, shaped as the firmware shall take it: with a batch of 1, if there is one.
            uint8 or int8 means raw integers.
        name: of the graph, made a C identifier.
    Raises:
        ModelError: the module cannot be traced, or its constants are not finite.
        UnsupportedError: it calls operators that cannot be compiled; all are listed.
    """
    if not isinstance(module, torch.nn.Module):
        raise ModelError(name, f"is a {type(module).__name__}, not a torch.nn.Module", "pass a module")
    if any(child.training for child in module.modules()):
        raise ModelError(name, "is in training mode", "call module.eval() before compiling")
    if not (
        isinstance(example_inputs, tuple) and len(example_inputs) == 1 and isinstance(example_inputs[0], torch.Tensor)
    ):
        raise ModelError(name, "needs exactly one input tensor", "pass example_inputs=(tensor,)")
    try:
        with _quiet():
            program = torch.export.export(module, example_inputs, strict=False)
    except Exception as error:
        # Tracing runs the user's code: anything can come out of it.
        raise ModelError(
            name,
            f"cannot be traced by torch.export ({type(error).__name__}: {first_line(error)})",
            "make the module run on the example inputs, without data-dependent control flow",
        ) from error
    return graph_from_program(program, name)


def load_exported(path: Path | str) -> Graph:
    """Load a .pt2 file that torch.export.save wrote and convert it; errors as in `load_module`.

    Nothing of the program is executed, but torch.export.load itself may unpickle parts of the archive, and
    a pickle can run code: load only files that you trust. Archives with native code are refused.

    Raises:
        ModelError: the file is missing, damaged, or not readable by the installed torch.
    """
    path = Path(path)
    read_file(path)
    saved_by = _check_archive(path)
    try:
        with _quiet():
            program = torch.export.load(path)
    except Exception as error:
        # The archive's content is anything: torch raises whatever its parsers raise.
        raise ModelError(
            path,
            f"cannot be loaded by torch {torch.__version__}, saved by {saved_by} "
            f"({type(error).__name__}: {first_line(error).split('. ')[0]})",
            "save it again with torch.export.save and the installed torch, or export it to ONNX",
        ) from error
    return graph_from_program(program, path.name)


def graph_from_program(program: ExportedProgram, file: str) -> Graph:
    """Convert an exported program, taken apart by torch's decompositions or not; errors as in `load_module`.

    Args:
        program: with one input tensor and one output tensor.
        file: its name, for errors and for the graph's name.
    """
    if any(_operator(node) and _operator(node)._schema.is_mutable for node in program.graph.nodes):
        # In-place operators: an empty table only makes them pure.
        with _quiet():
            program = program.run_decompositions({})
    given, result = _interface(program, file)
    builder = Builder(file)
    values = _constants(program, file)
    shape, format_ = _input(given, file)
    values[given] = builder.input(label(given.name), shape, format_)
    refusals: list[Refusal] = []
    for node in _needed(program.graph, result):
        if node in values:
            continue
        source = _source(node, file)
        try:
            values[node] = _convert(node, source, values, builder)
        except RefusalError as refusal:
            refusals.append(Refusal(source, refusal.reason, refusal.fix))
            values[node] = _placeholder(node)
        except ModelError as error:
            # What stands in for a refused call's output may contradict the calls after it: the refusal is the cause.
            if refusals:
                raise unsupported(file, refusals) from error
            raise
    if refusals:
        raise unsupported(file, refusals)
    output = values[result]
    if not isinstance(output, Activation):
        raise ModelError(file, "returns something that does not depend on its input", "return the network's output")
    return builder.finish(c_name(Path(file).stem), output)


def _convert(node: fx.Node, source: Source, values: Mapping[fx.Node, Any], builder: Builder) -> Any:
    """Return a call's output; None if an input is unknown because an earlier call was refused."""
    target = _operator(node)
    unknown = any(values[read] is None for read in node.all_input_nodes)
    if target is None:
        return None if unknown else _function(node, values)
    name: str = target._schema.name
    arguments = _arguments(node, target, values)
    if name == "aten::sym_size" and isinstance(arguments["self"], Activation):
        return arguments["self"].shape[arguments["dim"]]
    if not unknown and not any(isinstance(values[read], Activation) for read in node.all_input_nodes):
        return _evaluated(node, target, arguments)
    if name not in CONVERTERS:
        raise RefusalError("is not supported", ADVICE)
    if unknown:
        return None
    type_ = _type(node)
    is_real = type_ is not None and type_.is_floating_point
    builder.at(source)
    value = CONVERTERS[name](Call(source, arguments, is_real, type_ == _type(node.all_input_nodes[0])), builder)
    if isinstance(value, tuple):
        return tuple(_of_type(part, is_real) for part in value)
    named = _of_type(value, is_real)
    return builder.rename(named, label(node.name)) if isinstance(named, Activation) else named


def _of_type(value: Value, is_real: bool) -> Value:
    return replace(value, kind=Kind.REAL) if is_real and isinstance(value, Activation) else value


def _function(node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    """Return the result of a Python function on whole numbers, or an item of an operator's outputs."""
    arguments = fx.map_arg(node.args, lambda read: values[read])
    if node.target is operator.getitem and isinstance(arguments[0], tuple) and isinstance(arguments[1], int):
        return arguments[0][arguments[1]]
    if node.target is operator.getitem and isinstance(arguments[0], Activation):
        if arguments[1] != 0:
            raise RefusalError("uses a further output of an operator", "use only its first output")
        return arguments[0]
    if node.target in _INTEGER_FUNCTIONS and all(isinstance(value, int) for value in arguments):
        return node.target(*arguments)
    raise RefusalError("is not supported", ADVICE)


def _evaluated(node: fx.Node, target: torch._ops.OpOverload, arguments: Mapping[str, Any]) -> Any:
    """Run an operator on constants: a transposed weight, a folded scale."""
    outputs = [
        value for value in fx.node.map_aggregate([node.meta.get("val")], lambda value: value) if value is not None
    ]
    size = sum(math.prod(value.shape) for value in outputs if isinstance(value, torch.Tensor))
    if torch.Tag.nondeterministic_seeded in target.tags or not size <= MAX_ELEMENTS:
        raise RefusalError("makes random or too many constants", "store them as a buffer of the module")
    tensors = {
        name: torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
        for name, value in arguments.items()
    }
    positional = [tensors.pop(a.name) for a in target._schema.arguments if not a.kwarg_only and a.name in tensors]
    try:
        with torch.no_grad():
            result = target(*positional, **tensors)
    except (RuntimeError, TypeError, ValueError) as error:
        raise RefusalError(f"cannot be computed from its constants ({first_line(error)})", "export again") from error
    return _array(result) if isinstance(result, torch.Tensor) else result


def _arguments(node: fx.Node, target: torch._ops.OpOverload, values: Mapping[fx.Node, Any]) -> dict[str, Any]:
    """Return a call's arguments by their names in the schema, defaults included."""
    schema = target._schema.arguments
    arguments = {argument.name: argument.default_value for argument in schema}
    arguments |= dict(zip((argument.name for argument in schema), node.args, strict=False)) | dict(node.kwargs)
    resolved: dict[str, Any] = fx.map_arg(arguments, lambda read: values[read])
    return resolved


def _operator(node: fx.Node) -> Any:
    """Return the ATen or library operator that a node calls, None for anything else."""
    return node.target if isinstance(node.target, torch._ops.OpOverload) else None


def _interface(program: ExportedProgram, file: str) -> tuple[fx.Node, fx.Node]:
    """Return the node of the only input and that of the only output."""
    nodes = {node.name: node for node in program.graph.nodes}
    inputs = [spec.arg for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    outputs = [spec.arg for spec in program.graph_signature.output_specs if spec.kind is OutputKind.USER_OUTPUT]
    for what, found in (("input", inputs), ("output", outputs)):
        if len(found) != 1 or not isinstance(found[0], TensorArgument) or found[0].name not in nodes:
            raise ModelError(file, f"has not exactly one {what} tensor", f"export a module with one {what} tensor")
    return nodes[inputs[0].name], nodes[outputs[0].name]


def _input(given: fx.Node, file: str) -> tuple[Shape, Format | None]:
    """Return the input's shape, a symbolic first dimension set to 1, and its format."""
    where = f"{file}: input '{label(given.name)}'"
    tensor = given.meta.get("val")
    if not isinstance(tensor, torch.Tensor) or tensor.dtype not in _INPUT_FORMATS:
        kind = str(tensor.dtype) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise ModelError(where, f"is {kind}", "give the module an input of uint8, int8 or float")
    shape = []
    for axis, size in enumerate(tensor.shape):
        if not isinstance(size, int) and axis:
            raise ModelError(
                where, f"has a dynamic dimension {axis}", "export with fixed sizes for every dimension but the first"
            )
        shape.append(size if isinstance(size, int) else 1)
    if not shape or not 0 < math.prod(shape) <= MAX_ELEMENTS:
        raise ModelError(where, f"has the shape {tuple(shape)}", f"use sizes of 1 to {MAX_ELEMENTS:,} values")
    return tuple(shape), _INPUT_FORMATS[tensor.dtype]


def _constants(program: ExportedProgram, file: str) -> dict[fx.Node, Any]:
    """Return parameters, buffers and lifted constants by their placeholder."""
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    stored = {**program.state_dict, **program.constants}
    values: dict[fx.Node, Any] = {}
    total = 0
    for spec in program.graph_signature.input_specs:
        tensor = stored.get(spec.target or "")
        if spec.kind is InputKind.USER_INPUT or not isinstance(tensor, torch.Tensor):
            continue
        where = f"{file}: tensor '{label(spec.target or '')}'"
        total += tensor.numel()
        if total > MAX_ELEMENTS:
            raise ModelError(where, f"is one too many: a model may have {MAX_ELEMENTS:,} constants", "use fewer")
        if tensor.is_complex() or tensor.is_quantized or tensor.layout is not torch.strided:
            raise ModelError(where, f"holds {tensor.dtype}, {tensor.layout}", "use dense real parameters")
        array = _array(tensor)
        if array.dtype == np.float32 and not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise ModelError(where, f"holds {array[index]} at {list(index)} (as float32)", "re-train the module")
        values[placeholders[spec.arg.name]] = array
    return values


def _array(tensor: torch.Tensor) -> Constant:
    """Return a tensor as an array: float32 for every real type."""
    plain = tensor.detach().cpu()
    return np.asarray((plain.float() if plain.is_floating_point() else plain).numpy())


def _needed(graph: fx.Graph, result: fx.Node) -> list[fx.Node]:
    """Return the nodes the result depends on, in order."""
    needed = {result}
    for node in reversed(graph.nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    return [node for node in graph.nodes if node in needed]


def _placeholder(node: fx.Node) -> Activation | None:
    """Return what a refused call would give, so that the calls after it are looked at too; None if unknown."""
    tensor = node.meta.get("val")
    if not isinstance(tensor, torch.Tensor):
        return None
    shape = tuple(size if isinstance(size, int) else 1 for size in tensor.shape)
    return Activation(node.name, shape) if 0 < math.prod(shape) <= MAX_ELEMENTS else None


def _type(node: fx.Node) -> torch.dtype | None:
    """Return the element type of a node's (first) output."""
    value = node.meta.get("val")
    first = value[0] if isinstance(value, tuple | list) and value else value
    return first.dtype if isinstance(first, torch.Tensor) else None


def _source(node: fx.Node, file: str) -> Source:
    """Return a call's place: the path of the layer that makes it, its own name outside of layers."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    is_layer = kind.startswith(("torch.nn.modules.", "mcucompile.nn.")) and path
    target = _operator(node)
    called = target._schema.name.replace("::", ".") if target else getattr(node.target, "__name__", str(node.target))
    return Source(file, label(str(path) if is_layer else node.name), label(called))


def _check_archive(path: Path) -> str:
    """Refuse what torch would execute or unpack without measure; return the version of torch that saved it."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if any(_NATIVE_CODE in entry.filename for entry in entries):
                raise ModelError(path, "holds native code", "save the program with torch.export.save")
            if sum(entry.file_size for entry in entries) > 2 * MAX_FILE_BYTES:
                raise ModelError(path, "unpacks to too much data", "compile a smaller network")
            described = [entry for entry in entries if entry.filename.endswith(_MODEL_JSON)]
            model = json.loads(archive.read(described[0])) if described else {}
            version = model.get("torch_version") if isinstance(model, dict) else None
            return label(f"torch {version}") if version else "an unknown version of torch"
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        NotImplementedError,
        RuntimeError,
        RecursionError,
        zlib.error,
    ) as error:
        raise ModelError(
            path, "is not a saved torch program, or is damaged", "save it again with torch.export.save"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's warnings and logged tracebacks from the user: what matters becomes an error of ours."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
