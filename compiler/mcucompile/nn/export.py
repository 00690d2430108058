"""Sequential torch modules to ONNX files that keep the four-view layer as one node.

torch.onnx.export would take the layer apart; here each module becomes the one node that means it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mcucompile.errors import ModelError, ProjectError, UnsupportedError
from mcucompile.nn.four_view import FourView
from mcucompile.nn.standardize import Standardize, fold_standardize
from mcucompile.ops.four_view_function import DOMAIN, NAME, OPSET, four_view_function

IR_VERSION = 10


@dataclass(slots=True)
class _Nodes:
    """The nodes and initializers made so far; `last` is the newest tensor."""

    last: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, values: torch.Tensor) -> str:
        array = np.ascontiguousarray(values.detach().cpu().numpy().astype(np.float32))
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op_type: str, name: str, *constants: str, **attributes: object) -> None:
        output = f"{name}_output"
        node = helper.make_node(op_type, [self.last, *constants], [output], name=name, **attributes)  # type: ignore[arg-type]
        self.nodes.append(node)
        self.last = output


def _four_view(nodes: _Nodes, name: str, layer: FourView) -> None:
    attributes = {"zone_height": layer.zone_height, "zone_width": layer.zone_width, "shift": layer.shift}
    nodes.add(NAME, name, domain=DOMAIN, **attributes)


def _flatten(nodes: _Nodes, name: str, _layer: nn.Flatten) -> None:
    nodes.add("Flatten", name, axis=1)


def _linear(nodes: _Nodes, name: str, layer: nn.Linear) -> None:
    constants = [nodes.constant(f"{name}.weight", layer.weight)]
    if layer.bias is not None:
        constants.append(nodes.constant(f"{name}.bias", layer.bias))
    nodes.add("Gemm", name, *constants, transB=1)


def _conv(nodes: _Nodes, name: str, layer: nn.Conv2d) -> None:
    constants = [nodes.constant(f"{name}.weight", layer.weight)]
    if layer.bias is not None:
        constants.append(nodes.constant(f"{name}.bias", layer.bias))
    nodes.add(
        "Conv",
        name,
        *constants,
        strides=list(layer.stride),
        pads=[int(size) for size in layer.padding] * 2,
        dilations=list(layer.dilation),
        group=layer.groups,
    )


def _max_pool(nodes: _Nodes, name: str, layer: nn.MaxPool2d) -> None:
    size, stride = _pair(layer.kernel_size), _pair(layer.stride)
    nodes.add("MaxPool", name, kernel_shape=size, strides=stride, pads=_pair(layer.padding) * 2)


def _pair(size: int | tuple[int, ...]) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)


def _unsqueeze(nodes: _Nodes, name: str, _layer: nn.Unflatten) -> None:
    shape = f"{name}.axis"
    nodes.initializers.append(numpy_helper.from_array(np.array([1]), shape))
    nodes.add("Unsqueeze", name, shape)


def _relu(nodes: _Nodes, name: str, _layer: nn.ReLU) -> None:
    nodes.add("Relu", name)


def _batch_norm(nodes: _Nodes, name: str, layer: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    constants = {
        "weight": torch.ones(layer.num_features) if layer.weight is None else layer.weight,
        "bias": torch.zeros(layer.num_features) if layer.bias is None else layer.bias,
        "running_mean": layer.running_mean,
        "running_var": layer.running_var,
    }
    names = [nodes.constant(f"{name}.{key}", value) for key, value in constants.items()]
    nodes.add("BatchNormalization", name, *names, epsilon=layer.eps)


def _nothing(_nodes: _Nodes, _name: str, _layer: nn.Dropout | nn.Identity) -> None:
    """At inference the layer passes its input on."""


# One row per layer that can be exported; the function adds the layer's nodes.
_EXPORTS: dict[type[nn.Module], Callable[[_Nodes, str, nn.Module], None]] = {
    FourView: _four_view,  # type: ignore[dict-item]
    nn.Flatten: _flatten,  # type: ignore[dict-item]
    nn.Linear: _linear,  # type: ignore[dict-item]
    nn.Conv2d: _conv,  # type: ignore[dict-item]
    nn.MaxPool2d: _max_pool,  # type: ignore[dict-item]
    nn.Unflatten: _unsqueeze,  # type: ignore[dict-item]
    nn.ReLU: _relu,  # type: ignore[dict-item]
    nn.BatchNorm1d: _batch_norm,  # type: ignore[dict-item]
    nn.BatchNorm2d: _batch_norm,  # type: ignore[dict-item]
    nn.Dropout: _nothing,  # type: ignore[dict-item]
    nn.Identity: _nothing,  # type: ignore[dict-item]
}


def _layers(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of (nested) sequential modules in the order they run, with their dotted names."""
    if not isinstance(module, nn.Sequential):
        yield prefix or type(module).__name__.lower(), module
        return
    for name, child in module.named_children():
        yield from _layers(child, f"{prefix}.{name}" if prefix else name)


