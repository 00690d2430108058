"""Convolutions of torch: aten::conv1d, conv2d and convolution."""

from mcucompile.errors import ModelError
from mcucompile.frontends.builder import Builder, Value
from mcucompile.frontends.convolution import Slide, convolution
from mcucompile.frontends.refusals import RefusalError
from mcucompile.frontends.torch_call import Call


def _convolution(call: Call, builder: Builder) -> Value:
    if call.arguments.get("transposed"):
        raise RefusalError("is transposed", "use an upsampling and a convolution")
    x, weight = call.activation("input"), call.constant("weight")
    spatial = weight.ndim - 2
    if spatial < 1 or len(x.shape) != weight.ndim:
        raise ModelError(call.source, f"convolves {x.shape} with weights {weight.shape}", "give it a batch of images")
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


def _each(call: Call, name: str, count: int) -> tuple[int, ...]:
    """Return a list of one number for each spatial axis; torch lets one stand for all."""
    values = call.integers(name)
    return values * count if len(values) == 1 else values


CONVERTERS = {"aten::conv1d": _convolution, "aten::conv2d": _convolution, "aten::convolution": _convolution}
