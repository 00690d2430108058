"""What each torch layer becomes in an ONNX file: its nodes, and what of it has no ONNX form here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import Tensor, nn, ones, tensor, zeros

from mcucompile.nn.activation import RectifiedAngle, Scale
from mcucompile.nn.four_view import FourView
from mcucompile.nn.layers import Conv1d, Conv2d, Linear
from mcucompile.nn.standardize import Standardize
from mcucompile.ops.four_view_function import four_view_function
from mcucompile.similarities.onnx_functions import Kind, function_of, node_type
from mcucompile.similarities.trig.torch_face import QUARTER_TURN


@dataclass(slots=True)
class Nodes:
    """The nodes, initializers and model-local functions made so far; every node has a name of its own."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    functions: dict[str, onnx.FunctionProto] = field(default_factory=dict)

    def unused(self, name: str) -> str:
        """Return the name, with a number after it if a layer that is called twice has taken it."""
        taken = {node.name for node in self.nodes}
        candidates = (name, *(f"{name}_{number}" for number in range(1, len(taken) + 1)))
        return next(candidate for candidate in candidates if candidate not in taken)

    def constant(self, name: str, values: Tensor) -> str:
        """Add an initializer, float32 or int64, and return its name."""
        array = values.detach().cpu().numpy()
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, op_type: str, name: str, *inputs: str, **attributes: object) -> str:
        """Add a node and return the name of its output."""
        output = f"{name}_output"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=name, **attributes))  # type: ignore[arg-type]
        return output

    def call(self, function: onnx.FunctionProto, name: str, *inputs: str, **attributes: object) -> str:
        """Add a node that calls a model-local function and return the name of its output."""
        self.functions[function.name] = function
        return self.add(function.name, name, *inputs, domain=function.domain, **attributes)


def _anything(_layer: nn.Module) -> None:
    """Refuse no layer of this type."""


@dataclass(frozen=True, slots=True)
class OnnxForm:
    """How one type of layer is exported.

    Attributes:
        write: adds the nodes of a layer under a name, given the name of its input; returns that of its output.
        refusal: why a layer of this type cannot be exported, None if it can.
    """

    write: Callable[[Nodes, str, str, Any], str]
    refusal: Callable[[Any], str | None] = _anything


def _four_view(nodes: Nodes, name: str, x: str, layer: FourView) -> str:
    attributes = {"zone_height": layer.zone_height, "zone_width": layer.zone_width, "shift": layer.shift}
    return nodes.call(four_view_function(), name, x, **attributes)


def _flatten(nodes: Nodes, name: str, x: str, _layer: nn.Flatten) -> str:
    return nodes.add("Flatten", name, x, axis=1)


def _flatten_refusal(layer: nn.Flatten) -> str | None:
    return None if (layer.start_dim, layer.end_dim) == (1, -1) else "only start_dim=1, end_dim=-1 keeps the batch"


def _unsqueeze(nodes: Nodes, name: str, x: str, _layer: nn.Unflatten) -> str:
    return nodes.add("Unsqueeze", name, x, nodes.constant(f"{name}.axis", ones(1).long()))


def _unsqueeze_refusal(layer: nn.Unflatten) -> str | None:
    adds_axis = layer.dim == 1 and [*layer.unflattened_size][:-1] == [1]
    return None if adds_axis else "only Unflatten(1, (1, n)) adds the axis of channels"


def _standardize(nodes: Nodes, name: str, x: str, layer: Standardize) -> str:
    centred = nodes.add("Sub", f"{name}.centre", x, nodes.constant(f"{name}.mean", layer.mean))
    return nodes.add("Mul", name, centred, nodes.constant(f"{name}.scale", layer.scale))


def _scale(nodes: Nodes, name: str, x: str, layer: Scale) -> str:
    scaled = nodes.add("Mul", f"{name}.scale", x, nodes.constant(f"{name}.factor", tensor(layer.factor)))
    return nodes.add("Add", name, scaled, nodes.constant(f"{name}.offset", tensor(layer.offset)))


def _rectified_angle(nodes: Nodes, name: str, x: str, _layer: RectifiedAngle) -> str:
    lowest = nodes.constant(f"{name}.lowest", zeros(()))
    return nodes.add("Clip", name, x, lowest, nodes.constant(f"{name}.highest", tensor(QUARTER_TURN)))