def _refusal(layer: nn.Module) -> str | None:
    """Return why a layer cannot be exported, None if it can."""
    if type(layer) not in _EXPORTS:
        return "no ONNX form here"
    reason = None
    if isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) != (1, -1):
        reason = "only start_dim=1, end_dim=-1 keeps the batch"
    elif isinstance(layer, nn.Unflatten) and (layer.dim != 1 or [*layer.unflattened_size][:-1] != [1]):
        reason = "only Unflatten(1, (1, n)) adds the axis of channels"
    elif isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        reason = "only padding by a number of zeros"
    elif isinstance(layer, nn.MaxPool2d) and (
        layer.ceil_mode or layer.return_indices or _pair(layer.dilation) != [1, 1]
    ):
        reason = "only without ceil_mode, return_indices and dilation"
    elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.running_mean is None:
        reason = "it has no running statistics"
    return reason


def _fold_standardize(layers: list[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    """Merge each Standardize into the Linear that directly follows it."""
    result: list[tuple[str, nn.Module]] = []
    for name, layer in layers:
        if isinstance(layer, nn.Linear) and result and isinstance(result[-1][1], Standardize):
            result[-1] = (name, fold_standardize(result[-1][1], layer))
        else:
            result.append((name, layer))
    return result


def _output_features(layers: list[tuple[str, nn.Module]], input_shape: Sequence[int], where: str) -> int:
    """Run a blank input through the layers; return the number of outputs or name the layer that fails."""
    x = torch.zeros((1, *input_shape))
    for name, layer in layers:
        before = tuple(x.shape)
        try:
            with torch.no_grad():
                x = layer.to("cpu", torch.float32)(x)
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"{where}: layer '{name}' ({type(layer).__name__})",
                f"does not take an input of shape {before}: {str(error).splitlines()[0]}",
                "give the input_shape that the module was trained with, without the batch",
            ) from error
    if x.ndim != 2:
        raise ModelError(where, f"gives an output of shape {tuple(x.shape)}", "end the module in (n, outputs)")
    return int(x.shape[1])


def to_onnx(module: nn.Module, input_shape: Sequence[int], name: str) -> onnx.ModelProto:
    """Build the ONNX model (IR 10, opset 21) of a trained sequential module.

    Args:
        module: nn.Sequential, may be nested, in evaluation mode, of FourView, Flatten, Unflatten(1, (1, n)),
            Linear, Conv2d, MaxPool2d, ReLU, BatchNorm1d, BatchNorm2d, Dropout, Identity, and Standardize
            directly before a Linear (folded into it).
        input_shape: of one sample, without the batch.
        name: of the graph.
    Returns:
        A model from `input`, uint8 (N, *input_shape) with symbolic N, through a Cast to `logits`,
        float32 (N, outputs). Weights keep the names they have in the module.
    Raises:
        UnsupportedError: the module is in training mode, or layers have no ONNX form; all are listed.
        ModelError: the shapes of the layers do not fit together.
    """
    layers = _fold_standardize(list(_layers(module)))
    refused = [
        f"'{label}' ({type(layer).__name__}: {reason})" for label, layer in layers if (reason := _refusal(layer))
    ]
    if refused:
        known = ", ".join(layer.__name__ for layer in _EXPORTS)
        raise UnsupportedError(
            name, f"layers that cannot be exported: {', '.join(refused)}", f"build the module from {known}"
        )
    if any(layer.training for layer in module.modules()):
        raise UnsupportedError(name, "the module is in training mode", "call module.eval() before the export")
    outputs = _output_features(layers, input_shape, name)
    graph = _Nodes(last="input")
    graph.add("Cast", "to_float", to=TensorProto.FLOAT)
    for label, layer in layers:
        _EXPORTS[type(layer)](graph, label, layer)
    graph.nodes[-1].output[0] = "logits"
    has_four_view = any(isinstance(layer, FourView) for _, layer in layers)
    opsets = [helper.make_opsetid("", OPSET)] + [helper.make_opsetid(DOMAIN, 1)] * has_four_view
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            name,
            [helper.make_tensor_value_info("input", TensorProto.UINT8, ["N", *input_shape])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", outputs])],
            graph.initializers,
        ),
        functions=[four_view_function()] if has_four_view else [],
        opset_imports=opsets,
        ir_version=IR_VERSION,
        producer_name="mcucompile",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def export_onnx(module: nn.Module, path: str | Path, input_shape: Sequence[int], name: str) -> None:
    """Write the ONNX file of a trained sequential module; arguments and errors as in `to_onnx`.

    Raises:
        ProjectError: the file cannot be written; also everything that `to_onnx` raises.
    """
    model = to_onnx(module, input_shape, name)
    try:
        Path(path).write_bytes(model.SerializeToString(deterministic=True))
    except OSError as error:
        raise ProjectError(path, f"cannot be written: {error.strerror}", "choose a folder that is writable") from error
