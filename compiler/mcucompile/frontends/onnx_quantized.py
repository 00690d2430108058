"""Quantized operators of ONNX, of onnxruntime (com.microsoft) and of QONNX: taken as given, nothing is chosen.

Every operator becomes its real one between what its codes mean and the format of its output.
Sources: onnx.ai/onnx/operators; onnxruntime, docs/ContribOperators.md; QONNX, docs/qonnx-custom-ops.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from mcucompile.errors import ModelError
from mcucompile.frontends import arithmetic, movement, windows
from mcucompile.frontends.builder import Activation, Builder, Constant, Value
from mcucompile.frontends.convolution import convolution
from mcucompile.frontends.dequantized import Dequantized, output_steps
from mcucompile.frontends.given import dequantize, fake_quantize, format_of, narrow_format, rounded
from mcucompile.frontends.onnx_convolution import slide_of
from mcucompile.frontends.onnx_node import Converter, Node
from mcucompile.frontends.refusals import RefusalError
from mcucompile.ops import Lookup
from mcucompile.ops.formula import Formula, applied

_MICROSOFT = "com.microsoft"
_QONNX = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
_OUTPUT_TYPES: dict[int, type[Any]] = {
    TensorProto.UINT8: np.uint8,
    TensorProto.INT8: np.int8,
    TensorProto.UINT16: np.uint16,
    TensorProto.INT16: np.int16,
}
_QONNX_ROUNDING: dict[str, Callable[[Constant], Constant]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - 0.5),
    "FLOOR": np.floor,
    "CEIL": np.ceil,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "DOWN": np.trunc,
    "ROUND_TO_ZERO": np.trunc,
}


def _quantize_linear(node: Node, builder: Builder) -> Value:
    _refuse_blocks(node)
    x, scale, zero_point = node.value(0), node.constant(1), node.optional_constant(2)
    type_ = _OUTPUT_TYPES.get(node.integer("output_dtype", 0), np.uint8)
    zero_point = np.zeros(scale.shape, dtype=type_) if zero_point is None else zero_point
    if isinstance(x, Activation):
        return fake_quantize(builder, x, format_of(scale, zero_point))
    limits = np.iinfo(_integer_type(zero_point))
    steps, zeros = _along_axis(node, x, scale), _along_axis(node, x, zero_point)
    codes = np.rint(x.astype(np.float32) / steps.astype(np.float32)) + zeros
    return np.asarray(np.clip(codes, limits.min, limits.max), dtype=zero_point.dtype)


def _dequantize_linear(node: Node, builder: Builder) -> Value:
    _refuse_blocks(node)
    x = node.value(0)
    if isinstance(x, Activation):
        return _codes(node, builder, 0)
    return _weights(node, 0)


def _q_linear_conv(node: Node, builder: Builder) -> Value:
    x = _codes(node, builder, 0)
    weight = _weights(node, 3, axis=0)
    y_format = format_of(node.constant(6), node.constant(7))
    return fake_quantize(builder, _convolved(node, builder, x, weight, node.optional_constant(8)), y_format)


def _conv_integer(node: Node, builder: Builder) -> Value:
    x = _integers(node, builder, 0, 2)
    weight = node.constant(1)
    zero_point = _zero_points(node, 3, weight)
    real = _reals(node, weight, np.ones(zero_point.shape), zero_point, axis=0)
    return _convolved(node, builder, x, real, None)


def _convolved(node: Node, builder: Builder, x: Activation, weight: Dequantized, bias: Constant | None) -> Activation:
    """Convolve; bias: in steps of a product."""
    if weight.ndim != len(x.shape) or weight.ndim < 3:
        raise ModelError(node.source, f"convolves {x.shape} with weights {weight.shape}", "export the model again")
    slide = slide_of(node, x.shape[2:], weight.shape[2:])
    reals = None
    if bias is not None:
        steps = output_steps(weight)
        if steps is None:
            raise RefusalError("has weights of more than 8 bits, or several scales for an output", "use 8 bits")
        reals = bias.astype(np.float64) * steps * float(node.constant(1).reshape(-1)[0])
    return convolution(builder, x, weight, reals, slide, node.integer("group", 1))


def _q_linear_matmul(node: Node, builder: Builder) -> Value:
    a = _operand(node, builder, 0, from_last=1)
    b = _operand(node, builder, 3)
    return fake_quantize(builder, arithmetic.matmul(builder, a, b), format_of(node.constant(6), node.constant(7)))


def _matmul_integer(node: Node, builder: Builder) -> Value:
    operands: list[Value] = []
    for index in (0, 1):
        value = node.value(index)
        if isinstance(value, Activation):
            operands.append(_integers(node, builder, index, index + 2))
            continue
        zero_point = _zero_points(node, index + 2, value)
        operands.append(_reals(node, value, np.ones(zero_point.shape), zero_point, axis=value.ndim - 2 + index))
    return arithmetic.matmul(builder, *operands)


def _q_gemm(node: Node, builder: Builder) -> Value:
    if node.integer("transA", 0):
        raise RefusalError("transposes its activation", "transpose it before")
    is_turned = bool(node.integer("transB", 0))
    weight = _weights(node, 3, axis=0 if is_turned else 1)
    weight = weight if is_turned else weight.T
    alpha = float(node.attributes.get("alpha", 1.0))
    if weight.steps is None:
        raise TypeError("weights lost their steps")
    steps = np.broadcast_to(weight.steps, weight.shape)[:, 0] * alpha
    weight = Dequantized.of(np.rint(np.asarray(weight) / weight.steps), weight.steps * alpha)
    addend = node.optional_constant(6)
    bias = None if addend is None else addend.astype(np.float64) * steps * float(node.constant(1).reshape(-1)[0])
    y = builder.dense(_codes(node, builder, 0), weight, bias)
    has_format = len(node.inputs) > 7 and node.inputs[7] is not None
    return fake_quantize(builder, y, format_of(node.constant(7), node.constant(8))) if has_format else y


def _q_linear_pair(combine: Callable[[Builder, Value, Value], Activation]) -> Converter:
    def convert(node: Node, builder: Builder) -> Value:
        a, b = _operand(node, builder, 0), _operand(node, builder, 3)
        return fake_quantize(builder, combine(builder, a, b), format_of(node.constant(6), node.constant(7)))

    return convert


def _q_linear_unary(compute: Callable[[Node, Builder, Activation], Activation]) -> Converter:
    def convert(node: Node, builder: Builder) -> Value:
        zero_point = node.optional_constant(4)
        y = compute(node, builder, _codes(node, builder, 0))
        if zero_point is None:
            zero_point = np.zeros((), dtype=_zero_like(builder, node.activation()).dtype)
        return fake_quantize(builder, y, format_of(node.constant(3), zero_point))

    return convert


def _lookup(formula: Formula) -> Callable[[Node, Builder, Activation], Activation]:
    return lambda _node, builder, x: builder.emit(Lookup, (x,), formula=formula)


def _leaky_relu(node: Node, builder: Builder, x: Activation) -> Activation:
    return builder.emit(Lookup, (x,), formula=applied("leaky_relu", float(node.attributes.get("alpha", 0.01))))


def _softmax(node: Node, builder: Builder, x: Activation) -> Activation:
    axis = node.axis(-1, len(x.shape))
    if node.integer("opset", 13) < 13 and axis != len(x.shape) - 1:
        raise RefusalError("is a softmax over several axes", "export with opset 13 or newer")
    return builder.softmax(x, axis)


def _global_average_pool(node: Node, builder: Builder, x: Activation) -> Activation:
    if not node.integer("channels_last", 0):
        return windows.global_pool(builder, x, "mean")
    return windows.reduce(builder, x, range(1, len(x.shape) - 1), "mean", keep=True)


def _average_pool(node: Node, builder: Builder, x: Activation) -> Activation:
    if node.integer("channels_last", 0):
        raise RefusalError("pools images with channels last", "export it with channels_last=0")
    kernel = tuple(node.attributes["kernel_shape"])
    slide = slide_of(node, x.shape[2:], kernel)
    ceil, count_padding = (bool(node.integer(name, 0)) for name in ("ceil_mode", "count_include_pad"))
    return windows.average_pool(builder, x, kernel, slide, ceil=ceil, count_padding=count_padding)


def _q_linear_concat(node: Node, builder: Builder) -> Value:
    values: list[Value] = [_operand(node, builder, index) for index in range(2, len(node.inputs), 3)]
    rank = len(values[0].shape)
    joined = movement.concat(builder, values, node.axis(0, rank))
    return fake_quantize(builder, joined, format_of(node.constant(0), node.constant(1)))


def _dynamic(_node: Node, _builder: Builder) -> Value:
    raise RefusalError(
        "measures its scale while the model runs", "quantize the model statically (onnxruntime's quantize_static)"
    )


def _quant(node: Node, builder: Builder) -> Value:
    """QONNX's Quant: round(x / scale + zero point) clamped to a number of bits, and back.

    Source: qonnx, docs/qonnx-custom-ops/quant_op.md.
    """
    x, scale, zero_point = node.value(0), node.constant(1), node.constant(2)
    bits = float(node.constant(3).reshape(-1)[0])
    signed, narrow = bool(node.integer("signed", 1)), bool(node.integer("narrow", 0))
    mode = node.text("rounding_mode", "ROUND").upper()
    if bits != int(bits) or not (1 + signed * narrow) <= bits <= 32:
        raise RefusalError(f"quantizes to {bits:g} bits", "use a whole number of at most 32 bits")
    low = -(1 << (int(bits) - 1)) + narrow if signed else 0
    high = (1 << (int(bits) - 1)) - 1 if signed else (1 << int(bits)) - 1 - narrow
    if not (scale > 0).all() or (zero_point != np.rint(zero_point)).any():
        raise RefusalError("has a scale that is not positive or a zero point that is not whole", "use others")
    if isinstance(x, Activation):
        if scale.size != 1 or zero_point.size != 1:
            raise RefusalError(f"has {scale.size} scales for an activation", "quantize activations per tensor")
        step = float(np.float32(scale.reshape(-1)[0]))
        format_ = narrow_format(step, int(zero_point.reshape(-1)[0]), (low, high))
        builder.require_real(x)
        return fake_quantize(builder, rounded(builder, x, mode, step), format_).as_real()
    _refuse_enlarging(x, scale, zero_point)
    if mode not in _QONNX_ROUNDING:
        raise RefusalError(f"rounds by '{mode}'", f"use {', '.join(_QONNX_ROUNDING)}")
    real = x.astype(np.float64) / scale + zero_point
    return Dequantized.of(np.clip(_QONNX_ROUNDING[mode](real), low, high) - zero_point, scale)


def _bipolar_quant(node: Node, _builder: Builder) -> Value:
    _refuse_enlarging(node.constant(0), node.constant(1))
    return Dequantized.of(np.where(node.constant(0) >= 0, 1, -1), node.constant(1))


def _codes(node: Node, builder: Builder, index: int) -> Activation:
    """Return what an activation, its scale and its zero point mean: three inputs of the node."""
    zero_point = node.optional_constant(index + 2)
    x = node.activation(index)
    known = _zero_like(builder, x) if zero_point is None else zero_point
    return dequantize(builder, x, format_of(node.constant(index + 1), known))


def _operand(node: Node, builder: Builder, index: int, from_last: int = 0) -> Value:
    """Return a real operand; a constant's scales are along the axis `from_last` before the last."""
    value = node.value(index)
    if isinstance(value, Activation):
        return _codes(node, builder, index)
    return _weights(node, index, axis=value.ndim - 1 - from_last)


