"""The calls of layers that a module makes, in order, found by torch.fx; functions become the layers they mean."""

import copy
import operator
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from mcucompile.errors import ModelError, UnsupportedError
from mcucompile.frontends.names import first_line
from mcucompile.nn.export_layers import ONNX_FORMS, is_gemm, refusal
from mcucompile.nn.standardize import Standardize, fold_standardize

# Samples in the blank batch that finds the shapes: with one, a view that mixes samples would not show.
_BATCH = 2


class Addition(nn.Module):
    """Stands for x + y in a list of calls."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a layer.

    Attributes:
        name: the layer's dotted name in the module, or what torch.fx called the function.
        layer: one that has an ONNX form, or Addition.
        inputs: the calls whose outputs it takes, by their places in the list; -1 is the module's input.
    """

    name: str
    layer: nn.Module
    inputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Calls:
    """All calls of a module, in an order in which they can run.

    Attributes:
        calls: a call takes outputs of calls before it.
        result: the call whose output (n, outputs) the module returns, -1 if it returns its input.
        outputs: number of outputs of one sample.
    """

    calls: tuple[Call, ...]
    result: int
    outputs: int


def _relu(inplace: bool = False) -> nn.Module:
    return nn.ReLU(inplace)


def _flatten(start_dim: int = 0, end_dim: int = -1) -> nn.Module:
    return nn.Flatten(start_dim, end_dim)


def _max_pool(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> nn.Module:
    return nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)


def _dropout(p: float = 0.5, training: bool = True, inplace: bool = False) -> nn.Module:
    return nn.Dropout(p, inplace).train(training)


# The layer that a function stands for: called with the function's arguments after the activation.
_FUNCTIONS: dict[object, Callable[..., nn.Module]] = {
    torch.relu: _relu,
    functional.relu: _relu,
    "relu": _relu,
    "relu_": lambda: nn.ReLU(inplace=True),
    torch.flatten: _flatten,
    "flatten": _flatten,
    functional.max_pool2d: _max_pool,
    functional.avg_pool2d: nn.AvgPool2d,
    functional.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    functional.dropout: _dropout,
}
_IN_PLACE_ADDITIONS = frozenset({operator.iadd, "add_"})
_ADDITIONS = _IN_PLACE_ADDITIONS | {operator.add, torch.add, "add"}
_VIEWS = frozenset({torch.reshape, "view", "reshape"})
# What asks for a shape leaves no call: a view's shape is known from the blank batch.
_SHAPES = frozenset({getattr, operator.getitem, "size"})
_Layers = dict[fx.Node, nn.Module | None]


