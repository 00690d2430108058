"""Conv and ConvTranspose of ONNX, all opsets: the attributes of their windows made explicit."""

from collections.abc import Sequence
from dataclasses import replace

from mcucompile.errors import ModelError
from mcucompile.frontends.builder import Builder, Constant, Value
from mcucompile.frontends.convolution import Slide, convolution
from mcucompile.frontends.onnx_node import Node
from mcucompile.frontends.refusals import RefusalError
from mcucompile.frontends.transposed_convolution import transposed_convolution


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


def _weights(node: Node) -> Constant:
    """Return the weights, their kernel as the node says."""
    x, weight = node.activation(), node.constant(1)
    if len(x.shape) < 3 or weight.ndim != len(x.shape):
        raise ModelError(node.source, f"convolves {x.shape} with weights {weight.shape}", "export the model again")
    kernel = node.attributes.get("kernel_shape", weight.shape[2:])
    if tuple(kernel) != weight.shape[2:]:
        raise ModelError(node.source, f"has kernel_shape={list(kernel)}, weights {weight.shape}", "export it again")
    return weight


def convolve(node: Node, builder: Builder, *, similarity: str = "dot") -> Value:
    """Conv, or a node of its form with another similarity."""
    x, weight = node.activation(), _weights(node)
    slide = slide_of(node, x.shape[2:], weight.shape[2:])
    groups = node.integer("group", 1)
    return convolution(builder, x, weight, node.optional_constant(2), slide, groups, similarity=similarity)


def _conv_transpose(node: Node, builder: Builder) -> Value:
    x, weight = node.activation(), _weights(node)
    spatial, kernel = x.shape[2:], weight.shape[2:]
    count = len(spatial)
    slide = replace(slide_of(node, spatial, kernel), before=(0,) * count, after=(0,) * count)
    extra = _list(node, "output_padding", (0,) * count)
    automatic = node.text("auto_pad", "NOTSET")
    wanted = tuple(n * s for n, s in zip(spatial, slide.strides, strict=True))
    if "output_shape" in node.attributes or automatic.startswith("SAME"):
        sizes = _list(node, "output_shape", wanted)
        slide = _padded_to(slide, spatial, kernel, extra, sizes, less_first=automatic == "SAME_UPPER")
    elif automatic == "NOTSET":
        pads = _list(node, "pads", (0,) * (2 * count))
        slide = replace(slide, before=pads[:count], after=pads[count:])
    groups = node.integer("group", 1)
    return transposed_convolution(builder, x, weight, node.optional_constant(2), slide, extra, groups)


def _padded_to(
    slide: Slide,
    spatial: Sequence[int],
    kernel: Sequence[int],
    extra: Sequence[int],
    sizes: Sequence[int],
    *,
    less_first: bool,
) -> Slide:
    """Return the slide with the padding that gives an output of the sizes; one larger than that grows after its end.

    Source: onnx.ai/onnx/operators/onnx__ConvTranspose.html, total_padding.
    """
    before, after = [], []
    for i, size in enumerate(sizes):
        total = slide.strides[i] * (spatial[i] - 1) + extra[i] + (kernel[i] - 1) * slide.dilations[i] + 1 - size
        first = max(total // 2 if less_first else total - total // 2, 0)
        before.append(first)
        after.append(total - first)
    return replace(slide, before=tuple(before), after=tuple(after))


CONVERTERS = {("", "Conv"): convolve, ("", "ConvTranspose"): _conv_transpose}