def _weights(node: Node, index: int, axis: int | None = None) -> Dequantized:
    """Return real weights from integers, their scales and their zero points: three inputs of the node.

    axis: of several scales; None: the node's attribute.
    """
    weight = node.constant(index)
    _integer_type(weight)
    return _reals(node, weight, node.constant(index + 1), _zero_points(node, index + 2, weight), axis=axis)


def _zero_points(node: Node, index: int, values: Constant) -> Constant:
    """Return the zero points of a constant, an input of the node that may be left out."""
    zero_point = node.optional_constant(index)
    return np.zeros(1, dtype=values.dtype) if zero_point is None else zero_point


def _integers(node: Node, builder: Builder, index: int, zero_index: int) -> Activation:
    """Return an activation's codes minus its zero point, as reals."""
    x = node.activation(index)
    like = _zero_like(builder, x)
    zero_point = node.optional_constant(zero_index)
    return dequantize(builder, x, format_of(np.ones(1), np.zeros_like(like) if zero_point is None else zero_point))


def _zero_like(builder: Builder, x: Activation) -> Constant:
    """Return a zero point of 0 with the type of an activation's codes."""
    return np.zeros((), dtype=builder.format_of(x).dtype)


def _reals(node: Node, values: Constant, scale: Constant, zero_point: Constant, axis: int | None = None) -> Dequantized:
    steps = _along_axis(node, values, scale, axis)
    zeros = _along_axis(node, values, zero_point, axis)
    _refuse_enlarging(values, steps, zeros)
    return Dequantized.of(values.astype(np.int64) - zeros.astype(np.int64), steps)


