"""Depthwise convolution by any term: a few windows of a row at a time, channel by channel, without copies.

Of windows side by side that lie in the image each value is loaded once for all that see it, and each weight once for
all windows. Rows beyond the image are read from a table of padding. Windows at the sides, and those that are too few
for a block, take each value by a pointer to its tap.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.kernels.conv_patches import depthwise_refusal
from mcucompile.kernels.dense import sums_of
from mcucompile.kernels.dense_quarter_square import DECODED_QUARTER_SQUARE
from mcucompile.kernels.dense_term import DENSE_TERMS
from mcucompile.kernels.dense_trig import DENSE_TRIG
from mcucompile.kernels.image_rows import Geometry, geometry_context, geometry_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.kernels.requantize import requantize_code
from mcucompile.kernels.scaling import code_bytes, code_context, scaling_of
from mcucompile.numerics import Int

# Code is as long as the taps of a block's windows are many.
_MOST_WINDOWS, _MOST_TERMS = 4, 50
_MOST_PADDING_BYTES = 1024
# Instructions of a block's channel and of an output; of a single window's channel, of each of its taps, and of
# finding a tap's place; of a row.
_PER_CHANNEL, _PER_SINGLE, _PER_TAP, _PER_PLACE, _PER_ROW = 8, 8, 3, 12, 60
_PER_SCALED = {"rv32imac": 8, "rv32ec": 8, "cortex-m0": 12, "cortex-m4": 6}
# What a square by quarter squares takes of a product by them.
_SQUARE_OF_PRODUCT = 0.87
_PER_LOAD = {"rv32imac": 1, "rv32ec": 1, "cortex-m0": 2, "cortex-m4": 1}


@dataclass(frozen=True, slots=True)
class Depthwise(Kernel):
    """A convolution of each channel with one filter.

    Attributes:
        sums: the kernel that makes such sums of a row; its term serves here.
        instructions: of the term, by core.
        multiplies: the term does; then codes do as well.
    """

    headers: ClassVar[tuple[str, ...]] = ("mcu_scaling.h",)
    sums: Kernel
    instructions: Mapping[str, float]
    multiplies: bool = False

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse what the term refuses, and other convolutions."""
        return depthwise_refusal(layer) or self.sums.refusal(layer, core)

    def cost(self, layer: Layer, core: Core) -> Cost:
        """Blocks of windows, single ones, and their rows."""
        geometry, sums = geometry_of(layer), sums_of(layer)
        blocks = blocks_of(layer)
        requantize = requantize_code(sums.requantize, sums.output)
        scaled = self.multiplies and bool(scaling_of(sums, sums.requantize))
        code = core.pick(_PER_SCALED) if scaled else requantize.instructions_on(core)
        term, load = core.pick(self.instructions), core.pick(_PER_LOAD)
        if sums.similarity == "euclid" and self.sums is DECODED_QUARTER_SQUARE:
            term *= _SQUARE_OF_PRODUCT
        taps = geometry.window.taps
        block = blocks.windows * (taps * term + code) + load * (blocks.loads + taps) + _PER_CHANNEL
        single = taps * (term + load * _PER_TAP) + code + _PER_SINGLE
        singles = geometry.columns - blocks.count * blocks.windows
        row = geometry.channels * (blocks.count * block + singles * single) + singles * taps * _PER_PLACE + _PER_ROW
        tables = code_bytes(sums, sums.requantize) if scaled else requantize.table_bytes
        outputs = geometry.images * geometry.rows * geometry.columns * geometry.channels
        return Cost(
            round(geometry.images * geometry.rows * row),
            _weights(layer)[1] * int(sums.weights.codes.size) + tables + padding_bytes(layer, blocks),
            4 * (taps + geometry.window.size[0]),
            (core.multiply_cycles - 1) * outputs * taps if self.multiplies else 0,
        )

    def context(self, layer: Layer) -> Context:
        """Return the term, the decoded weights, the blocks and the geometry."""
        geometry, sums = geometry_of(layer), sums_of(layer)
        blocks = blocks_of(layer)
        inner = self.sums.context(layer)
        shared = {name: inner[name] for name in ("step", "table", "reach", "shared_tables") if name in inner}
        codes = dict(code_context(sums, sums.requantize))
        if not self.multiplies:
            codes["scaling"] = ()
        return {
            **geometry_context(layer, geometry),
            **codes,
            **shared,
            "blocks": blocks,
            "weights": tuple(sums.weights.values.reshape(-1).tolist()),
            "weight_type": _weights(layer)[0],
            "padding": padding_bytes(layer, blocks) // layer.formats[0].item_bytes,
        }


