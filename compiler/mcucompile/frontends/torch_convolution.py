"""Convolutions of torch, plain and transposed."""

from mcucompile.errors import ModelError
from mcucompile.frontends.builder import Activation, Builder, Constant, Value
from mcucompile.frontends.convolution import Slide, convolution
from mcucompile.frontends.torch_call import Call
from mcucompile.frontends.transposed_convolution import transposed_convolution


def _convolution(call: Call, builder: Builder) -> Value:
    if call.arguments.get("transposed"):
        return _transposed(call, builder)
    x, weight, spatial = _operands(call)
    strides, dilations = _each(call, "stride", spatial), _each(call, "dilation", spatial)
    padding = call.arguments["padding"]
    if padding == "same":
        totals = [(k - 1) * d for k, d in zip(weight.shape[2:], dilations, strict=True)]
        before, after = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    elif padding == "valid":
        before = after = (0,) * spatial
    else:
        before = after = _each(call, "padding", spatial)
    bias = None if call.arguments["bias"] is None else call.constant("bias")
    (groups,) = call.integers("groups")
    return convolution(builder, x, weight, bias, Slide(strides, dilations, before, after), groups)


def _transposed(call: Call, builder: Builder) -> Value:
    x, weight, spatial = _operands(call)
    padding = _each(call, "padding", spatial)
    slide = Slide(_each(call, "stride", spatial), _each(call, "dilation", spatial), padding, padding)
    extra = _each(call, "output_padding", spatial)
    bias = None if call.arguments["bias"] is None else call.constant("bias")
    (groups,) = call.integers("groups")
    return transposed_convolution(builder, x, weight, bias, slide, extra, groups)


def _operands(call: Call) -> tuple[Activation, Constant, int]:
    """Return input, weights and the number of spatial axes."""
    x, weight = call.activation("input"), call.constant("weight")
    if weight.ndim < 3 or len(x.shape) != weight.ndim:
        raise ModelError(call.source, f"convolves {x.shape} with weights {weight.shape}", "give it a batch of images")
    return x, weight, weight.ndim - 2


def _each(call: Call, name: str, count: int) -> tuple[int, ...]:
    """Return a list of one number for each spatial axis; torch lets one stand for all."""
    values = call.integers(name)
    return values * count if len(values) == 1 else values


CONVERTERS = {
    "aten::conv1d": _convolution,
    "aten::conv2d": _convolution,
    "aten::convolution": _convolution,
    "aten::conv_transpose1d": _transposed,
    "aten::conv_transpose2d": _transposed,
}