def _linear(nodes: Nodes, name: str, x: str, layer: nn.Linear) -> str:
    constants = [nodes.constant(f"{name}.weight", layer.weight)]
    if layer.bias is not None:
        constants.append(nodes.constant(f"{name}.bias", layer.bias))
    return nodes.add("Gemm", name, x, *constants, transB=1)


def _conv(nodes: Nodes, name: str, x: str, layer: nn.Conv1d | nn.Conv2d) -> str:
    constants = [nodes.constant(f"{name}.weight", layer.weight)]
    if layer.bias is not None:
        constants.append(nodes.constant(f"{name}.bias", layer.bias))
    return nodes.add("Conv", name, x, *constants, **_geometry(layer))


def _geometry(layer: nn.Conv1d | nn.Conv2d) -> dict[str, object]:
    """Return the attributes of ONNX's Conv."""
    return {
        "strides": [*layer.stride],
        "pads": [int(size) for size in layer.padding] * 2,
        "dilations": [*layer.dilation],
        "group": layer.groups,
    }


def _conv_refusal(layer: nn.Conv1d | nn.Conv2d) -> str | None:
    pads_zeros = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return None if pads_zeros else "only padding by a number of zeros"


def _similarity(nodes: Nodes, name: str, x: str, layer: Linear | Conv1d | Conv2d) -> str:
    """Write the node of a similarity with the weights of inference, then its scale and its bias, if it has them."""
    face = layer.similarity
    if face.name == "dot":
        return _linear(nodes, name, x, layer) if isinstance(layer, Linear) else _conv(nodes, name, x, layer)
    kind: Kind = "Linear" if isinstance(layer, Linear) else "Conv"
    attributes = {} if isinstance(layer, Linear) else _geometry(layer)
    per_channel = (-1, *[1] * (layer.weight.ndim - 2))
    weight = nodes.constant(f"{name}.weight", face.deployed(layer.weight))
    result = nodes.call(function_of(node_type(face.name, kind)), name, x, weight, **attributes)
    scale = face.deployed_scale(layer.weight)
    if scale is not None:
        constant = nodes.constant(f"{name}.scale", scale.reshape(per_channel))
        result = nodes.add("Mul", f"{name}.rescale", result, constant)
    if layer.bias is not None:
        constant = nodes.constant(f"{name}.bias", layer.bias.reshape(per_channel))
        result = nodes.add("Add", f"{name}.add_bias", result, constant)
    return result


def _similarity_refusal(layer: Linear | Conv1d | Conv2d) -> str | None:
    homotopy = getattr(layer.similarity, "homotopy", 1.0)
    return None if homotopy == 1.0 else f"its homotopy is {homotopy:g}, which is no EuclidNet before it is 1"


def _sizes(size: int | tuple[int, ...], rank: int) -> list[int]:
    return [size] * rank if isinstance(size, int) else [*size]


def _rank(layer: nn.Module) -> int:
    """Return the number of spatial axes, which the type's name ends in, as in MaxPool2d."""
    return int(type(layer).__name__[-2])


def _max_pool(nodes: Nodes, name: str, x: str, layer: nn.MaxPool1d | nn.MaxPool2d) -> str:
    return nodes.add("MaxPool", name, x, **_pool_geometry(layer))


def _pool_geometry(layer: nn.MaxPool1d | nn.MaxPool2d | nn.AvgPool1d | nn.AvgPool2d) -> dict[str, object]:
    rank = _rank(layer)
    return {
        "kernel_shape": _sizes(layer.kernel_size, rank),
        "strides": _sizes(layer.stride, rank),
        "pads": _sizes(layer.padding, rank) * 2,
    }


def _max_pool_refusal(layer: nn.MaxPool1d | nn.MaxPool2d) -> str | None:
    is_dilated = any(size != 1 for size in _sizes(layer.dilation, _rank(layer)))
    is_plain = not (layer.ceil_mode or layer.return_indices or is_dilated)
    return None if is_plain else "only without ceil_mode, return_indices and dilation"


def _average_pool(nodes: Nodes, name: str, x: str, layer: nn.AvgPool1d | nn.AvgPool2d) -> str:
    return nodes.add("AveragePool", name, x, **_pool_geometry(layer), count_include_pad=int(layer.count_include_pad))


