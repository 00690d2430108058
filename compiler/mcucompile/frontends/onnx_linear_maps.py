"""Operators of ONNX that are constant matrices, all opsets."""

import math

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends import linear_maps, sampling
from mcucompile.frontends.builder import Builder, Value
from mcucompile.frontends.onnx_convolution import slide_of
from mcucompile.frontends.onnx_node import Converter, Node
from mcucompile.frontends.refusals import RefusalError


def _cumulative_sum(node: Node, builder: Builder) -> Value:
    x = node.activation()
    (axis,) = node.integers(1)
    exclusive, reverse = bool(node.integer("exclusive", 0)), bool(node.integer("reverse", 0))
    axis = node.normalised(axis, len(x.shape))
    return linear_maps.cumulative_sum(builder, x, axis, exclusive=exclusive, reverse=reverse)


def _fourier(node: Node, builder: Builder) -> Value:
    x = node.activation()
    rank = len(x.shape)
    # An attribute before opset 20, then an input.
    axis = node.integer("axis", 1) if node.opset < 20 else -2
    if node.opset >= 20 and node.optional_constant(2) is not None:
        (axis,) = node.integers(2)
    axis = node.normalised(axis, rank)
    inverse, one_sided = bool(node.integer("inverse", 0)), bool(node.integer("onesided", 0))
    length = 2 * (x.shape[axis] - 1) if inverse and one_sided else x.shape[axis]
    if node.optional_constant(1) is not None:
        (length,) = node.integers(1)
    return linear_maps.fourier(builder, x, axis, length, inverse=inverse, one_sided=one_sided)


def _grid_sample(node: Node, builder: Builder) -> Value:
    x, grid = node.activation(), node.constant(1)
    rank = len(x.shape)
    if rank < 3 or grid.ndim != rank or grid.shape[0] != x.shape[0] or grid.shape[-1] != rank - 2:
        raise ModelError(node.source, f"samples {x.shape} by a grid of shape {grid.shape}", "export the model again")
    linear_maps.require_size(grid.size // (rank - 2) * math.prod(x.shape[2:]))
    # Names of opset 16 beside those since 20.
    mode = node.text("mode", "linear").removeprefix("bi")
    corners = bool(node.integer("align_corners", 0))
    padding = node.text("padding_mode", "zeros")
    weights = sampling.grid_weights(grid, x.shape[2:], mode, padding, align_corners=corners)
    return linear_maps.mapped(builder, x, weights, grid.shape[1:-1])


def _columns_to_image(node: Node, builder: Builder) -> Value:
    x, image, block = node.activation(), node.integers(1), node.integers(2)
    slide = slide_of(node, image, block)
    if len(x.shape) != 3 or len(image) != len(block) or min((*image, *block)) < 1 or x.shape[1] % math.prod(block):
        raise ModelError(
            node.source, f"makes {list(image)} pixels of {x.shape} by blocks of {list(block)}", "export the model again"
        )
    linear_maps.require_size(math.prod(image) * math.prod(block) * x.shape[2])
    matrix = sampling.column_weights(image, block, slide)
    channels = x.shape[1] // math.prod(block)
    if matrix.shape[1] != x.shape[2] * math.prod(block):
        raise ModelError(node.source, f"has {x.shape[2]} blocks", "export the model again")
    columns = builder.reshape(x, (x.shape[0], channels, matrix.shape[1]))
    return linear_maps.mapped(builder, columns, matrix[None], image)


def _short_time_fourier(node: Node, builder: Builder) -> Value:
    x = node.activation()
    if len(x.shape) != 3 or x.shape[2] != 1:
        raise RefusalError(f"transforms {x.shape}", "use real signals: (n, length, 1)")
    (step,), window = node.integers(1), node.optional_constant(2)
    given = node.integers(3) if node.optional_constant(3) is not None else ()
    length = given[0] if given else (0 if window is None else window.size)
    shape = (np.ones(length) if window is None else window).astype(np.float64).reshape(-1)
    if not 0 < length <= x.shape[1] or step < 1 or shape.size != length:
        raise ModelError(node.source, f"has frames of {length} every {step} of {x.shape[1]}", "export the model again")
    return linear_maps.frames(builder, x, step, shape, one_sided=bool(node.integer("onesided", 1)))


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "Col2Im"): _columns_to_image,
    ("", "CumSum"): _cumulative_sum,
    ("", "DFT"): _fourier,
    ("", "GridSample"): _grid_sample,
    ("", "STFT"): _short_time_fourier,
}