class _Tracer(fx.Tracer):
    """Follows a module down to the layers that have an ONNX form, and to torch's own layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in ONNX_FORMS or super().is_leaf_module(m, module_qualified_name)


class _BlankRun(fx.Interpreter):
    """Runs a blank batch through a traced module and keeps the shape of every tensor."""

    def __init__(self, traced: fx.GraphModule, layers: _Layers, where: str) -> None:
        super().__init__(traced)
        # An error of a layer is told in one line.
        self.extra_traceback = False
        self.layers = layers
        self.where = where
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        try:
            result = super().run_node(n)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            before = " and ".join(str(self.shapes[node]) for node in n.all_input_nodes if node in self.shapes)
            raise ModelError(
                f"{self.where}: layer '{_name(n)}' ({_kind(n, self.layers.get(n))})",
                f"does not take an input of shape {before}: {first_line(error)}",
                "give the input_shape that the module was trained with, without the batch",
            ) from error
        if torch.is_tensor(result):
            self.shapes[n] = tuple(result.shape)
        return result


def calls_of(module: nn.Module, input_shape: Sequence[int], where: str) -> Calls:
    """Return the calls a module makes.

    Args:
        module: in evaluation mode; it is not changed.
        input_shape: of one sample, without the batch.
        where: the place for errors.
    Raises:
        UnsupportedError: the module cannot be traced, or layers have no ONNX form; all are listed.
        ModelError: the shapes of the layers do not fit together, or the result is not (n, outputs).
    """
    traced = _trace(module, where)
    layers = {node: _layer(node, traced) for node in traced.graph.nodes if node.op not in {"placeholder", "output"}}
    _fold_standardize(layers)
    _refuse(where, ((node, layer, _refusal(node, layer)) for node, layer in layers.items()))
    run = _BlankRun(traced, layers, where)
    with torch.no_grad():
        result = run.run(torch.zeros((_BATCH, *input_shape)))
    shape = tuple(getattr(result, "shape", ()))
    if len(shape) != 2 or shape[0] != _BATCH:
        raise ModelError(where, f"gives {shape} for {_BATCH} samples", "end the module in (n, outputs)")
    flattening = [node for node in layers if _is_view(node) and _flattens(node, run.shapes)]
    layers |= {node: nn.Flatten() for node in flattening}
    _refuse(where, ((node, layer, _shape_refusal(node, layer, run.shapes)) for node, layer in layers.items()))
    return _in_order(traced.graph, layers, shape[1])


def _trace(module: nn.Module, where: str) -> fx.GraphModule:
    """Return the module as a graph of calls with one input and one result, on the CPU, in float32."""
    module = copy.deepcopy(module).to("cpu", torch.float32)
    tracer = _Tracer()
    if tracer.is_leaf_module(module, ""):
        module = nn.Sequential(OrderedDict({type(module).__name__.lower(): module})).eval()
    try:
        graph = tracer.trace(module)
    except Exception as error:
        # Tracing runs the user's code: anything can come out of it.
        raise UnsupportedError(
            where,
            f"cannot be traced by torch.fx ({type(error).__name__}: {first_line(error)})",
            "write forward() without control flow that depends on activations",
        ) from error
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    results = [node.args[0] for node in graph.nodes if node.op == "output"]
    if len(inputs) != 1 or not isinstance(results[0], fx.Node):
        raise UnsupportedError(where, "has not one input and one output tensor", "export a module that has")
    return fx.GraphModule(module, graph)


def _layer(node: fx.Node, traced: fx.GraphModule) -> nn.Module | None:
    """Return the layer that a node calls or that its function stands for, None if there is none."""
    if node.op == "call_module":
        return traced.get_submodule(str(node.target))
    if node.target in _ADDITIONS:
        operands = [*node.args, *node.kwargs.values()]
        return Addition() if len(operands) == 2 and all(isinstance(x, fx.Node) for x in operands) else None
    if node.target in _FUNCTIONS and len(node.all_input_nodes) == 1:
        further = {key: value for key, value in node.kwargs.items() if key != "input"}
        return _FUNCTIONS[node.target](*node.args[1:], **further)
    return None


def _fold_standardize(layers: _Layers) -> None:
    """Merge each Standardize into the Linear that alone takes its output."""
    for node, layer in layers.items():
        before = node.all_input_nodes[0] if node.all_input_nodes else node
        standardize = layers.get(before)
        if is_gemm(layer) and isinstance(standardize, Standardize) and len(before.users) == 1:
            layers[node] = fold_standardize(standardize, layer)
            layers[before] = nn.Identity()


def _activations(node: fx.Node, layer: nn.Module) -> list[fx.Node]:
    """Return the tensors that a layer takes, one of them twice if it is added to itself."""
    arguments = [argument for argument in (*node.args, *node.kwargs.values()) if isinstance(argument, fx.Node)]
    return arguments if isinstance(layer, Addition) else arguments[:1]


def _name(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _kind(node: fx.Node, layer: nn.Module | None) -> str:
    return getattr(node.target, "__name__", str(node.target)) if layer is None else type(layer).__name__


def _refuse(where: str, reasons: Iterable[tuple[fx.Node, nn.Module | None, str | None]]) -> None:
    """List every node that has a reason not to be exported; return if there is none."""
    refused = [f"'{_name(node)}' ({_kind(node, layer)}: {reason})" for node, layer, reason in reasons if reason]
    if refused:
        known = ", ".join(dict.fromkeys(layer.__name__ for layer in ONNX_FORMS))
        raise UnsupportedError(
            where, f"layers that cannot be exported: {', '.join(refused)}", f"build the module from {known}"
        )


def _refusal(node: fx.Node, layer: nn.Module | None) -> str | None:
    """Return why a node cannot be exported whatever the shapes are."""
    if layer is not None:
        return None if isinstance(layer, Addition) else refusal(layer)
    if node.op == "get_attr":
        return "a parameter outside of a layer"
    if node.target in _ADDITIONS:
        return "only of two activations"
    return None if node.target in _VIEWS | _SHAPES else "no ONNX form here"


def _is_view(node: fx.Node) -> bool:
    return node.op in {"call_function", "call_method"} and node.target in _VIEWS


def _flattens(node: fx.Node, shapes: Mapping[fx.Node, tuple[int, ...]]) -> bool:
    """Return whether a view flattens each sample and nothing else."""
    return len(shapes[node]) == 2 and shapes[node][0] == shapes[node.all_input_nodes[0]][0]


def _shape_refusal(node: fx.Node, layer: nn.Module | None, shapes: Mapping[fx.Node, tuple[int, ...]]) -> str | None:
    """Return why a node cannot be exported with the shapes it has; what is no tensor needs no node."""
    if layer is None and node in shapes:
        return "only as (n, -1)" if _is_view(node) else "no ONNX form here"
    if is_gemm(layer) and len(shapes[node]) != 2:
        return "only of inputs (n, features)"
    return None


def _in_order(graph: fx.Graph, layers: _Layers, outputs: int) -> Calls:
    """Return the calls; whoever reads a tensor after a layer changed it in place reads the changed one."""
    calls: list[Call] = []
    values: dict[fx.Node, int] = {}
    for node in graph.nodes:
        layer = layers.get(node)
        if node.op == "placeholder":
            values[node] = -1
        elif layer is not None:
            inputs = [values[argument] for argument in _activations(node, layer)]
            values[node] = len(calls)
            calls.append(Call(_name(node), layer, tuple(inputs)))
            if node.target in _IN_PLACE_ADDITIONS or getattr(layer, "inplace", False):
                values = {read: values[node] if value == inputs[0] else value for read, value in values.items()}
        elif node.op == "output":
            result = values[node.args[0]]
    return Calls(tuple(calls), result, outputs)