def _average_pool_refusal(layer: nn.AvgPool1d | nn.AvgPool2d) -> str | None:
    is_plain = not layer.ceil_mode and getattr(layer, "divisor_override", None) is None
    return None if is_plain else "only without ceil_mode and divisor_override"


def _global_average(nodes: Nodes, name: str, x: str, _layer: nn.Module) -> str:
    return nodes.add("GlobalAveragePool", name, x)


def _global_average_refusal(layer: nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d) -> str | None:
    is_global = all(size == 1 for size in _sizes(layer.output_size, 1))  # type: ignore[arg-type]
    return None if is_global else "only to an output size of 1"


def _relu(nodes: Nodes, name: str, x: str, _layer: nn.ReLU) -> str:
    return nodes.add("Relu", name, x)


def _batch_norm(nodes: Nodes, name: str, x: str, layer: nn.BatchNorm1d | nn.BatchNorm2d) -> str:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    constants = {
        "weight": ones(layer.num_features) if layer.weight is None else layer.weight,
        "bias": zeros(layer.num_features) if layer.bias is None else layer.bias,
        "running_mean": layer.running_mean,
        "running_var": layer.running_var,
    }
    names = [nodes.constant(f"{name}.{key}", value) for key, value in constants.items()]
    return nodes.add("BatchNormalization", name, x, *names, epsilon=layer.eps)


def _batch_norm_refusal(layer: nn.BatchNorm1d | nn.BatchNorm2d) -> str | None:
    return "it has no running statistics" if layer.running_mean is None else None


def _dropout_refusal(layer: nn.Dropout) -> str | None:
    return "it drops although the module is in evaluation mode" if layer.training else None


def _nothing(_nodes: Nodes, _name: str, x: str, _layer: nn.Dropout | nn.Identity) -> str:
    """At inference the layer passes its input on."""
    return x


ONNX_FORMS: dict[type[nn.Module], OnnxForm] = {
    FourView: OnnxForm(_four_view),
    Standardize: OnnxForm(_standardize),
    nn.Flatten: OnnxForm(_flatten, _flatten_refusal),
    nn.Unflatten: OnnxForm(_unsqueeze, _unsqueeze_refusal),
    nn.Linear: OnnxForm(_linear),
    nn.Conv1d: OnnxForm(_conv, _conv_refusal),
    nn.Conv2d: OnnxForm(_conv, _conv_refusal),
    Linear: OnnxForm(_similarity, _similarity_refusal),
    Conv1d: OnnxForm(_similarity, _similarity_refusal),
    Conv2d: OnnxForm(_similarity, _similarity_refusal),
    RectifiedAngle: OnnxForm(_rectified_angle),
    Scale: OnnxForm(_scale),
    nn.MaxPool1d: OnnxForm(_max_pool, _max_pool_refusal),
    nn.MaxPool2d: OnnxForm(_max_pool, _max_pool_refusal),
    nn.AvgPool1d: OnnxForm(_average_pool, _average_pool_refusal),
    nn.AvgPool2d: OnnxForm(_average_pool, _average_pool_refusal),
    nn.AdaptiveAvgPool1d: OnnxForm(_global_average, _global_average_refusal),
    nn.AdaptiveAvgPool2d: OnnxForm(_global_average, _global_average_refusal),
    nn.ReLU: OnnxForm(_relu),
    nn.BatchNorm1d: OnnxForm(_batch_norm, _batch_norm_refusal),
    nn.BatchNorm2d: OnnxForm(_batch_norm, _batch_norm_refusal),
    nn.Dropout: OnnxForm(_nothing, _dropout_refusal),
    nn.Identity: OnnxForm(_nothing),
}


def is_gemm(layer: nn.Module | None) -> TypeGuard[nn.Linear]:
    """Return whether a layer is an ordinary fully connected one, of torch or of this package."""
    return type(layer) is nn.Linear or (type(layer) is Linear and layer.similarity.name == "dot")


def refusal(layer: nn.Module) -> str | None:
    """Return why a layer cannot be exported, None if it can."""
    form = ONNX_FORMS.get(type(layer))
    return "no ONNX form here" if form is None else form.refusal(layer)
