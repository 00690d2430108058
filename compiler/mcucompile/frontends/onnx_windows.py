"""Pooling and reductions of ONNX, all opsets."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

from mcucompile.errors import ModelError
from mcucompile.frontends import windows
from mcucompile.frontends.builder import Activation, Builder, Value
from mcucompile.frontends.convolution import Slide
from mcucompile.frontends.onnx_convolution import slide_of
from mcucompile.frontends.onnx_node import Converter, Node


class _Reduction(Protocol):
    """Reduces some axes, counted from the front."""

    def __call__(self, builder: Builder, x: Activation, axes: Iterable[int], *, keep: bool) -> Activation: ...


_REDUCTIONS: Mapping[str, _Reduction] = {
    "ReduceL1": partial(windows.reduce, function="magnitudes"),
    "ReduceL2": partial(windows.norm, p=2),
    "ReduceLogSum": windows.log_sum,
    "ReduceLogSumExp": windows.log_sum_exp,
    "ReduceMax": partial(windows.reduce, function="max"),
    "ReduceMean": partial(windows.reduce, function="mean"),
    "ReduceMin": partial(windows.reduce, function="min"),
    "ReduceProd": windows.product,
    "ReduceSum": partial(windows.reduce, function="sum"),
    "ReduceSumSquare": windows.square_sum,
}


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


def _lp_pool(node: Node, builder: Builder) -> Value:
    kernel, slide = _window(node)
    ceil = bool(node.integer("ceil_mode", 0))
    return windows.lp_pool(builder, node.activation(), kernel, slide, node.integer("p", 2), ceil=ceil)


def _global_lp_pool(node: Node, builder: Builder) -> Value:
    x = node.activation()
    return windows.norm(builder, x, range(2, len(x.shape)), node.integer("p", 2), keep=True)


def _reduce(reduction: _Reduction) -> Converter:
    def convert(node: Node, builder: Builder) -> Value:
        x = node.activation()
        rank = len(x.shape)
        # An attribute at first, an input from opset 13 (ReduceSum) or 18 on.
        given = node.attributes.get("axes", ())
        if len(node.inputs) > 1 and node.inputs[1] is not None:
            given = node.integers(1)
        if not given and node.integer("noop_with_empty_axes", 0):
            return reduction(builder, x, (), keep=True)
        axes = [node.normalised(axis, rank) for axis in given] or range(rank)
        return reduction(builder, x, axes, keep=bool(node.integer("keepdims", 1)))

    return convert


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "AveragePool"): _average_pool,
    ("", "GlobalAveragePool"): _global_pool("mean"),
    ("", "GlobalLpPool"): _global_lp_pool,
    ("", "GlobalMaxPool"): _global_pool("max"),
    ("", "LpPool"): _lp_pool,
    ("", "MaxPool"): _max_pool,
    **{("", name): _reduce(reduction) for name, reduction in _REDUCTIONS.items()},
}
