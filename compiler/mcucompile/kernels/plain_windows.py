"""The plain kernels of pooling and of reductions."""

import math
from dataclasses import dataclass
from typing import Any

from mcucompile.kernels.conv_patches import row_context
from mcucompile.kernels.kernel import Context, Core, Cost, Layer
from mcucompile.kernels.plain import PlainKernel
from mcucompile.kernels.requantize import requantize_code
from mcucompile.ops import IntegerAveragePool, IntegerExtreme, IntegerSum, MaxPool
from mcucompile.ops.window import Window


def window_context(layer: Layer, window: Window) -> dict[str, Any]:
    """Return the geometry that templates/ops/window.c.j2 loops over."""
    images, height, width, channels = layer.shapes[0]
    _, rows, columns, _ = layer.output_shape
    checks = []
    for axis, (extent, outputs) in enumerate(((height, rows), (width, columns))):
        last = int(window.positions(axis, outputs).max()) - window.before[axis]
        checks.append(window.before[axis] > 0 or last >= extent)
    tests = [
        f"{name} >= 0 && {name} < {extent}"
        for check, name, extent in zip(checks, ("tap_row", "tap_column"), (height, width), strict=True)
        if check
    ]
    return {
        "window": window,
        "images": images,
        "image_elements": height * width * channels,
        "row_elements": width * channels,
        "channels": channels,
        "rows": rows,
        "columns": columns,
        "checks": tuple(checks),
        "condition": " && ".join(tests),
        **row_context(layer, window, width * channels),
        "row_arguments": ("top", "offset") if checks[0] else ("offset",),
    }


def _max_pool(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, MaxPool):
        raise TypeError(op.kind)
    return {**window_context(layer, op.window), "lowest": layer.output_format.minimum}


def _average_pool(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, IntegerAveragePool):
        raise TypeError(op.kind)
    requantize = requantize_code(op.requantize, layer.output_format)
    stride = max(op.columns) + 1
    rows = tuple(row * stride for row in op.rows)
    access = op.row_access(*layer.shapes)
    divisors = len(op.requantize.shift)
    geometry = window_context(layer, op.window)
    rows_of_divisors = ("row", *geometry["row_arguments"]) if divisors > 1 else geometry["row_arguments"]
    return {
        **geometry,
        "row_arguments": rows_of_divisors,
        "sums_rows": layer.ring_rows is not None and access is not None and access.state_bytes > 0,
        "requantize": requantize,
        "divisors": divisors,
        "divisor_type": "uint8_t" if max(rows) < 256 else "uint16_t",
        "row_divisors": rows,
        "column_divisors": op.columns,
        "digit_shift": requantize.digit_shift,
        "digits": requantize.padded_digits,
        "zero_point": op.zero_point,
    }


def _average_pool_table_bytes(layer: Layer) -> int:
    op = layer.op
    if not isinstance(op, IntegerAveragePool):
        raise TypeError(op.kind)
    divisors = len(op.requantize.shift)
    digits = len(requantize_code(op.requantize, layer.output_format).padded_digits)
    return 0 if divisors == 1 else len(op.rows) + len(op.columns) + digits + divisors * (1 + 4)


def _reduce_sum(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, IntegerSum):
        raise TypeError(op.kind)
    return {
        **_reduced(layer),
        "magnitudes": op.magnitudes,
        "zero_point": op.zero_point,
        "requantize": requantize_code(op.requantize, layer.output_format),
    }


def _reduce_extreme(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, IntegerExtreme):
        raise TypeError(op.kind)
    return {**_reduced(layer), "largest": op.largest}


def _reduced(layer: Layer) -> Context:
    outer, count, inner = layer.shapes[0]
    return {"outer": outer, "count": count, "inner": inner}


@dataclass(frozen=True, slots=True)
class PoolKernel(PlainKernel):
    """A kernel that takes as long for each tap of each window."""

    def cost(self, layer: Layer, core: Core) -> Cost:  # noqa: ARG002 - much the same on all
        """Count taps."""
        op = layer.op
        if not isinstance(op, MaxPool | IntegerAveragePool):
            raise TypeError(op.kind)
        taps = math.prod(layer.output_shape) * op.window.taps
        return Cost(self.instructions_per_element * taps, self.table_bytes(layer))


WINDOW_KERNELS = (
    PoolKernel("plain", "max_pool", "ops/max_pool.c.j2", 10, _max_pool),
    PoolKernel("plain", "average_pool", "ops/average_pool.c.j2", 10, _average_pool, _average_pool_table_bytes),
    PlainKernel("plain", "reduce_sum", "ops/reduce_sum.c.j2", 8, _reduce_sum),
    PlainKernel("plain", "reduce_extreme", "ops/reduce_extreme.c.j2", 6, _reduce_extreme),
)