@dataclass(frozen=True, slots=True)
class Blocks:
    """How the windows of a row are taken.

    Attributes:
        first: windows before the first block, one by one.
        count: blocks.
        windows: of a block.
        columns: of the input that a block sees.
        taps: those columns that windows see, and the (window, tap) that see each.
        rows: of taps.
    """

    first: int
    count: int
    windows: int
    columns: int
    taps: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
    rows: int

    @property
    def loads(self) -> int:
        """Values that a block loads of a channel."""
        return self.rows * len(self.taps)


def blocks_of(layer: Layer, most_windows: int = _MOST_WINDOWS) -> Blocks:
    """Return the blocks that leave the least to do, of so many windows at most."""
    geometry, item = geometry_of(layer), layer.formats[0].item_bytes
    taps = geometry.window.taps
    most = max(min(most_windows, _MOST_TERMS // taps), 1)
    choices = [_block_choice(geometry, windows) for windows in range(1, most + 1)]
    fit = [blocks for blocks in choices if blocks.columns * geometry.channels * item <= _MOST_PADDING_BYTES]

    def price(blocks: Blocks) -> int:
        singles = geometry.columns - blocks.count * blocks.windows
        return blocks.count * (blocks.loads + taps + _PER_CHANNEL) + singles * (_PER_TAP * taps + _PER_SINGLE)

    return min(fit or choices[:1], key=price)


def _block_choice(geometry: Geometry, windows: int) -> Blocks:
    window = geometry.window
    size, stride, dilation, before = (
        pair[1] for pair in (window.size, window.strides, window.dilations, window.before)
    )
    inside = window.positions(1, geometry.columns) - before
    whole = np.flatnonzero((inside[:, 0] >= 0) & (inside[:, -1] < geometry.width))
    columns = (windows - 1) * stride + (size - 1) * dilation + 1
    seen = [
        (column, tuple((w, k) for w in range(windows) for k in range(size) if w * stride + k * dilation == column))
        for column in range(columns)
    ]
    first = int(whole[0]) if len(whole) else geometry.columns
    count = len(whole) // windows
    return Blocks(first, count, windows, columns, tuple(pair for pair in seen if pair[1]), window.size[0])


def _weights(layer: Layer) -> tuple[str, int]:
    """Return the C type of decoded weights and its bytes."""
    values: Int = sums_of(layer).weights.values
    for bits in (8, 16):
        if -(1 << (bits - 1)) <= int(values.min()) and int(values.max()) < 1 << (bits - 1):
            return f"int{bits}_t", bits // 8
    return "int32_t", 4


def padding_bytes(layer: Layer, blocks: Blocks) -> int:
    """Return the bytes of the table of padding: what a block sees of a row, or a pixel."""
    geometry = geometry_of(layer)
    if not any(geometry.checks):
        return 0
    columns = blocks.columns if geometry.checks[0] and blocks.count else 1
    return columns * geometry.channels * layer.formats[0].item_bytes


# Instructions of the terms on each core, counted by benchmarks/kernels.py.
_INSTRUCTIONS = {
    "multiply": (2.6, 1.0, 4.2, 0.9),
    "subtract": (2.2, 2.4, 4.9, 2.6),
    "square": (3.9, 2.0, 5.6, 2.4),
    "compare": (5.8, 6.6, 10.1, 8.1),
    "add magnitudes": (6.5, 7.2, 11.3, 9.8),
    "compare signs": (3.7, 4.2, 6.0, 3.0),
    "add or subtract": (1.3, 1.4, 4.0, 2.1),
    "cosine table": (11.6, 12.3, 17.1, 12.0),
    "cordic": (433.0, 449.0, 568.0, 492.0),
    "quarter square": (13.4, 18.3, 10.9, 6.5),
}
DEPTHWISE = tuple(
    Depthwise(
        f"depthwise {sums.name}",
        "conv",
        "kernels/depthwise.c.j2",
        sums,
        dict(zip(("rv32imac", "rv32ec", "cortex-m0", "cortex-m4"), _INSTRUCTIONS[sums.name], strict=True)),
        sums.name in ("multiply", "square"),
    )
    for sums in (*DENSE_TERMS, *DENSE_TRIG, DECODED_QUARTER_SQUARE)
)
