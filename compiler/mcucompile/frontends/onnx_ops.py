"""The table from ONNX operators to the IR: one function for each, all opsets from 7 on.

A converter gets the node and the builder and returns the node's first output or all of them, or raises RefusalError.
Source of every rule: the ONNX operator specification, onnx.ai/onnx/operators.
"""

import math

import numpy as np
from onnx import TensorProto

from mcucompile.errors import ModelError
from mcucompile.frontends import (
    arithmetic,
    onnx_convolution,
    onnx_elementwise,
    onnx_linear_maps,
    onnx_movement,
    onnx_normalization,
    onnx_quantized,
    onnx_recurrent,
    onnx_similarities,
    onnx_windows,
)
from mcucompile.frontends.builder import Activation, Builder, Kind, Value
from mcucompile.frontends.onnx_node import Converter, Node
from mcucompile.frontends.refusals import RefusalError
from mcucompile.ops.four_view_function import DOMAIN

_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
# Integer types that hold every uint8 and every int8.
_WIDER = {TensorProto.INT16, TensorProto.INT32, TensorProto.INT64}


def _gemm(node: Node, builder: Builder) -> Value:
    a, b = node.value(0), node.value(1)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise ModelError(node.source, f"multiplies {a.shape} by {b.shape}", "give Gemm two matrices")
    a = _transposed(a, builder) if node.integer("transA", 0) else a
    b = _transposed(b, builder) if node.integer("transB", 0) else b
    alpha, beta = float(node.attributes.get("alpha", 1.0)), float(node.attributes.get("beta", 1.0))
    addend = node.value(2) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
    return arithmetic.gemm(builder, a, b, addend, alpha, beta)


def _transposed(value: Value, builder: Builder) -> Value:
    return builder.transpose(value, (1, 0)) if isinstance(value, Activation) else value.T


def _matmul(node: Node, builder: Builder) -> Value:
    return arithmetic.matmul(builder, node.value(0), node.value(1))


def _add(node: Node, builder: Builder) -> Value:
    return arithmetic.add(builder, node.value(0), node.value(1))


def _sub(node: Node, builder: Builder) -> Value:
    return arithmetic.subtract(builder, node.value(0), node.value(1))


def _mul(node: Node, builder: Builder) -> Value:
    return arithmetic.multiply(builder, node.value(0), node.value(1))


def _div(node: Node, builder: Builder) -> Value:
    return arithmetic.divide(builder, node.value(0), node.value(1))


def _relu(node: Node, builder: Builder) -> Value:
    return builder.relu(node.activation())


