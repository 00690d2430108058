"""Convolution by any kernel of weighted sums: each window's values are laid together and summed like a row.

The copy costs a few instructions for each value, once for all outputs; a pointwise convolution needs none.
"""

import math
from dataclasses import dataclass, replace

from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.ops import IntegerConv
from mcucompile.ops.window import Window

# Taps of a depthwise convolution, at most: its code is as long.
_MOST_TAPS = 32
# Instructions to copy one value into the patch, of one group or of several, and around each output pixel.
_PER_VALUE = {"rv32imac": (5, 5), "rv32ec": (5, 5), "cortex-m0": (5, 6.8), "cortex-m4": (5, 5)}
_PER_PIXEL = 60


@dataclass(frozen=True, slots=True)
class ConvPatches(Kernel):
    """A convolution around another kernel.

    Attributes:
        sums: the kernel that makes the weighted sums of one window.
        has_depthwise: kernels/depthwise.py has one around the same term.
    """

    sums: Kernel
    has_depthwise: bool

    @property
    def included(self) -> tuple[str, ...]:
        """The headers of the inner kernel."""
        return self.sums.included

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse what the inner kernel refuses, and what kernels/depthwise.py does without copies."""
        if self.has_depthwise and depthwise_refusal(layer) is None:
            return "leaves depthwise convolutions to a kernel of their own"
        return self.sums.refusal(layer, core)

    def cost(self, layer: Layer, core: Core) -> Cost:
        """Every output pixel takes a patch and the sums over it; the patch is on the stack."""
        op = conv_of(layer)
        inner = self.sums.cost(layer, core)
        values = 0 if _reads_in_place(op) else _patch_values(op)
        pixels = math.prod(layer.output_shape[:3])
        per_value = core.pick(_PER_VALUE)[op.groups > 1]
        return replace(
            inner,
            instructions=round(pixels * (inner.instructions + per_value * values + _PER_PIXEL)),
            waits=pixels * inner.waits,
            stack_bytes=inner.stack_bytes + values * layer.formats[0].item_bytes,
        )

    def context(self, layer: Layer) -> Context:
        """Add the geometry. Strides are in elements of the input."""
        op = conv_of(layer)
        n, height, width, channels = layer.shapes[0]
        if op.planar:
            height, width, channels = width, channels, height
        row, column, channel = (width, 1, height * width) if op.planar else (width * channels, channels, 1)
        window = op.window
        _, out_rows, out_columns, n_out = layer.output_shape
        return {
            **self.sums.context(layer),
            "sums_template": self.sums.template,
            "images": n,
            "height": height,
            "width": width,
            "channels": channels,
            "group_channels": channels // op.groups,
            "image_elements": height * width * channels,
            "row_stride": row,
            "column_stride": column,
            "channel_stride": channel,
            "window": window,
            "taps": window.taps,
            "out_rows": out_rows,
            "out_columns": out_columns,
            "row_elements": out_columns * n_out,
            "patch": 0 if _reads_in_place(op) else _patch_values(op),
            "fill": op.fill,
            **row_context(layer, window, row),
            "row_arguments": ("offset",) if _reads_in_place(op) else ("top", "offset"),
        }


def row_context(layer: Layer, window: Window, row_stride: int) -> Context:
    """Return how a window's rows lie in the input: whole, or a ring of rows.

    Args:
        row_stride: elements from one row to the next.
    """
    ring = layer.ring_rows or 0
    step = window.dilations[0] % ring if ring else window.dilations[0]
    return {
        "streamed": layer.ring_rows is not None,
        "input_row": row_stride,
        "ring_elements": ring * row_stride,
        "tap_step": step * row_stride,
    }


def depthwise_refusal(layer: Layer) -> str | None:
    """Return why a layer is no depthwise convolution of few taps."""
    op = layer.op
    if not isinstance(op, IntegerConv) or op.planar:
        return "reads images with channels last only"
    if not len(op.weights.codes) == op.groups == layer.shapes[0][-1]:
        return "computes one output of each channel only"
    return f"needs windows of at most {_MOST_TAPS} taps" if op.window.taps > _MOST_TAPS else None


def conv_of(layer: Layer) -> IntegerConv:
    """Return the layer's operator as a convolution."""
    if not isinstance(layer.op, IntegerConv):
        raise TypeError(f"{layer.op.kind} is not a convolution")
    return layer.op


def _reads_in_place(op: IntegerConv) -> bool:
    return op.window.is_pointwise and not op.planar


def _patch_values(op: IntegerConv) -> int:
    return int(op.weights.codes.shape[1]) * op.groups
