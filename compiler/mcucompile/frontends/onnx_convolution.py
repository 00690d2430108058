"""Conv of ONNX, all opsets: the attributes of its windows made explicit."""

from collections.abc import Sequence

from mcucompile.errors import ModelError
from mcucompile.frontends.builder import Builder, Value
from mcucompile.frontends.convolution import Slide, convolution
from mcucompile.frontends.onnx_node import Node
from mcucompile.frontends.refusals import RefusalError


def slide_of(node: Node, spatial: Sequence[int], kernel: Sequence[int]) -> Slide:
    """Return strides, dilations and padding of a node, automatic padding resolved.

    Args:
        node: with the attributes strides, dilations, pads, auto_pad.
        spatial: sizes of the input.
        kernel: sizes of the window.
    Source: onnx.ai/onnx/operators/onnx__Conv.html.
    """
    count = len(spatial)
    strides = _list(node, "strides", (1,) * count)
    dilations = _list(node, "dilations", (1,) * count)
    pads = _list(node, "pads", (0,) * (2 * count))
    if min((*strides, *dilations)) < 1:
        raise ModelError(node.source, "has a stride or dilation below 1", "export the model again")
    automatic = node.text("auto_pad", "NOTSET")
    if automatic in ("NOTSET", "VALID"):
        zero = (0,) * (2 * count)
        before, after = (pads[:count], pads[count:]) if automatic == "NOTSET" else (zero[:count], zero[count:])
    elif automatic in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            for n, k, s, d in zip(spatial, kernel, strides, dilations, strict=True)
        ]
        less, more = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        before, after = (less, more) if automatic == "SAME_UPPER" else (more, less)
    else:
        raise RefusalError(f"has the automatic padding '{automatic}'", "use SAME_UPPER, SAME_LOWER, VALID or pads")
    return Slide(strides, dilations, before, after)


def _list(node: Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    values = node.attributes.get(name, default)
    if not isinstance(values, Sequence) or len(values) != len(default) or not all(isinstance(n, int) for n in values):
        raise ModelError(
            node.source, f"has {name}={values} for an input of {node.activation().shape}", "export it again"
        )
    return tuple(values)


def _conv(node: Node, builder: Builder) -> Value:
    x, weight = node.activation(), node.constant(1)
    if len(x.shape) < 3 or weight.ndim != len(x.shape):
        raise ModelError(node.source, f"convolves {x.shape} with weights {weight.shape}", "export the model again")
    kernel = node.attributes.get("kernel_shape", weight.shape[2:])
    if tuple(kernel) != weight.shape[2:]:
        raise ModelError(node.source, f"has kernel_shape={list(kernel)}, weights {weight.shape}", "export it again")
    slide = slide_of(node, x.shape[2:], weight.shape[2:])
    return convolution(builder, x, weight, node.optional_constant(2), slide, node.integer("group", 1))


CONVERTERS = {("", "Conv"): _conv}