def _flatten(node: Node, builder: Builder) -> Value:
    x = node.activation()
    axis = node.integer("axis", 1)
    if not -len(x.shape) <= axis <= len(x.shape):
        raise ModelError(node.source, f"uses axis {axis} of {len(x.shape)} axes", "export the model again")
    axis += len(x.shape) if axis < 0 else 0
    return builder.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def _reshape(node: Node, builder: Builder) -> Value:
    x = node.activation()
    wanted = list(node.integers(1))
    if not node.integer("allowzero", 0):
        if any(n == 0 and i >= len(x.shape) for i, n in enumerate(wanted)):
            raise ModelError(node.source, f"copies more axes than {x.shape} has", "export the model again")
        wanted = [x.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    return builder.reshape(x, arithmetic.inferred_shape(node.source, x.shape, wanted))


def _transpose(node: Node, builder: Builder) -> Value:
    x = node.activation()
    return builder.transpose(x, node.attributes.get("perm", range(len(x.shape))[::-1]))


def _axes(node: Node) -> tuple[int, ...] | None:
    """Return the axes of Squeeze and Unsqueeze: an attribute before opset 13, then an input."""
    if node.opset >= 13:
        return None if len(node.inputs) < 2 or node.inputs[1] is None else node.integers(1)
    axes = node.attributes.get("axes")
    return None if axes is None else tuple(axes)


def _squeeze(node: Node, builder: Builder) -> Value:
    x = node.activation()
    axes = _axes(node)
    rank = len(x.shape)
    if axes is None:
        dropped = {axis for axis in range(rank) if x.shape[axis] == 1}
    else:
        dropped = {node.normalised(axis, rank) for axis in axes}
    if any(x.shape[axis] != 1 for axis in dropped):
        raise ModelError(node.source, f"squeezes axes {sorted(dropped)} of {x.shape}", "export the model again")
    return builder.reshape(x, tuple(n for axis, n in enumerate(x.shape) if axis not in dropped))


def _unsqueeze(node: Node, builder: Builder) -> Value:
    x = node.activation()
    axes = _axes(node) or ()
    rank = len(x.shape) + len(axes)
    added = {node.normalised(axis, rank) for axis in axes}
    if len(added) != len(axes):
        raise ModelError(node.source, f"adds an axis twice ({list(axes)})", "export the model again")
    rest = iter(x.shape)
    return builder.reshape(x, tuple(1 if axis in added else next(rest) for axis in range(rank)))


def _batch_normalization(node: Node, builder: Builder) -> Value:
    x = node.activation()
    if node.integer("training_mode", 0):
        raise RefusalError("is in training mode", "export the model in evaluation mode")
    if not node.integer("spatial", 1):
        raise RefusalError("normalises each position on its own (spatial=0)", "export with opset 9 or newer")
    scale, bias, mean, variance = (node.constant(i) for i in range(1, 5))
    return arithmetic.batch_norm(builder, x, scale, bias, mean, variance, float(node.attributes.get("epsilon", 1e-5)))


def _arg_extreme(*, smallest: bool) -> Converter:
    def convert(node: Node, builder: Builder) -> Value:
        x = node.activation()
        keep, last = bool(node.integer("keepdims", 1)), bool(node.integer("select_last_index", 0))
        return builder.arg_max(x, node.axis(0, len(x.shape)), keep=keep, smallest=smallest, last=last)

    return convert


def _identity(node: Node, _builder: Builder) -> Value:
    return node.activation()


def _dropout(node: Node, _builder: Builder) -> Value:
    training = node.optional_constant(2)
    if training is not None and training.any():
        raise RefusalError("is in training mode", "export the model in evaluation mode")
    return node.activation()


def _cast(node: Node, _builder: Builder) -> Value:
    x = node.activation()
    to = node.integer("to")
    if to in _FLOATS and x.kind is not Kind.INDEX:
        return x.as_real()
    if to == TensorProto.BOOL and x.kind is Kind.TRUTH:
        return x
    if (x.kind is Kind.INDEX and to in {TensorProto.INT32, TensorProto.INT64}) or (
        x.kind is Kind.BYTES and to in _WIDER
    ):
        return x
    target = next((name for name, number in TensorProto.DataType.items() if number == to), str(to)).lower()
    raise RefusalError(f"turns {x.kind.value} into {target}", "cast only the input to float, or drop the Cast")


def _shape(node: Node, _builder: Builder) -> Value:
    shape = node.activation().shape
    return np.array(shape[slice(node.integer("start", 0), node.attributes.get("end"))], dtype=np.int64)


def _size(node: Node, _builder: Builder) -> Value:
    return np.array(math.prod(node.activation().shape), dtype=np.int64)


def _four_view(node: Node, builder: Builder) -> Value:
    x = node.activation()
    return builder.four_view(x, node.integer("zone_height"), node.integer("zone_width"), node.integer("shift"))


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "Add"): _add,
    ("", "ArgMax"): _arg_extreme(smallest=False),
    ("", "ArgMin"): _arg_extreme(smallest=True),
    ("", "BatchNormalization"): _batch_normalization,
    ("", "Cast"): _cast,
    ("", "Div"): _div,
    ("", "Dropout"): _dropout,
    ("", "Flatten"): _flatten,
    ("", "Gemm"): _gemm,
    ("", "Identity"): _identity,
    ("", "MatMul"): _matmul,
    ("", "Mul"): _mul,
    ("", "Relu"): _relu,
    ("", "Reshape"): _reshape,
    ("", "Shape"): _shape,
    ("", "Size"): _size,
    ("", "Squeeze"): _squeeze,
    ("", "Sub"): _sub,
    ("", "Transpose"): _transpose,
    ("", "Unsqueeze"): _unsqueeze,
    (DOMAIN, "FourView"): _four_view,
    **onnx_convolution.CONVERTERS,
    **onnx_similarities.CONVERTERS,
    **onnx_windows.CONVERTERS,
    **onnx_movement.CONVERTERS,
    **onnx_linear_maps.CONVERTERS,
    **onnx_elementwise.CONVERTERS,
    **onnx_quantized.CONVERTERS,
    **onnx_normalization.CONVERTERS,
    **onnx_recurrent.CONVERTERS,
}

_TRANSFORMS = "Gemm, MatMul, Add, Relu, BatchNormalization, Softmax, ArgMax, Reshape or Transpose"
_FLOAT_MODEL = "export the float model: mcucompile quantizes it itself"
_ADVICE = {
    **dict.fromkeys(("MaxUnpool", "MaxRoiPool"), "use MaxPool or AveragePool"),
    **dict.fromkeys(("Trunc", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"), _FLOAT_MODEL),
    **dict.fromkeys(("If", "Loop", "Scan"), "export the model without control flow"),
    "RNN": "use LSTM or GRU",
}


def advice(op_type: str) -> str:
    """Return what to do about an operator that is not supported."""
    return _ADVICE.get(op_type, f"replace it by {_TRANSFORMS}")