def _along_axis(node: Node, values: Constant, parameter: Constant, axis: int | None = None) -> Constant:
    """Return a scale or zero point in a shape that broadcasts to the values'."""
    if parameter.size == 1:
        return parameter.reshape(())
    if parameter.ndim == values.ndim:
        return parameter
    along = node.axis(1, values.ndim) if axis is None else axis
    if parameter.ndim != 1 or len(parameter) != values.shape[along]:
        raise ModelError(
            node.source, f"has parameters of shape {parameter.shape} for {values.shape}", "export the model again"
        )
    return parameter.reshape([-1 if i == along else 1 for i in range(values.ndim)])


def _refuse_enlarging(values: Constant, *parameters: Constant) -> None:
    try:
        fits = np.broadcast_shapes(values.shape, *(parameter.shape for parameter in parameters)) == values.shape
    except ValueError:
        fits = False
    if not fits:
        shapes = " and ".join(str(parameter.shape) for parameter in parameters)
        raise RefusalError(f"has parameters of shapes {shapes} for {values.shape}", "give one for each channel")


def _integer_type(values: Constant) -> np.dtype[Any]:
    if values.dtype.kind not in "iu":
        raise RefusalError(f"has codes of type {values.dtype}", "use integers of 4, 8, 16 or 32 bits")
    return values.dtype


