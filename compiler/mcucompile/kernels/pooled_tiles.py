"""Convolutions in tiles whose sums are pooled before they become codes.

All windows under one of the pool, two columns by a few rows, are summed for a tile's outputs. The largest sum's code is
the largest code, or the smallest one's where multipliers are negative: a code is made for each value of the pool, and
the convolution's own output never.
"""

import math
from dataclasses import dataclass, replace

from mcucompile.kernels.image_rows import geometry_of
from mcucompile.kernels.kernel import Context, Core, Cost, Layer
from mcucompile.kernels.tap_words import copy_of, has_part_words
from mcucompile.kernels.tiles import WORD_BITS, Tiles, tiles_context, tiles_cost
from mcucompile.ops import IntegerPooledConv

_COLUMNS = 2
# Instructions that compare a sum with the best one.
_PER_SUM = 2


@dataclass(frozen=True, slots=True)
class PooledTiles(Tiles):
    """For pools of two columns whose windows lie side by side."""

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse other pools, rounding that is no floor, blocks of copied rows, and what tiles refuse."""
        op = _pooled(layer)
        pool = op.pool
        if pool.size != pool.strides or pool.size[1] != _COLUMNS or any((*pool.before, *pool.after)):
            return "needs pools of two columns, side by side and without padding"
        if op.requantize.tie_window or op.requantize.zero_point is not None:
            return "rounds ties up only"
        inner = _convolution(layer)
        reason = Tiles.refusal(self, inner, core)
        if reason:
            return reason
        if len(set((self.tiled(inner).requantize.multiplier > 0).tolist())) > 1:
            return "needs multipliers of one sign"
        if self.tiled(inner).tile.windows != _COLUMNS:
            return "sums one window at a time"
        geometry, values = geometry_of(inner), WORD_BITS // layer.formats[0].bits
        copy = copy_of(inner, geometry, _COLUMNS) if has_part_words(geometry, values) else None
        return "copies whole rows only" if copy is not None and copy.block else None

    def cost(self, layer: Layer, core: Core) -> Cost:
        """The convolution's, with comparisons in place of most codes."""
        inner, op = _convolution(layer), _pooled(layer)
        rows, windows = op.pool.size[0], op.pool.taps
        whole = tiles_cost(inner, self.tiled(inner), core, codes=1 / rows)
        compared = _PER_SUM * windows * math.prod(layer.output_shape)
        return replace(whole, instructions=round(whole.instructions + compared), stack_bytes=whole.stack_bytes * rows)

    def context(self, layer: Layer) -> Context:
        """Return the convolution's, the pool, and which sum is the best."""
        op, inner = _pooled(layer), _convolution(layer)
        tiled = self.tiled(inner)
        return {
            **tiles_context(inner, tiled),
            "pool_rows": op.pool.size[0],
            "pooled_rows": layer.output_shape[1],
            "pooled_columns": layer.output_shape[2],
            "best": "mcu_max_s32" if int(tiled.requantize.multiplier[0]) > 0 else "mcu_min_s32",
        }


def _pooled(layer: Layer) -> IntegerPooledConv:
    if not isinstance(layer.op, IntegerPooledConv):
        raise TypeError(layer.op.kind)
    return layer.op


def _convolution(layer: Layer) -> Layer:
    """Return the convolution as a layer, without outputs that the pool leaves over."""
    op = _pooled(layer)
    n, rows, columns, n_out = layer.output_shape
    shape = (n, rows * op.pool.size[0], columns * op.pool.size[1], n_out)
    return replace(layer, op=op.convolution, output_shape=shape)
