"""Torch modules to ONNX files that keep the project's own layers as one node each.

torch.onnx.export would take the four-view features and the similarities apart; here each layer becomes the
one node that means it.
"""

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper
from torch import nn

from mcucompile.errors import ProjectError, UnsupportedError
from mcucompile.nn.calls import Addition, Calls, calls_of
from mcucompile.nn.export_layers import ONNX_FORMS, Nodes

IR_VERSION = 10
OPSET = 21
_OWN_VERSION = 1


def _written(calls: Calls) -> tuple[Nodes, str]:
    """Return the nodes of all calls and the name of the result; the input is called `input`."""
    nodes = Nodes()
    outputs = {-1: nodes.add("Cast", "to_float", "input", to=TensorProto.FLOAT)}
    for place, call in enumerate(calls.calls):
        name, inputs = nodes.unused(call.name), [outputs[value] for value in call.inputs]
        if isinstance(call.layer, Addition):
            outputs[place] = nodes.add("Add", name, *inputs)
        else:
            outputs[place] = ONNX_FORMS[type(call.layer)].write(nodes, name, inputs[0], call.layer)
    return nodes, outputs[calls.result]


def _renamed(nodes: Sequence[onnx.NodeProto], before: str, after: str) -> None:
    """Give a tensor another name wherever nodes give or take it, in place."""
    for node in nodes:
        for names in (node.input, node.output):
            names[:] = [after if name == before else name for name in names]


def to_onnx(module: nn.Module, input_shape: Sequence[int], name: str) -> onnx.ModelProto:
    """Build the ONNX model (IR 10, opset 21) of a trained module.

    Args:
        module: in evaluation mode, with one input: whatever torch.fx can trace down to the layers of
            `export_layers.ONNX_FORMS`, additions of two activations, relu, flatten, views that flatten,
            max_pool2d, avg_pool2d, adaptive_avg_pool2d and dropout. A Standardize directly before a Linear
            is folded into it. Not changed.
        input_shape: of one sample, without the batch.
        name: of the graph.
    Returns:
        A model from `input`, uint8 (N, *input_shape) with symbolic N, through a Cast to `logits`,
        float32 (N, outputs). Nodes and weights keep the names they have in the module.
    Raises:
        UnsupportedError: the module is in training mode, cannot be traced, or calls what has no ONNX form;
            all such layers are listed.
        ModelError: the shapes of the layers do not fit together, or the result is not (n, outputs).
    """
    if any(layer.training for layer in module.modules()):
        raise UnsupportedError(name, "the module is in training mode", "call module.eval() before the export")
    calls = calls_of(module, input_shape, name)
    nodes, result = _written(calls)
    _renamed(nodes.nodes, result, "logits")
    domains = {function.domain for function in nodes.functions.values()}
    model = helper.make_model(
        helper.make_graph(
            nodes.nodes,
            name,
            [helper.make_tensor_value_info("input", TensorProto.UINT8, ["N", *input_shape])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", calls.outputs])],
            nodes.initializers,
        ),
        functions=[*nodes.functions.values()],
        opset_imports=[helper.make_opsetid("", OPSET), *(helper.make_opsetid(own, _OWN_VERSION) for own in domains)],
        ir_version=IR_VERSION,
        producer_name="mcucompile",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def export_onnx(module: nn.Module, path: str | Path, input_shape: Sequence[int], name: str) -> None:
    """Write the ONNX file of a trained module; arguments and errors as in `to_onnx`.

    Raises:
        ProjectError: the file cannot be written; also everything that `to_onnx` raises.
    """
    model = to_onnx(module, input_shape, name)
    try:
        Path(path).write_bytes(model.SerializeToString(deterministic=True))
    except OSError as error:
        raise ProjectError(path, f"cannot be written: {error.strerror}", "choose a folder that is writable") from error