def _refuse_blocks(node: Node) -> None:
    if node.integer("block_size", 0):
        raise RefusalError("has a scale for each block of elements", "quantize per tensor or per channel")


def _product(builder: Builder, a: Value, b: Value) -> Activation:
    return arithmetic.multiply(builder, a, b)


_ANY_DOMAIN: dict[str, Converter] = {"QuantizeLinear": _quantize_linear, "DequantizeLinear": _dequantize_linear}
_QONNX_OPERATORS: dict[str, Converter] = {"Quant": _quant, "IntQuant": _quant, "BipolarQuant": _bipolar_quant}

CONVERTERS: dict[tuple[str, str], Converter] = {
    **{(domain, name): converter for domain in ("", _MICROSOFT) for name, converter in _ANY_DOMAIN.items()},
    **{(domain, name): converter for domain in _QONNX for name, converter in _QONNX_OPERATORS.items()},
    ("", "QLinearConv"): _q_linear_conv,
    ("", "QLinearMatMul"): _q_linear_matmul,
    ("", "ConvInteger"): _conv_integer,
    ("", "MatMulInteger"): _matmul_integer,
    ("", "DynamicQuantizeLinear"): _dynamic,
    (_MICROSOFT, "QGemm"): _q_gemm,
    (_MICROSOFT, "QLinearAdd"): _q_linear_pair(arithmetic.add),
    (_MICROSOFT, "QLinearMul"): _q_linear_pair(_product),
    (_MICROSOFT, "QLinearAveragePool"): _q_linear_unary(_average_pool),
    (_MICROSOFT, "QLinearGlobalAveragePool"): _q_linear_unary(_global_average_pool),
    (_MICROSOFT, "QLinearLeakyRelu"): _q_linear_unary(_leaky_relu),
    (_MICROSOFT, "QLinearSigmoid"): _q_linear_unary(_lookup(applied("sigmoid"))),
    (_MICROSOFT, "QLinearSoftmax"): _q_linear_unary(_softmax),
    (_MICROSOFT, "QLinearConcat"): _q_linear_concat,
}
