"""Pooling and reductions of ONNX, all opsets."""

from collections.abc import Mapping, Sequence

from mcucompile.errors import ModelError
from mcucompile.frontends import windows
from mcucompile.frontends.builder import Builder, Value
from mcucompile.frontends.convolution import Slide
from mcucompile.frontends.onnx_convolution import slide_of
from mcucompile.frontends.onnx_node import Converter, Node

_FUNCTIONS: Mapping[str, str] = {
    "ReduceMean": "mean", "ReduceSum": "sum", "ReduceL1": "magnitudes", "ReduceMax": "max", "ReduceMin": "min",
}  # fmt: skip


def _window(node: Node) -> tuple[tuple[int, ...], Slide]:
    """Return the kernel and how it slides."""
    spatial = node.activation().shape[2:]
    kernel = node.attributes.get("kernel_shape")
    if not isinstance(kernel, Sequence) or len(kernel) != len(spatial) or not spatial:
        shape = node.activation().shape
        raise ModelError(node.source, f"has kernel_shape={kernel} for an input of {shape}", "export the model again")
    return tuple(kernel), slide_of(node, spatial, tuple(kernel))


def _max_pool(node: Node, builder: Builder) -> Value:
    kernel, slide = _window(node)
    return windows.max_pool(builder, node.activation(), kernel, slide, ceil=bool(node.integer("ceil_mode", 0)))


def _average_pool(node: Node, builder: Builder) -> Value:
    kernel, slide = _window(node)
    count_padding = bool(node.integer("count_include_pad", 0))
    ceil = bool(node.integer("ceil_mode", 0))
    return windows.average_pool(builder, node.activation(), kernel, slide, ceil=ceil, count_padding=count_padding)


def _global_pool(function: str) -> Converter:
    return lambda node, builder: windows.global_pool(builder, node.activation(), function)


def _reduce(function: str) -> Converter:
    def convert(node: Node, builder: Builder) -> Value:
        x = node.activation()
        rank = len(x.shape)
        # An attribute at first, an input from opset 13 (ReduceSum) or 18 on.
        given = node.attributes.get("axes", ())
        if len(node.inputs) > 1 and node.inputs[1] is not None:
            given = node.integers(1)
        if not given and node.integer("noop_with_empty_axes", 0):
            return windows.reduce(builder, x, (), function, keep=True)
        axes = [node.normalised(axis, rank) for axis in given] or range(rank)
        return windows.reduce(builder, x, axes, function, keep=bool(node.integer("keepdims", 1)))

    return convert


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "AveragePool"): _average_pool,
    ("", "GlobalAveragePool"): _global_pool("mean"),
    ("", "GlobalMaxPool"): _global_pool("max"),
    ("", "MaxPool"): _max_pool,
    **{("", name): _reduce(function) for name, function in _FUNCTIONS.items()},
}
