"""The table of kernels. Adding one: a file here, a template, one line below.

Kernels of one operator kind compete on cost; all give the same bits. The plain ones come first.
"""

from mcucompile.kernels.absolute_differences import AbsoluteDifferences
from mcucompile.kernels.affine_words import AFFINE_WORDS
from mcucompile.kernels.block_multiply import BlockMultiply
from mcucompile.kernels.conv_buckets import CONV_BUCKETS
from mcucompile.kernels.conv_columns import CONV_COLUMNS
from mcucompile.kernels.conv_levels import CONV_LEVELS
from mcucompile.kernels.conv_patches import ConvPatches
from mcucompile.kernels.conv_planes import CONV_PLANES
from mcucompile.kernels.dense_bins import DENSE_BINS
from mcucompile.kernels.dense_columns import DENSE_COLUMNS, SKIPPING_COLUMNS
from mcucompile.kernels.dense_lanes import DENSE_LANES
from mcucompile.kernels.dense_quarter_square import DENSE_QUARTER_SQUARE
from mcucompile.kernels.dense_rows import DENSE_ROWS
from mcucompile.kernels.dense_shift import DENSE_SHIFT
from mcucompile.kernels.dense_sparse import DENSE_SPARSE
from mcucompile.kernels.dense_squares import DENSE_SQUARES
from mcucompile.kernels.dense_term import DENSE_TERMS
from mcucompile.kernels.dense_trig import DENSE_TRIG
from mcucompile.kernels.depthwise import DEPTHWISE
from mcucompile.kernels.depthwise_words import DEPTHWISE_WORDS
from mcucompile.kernels.dual_multiply import DualMultiply
from mcucompile.kernels.four_view_unrolled import FOUR_VIEW_UNROLLED
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.kernels.lane_multiply import LaneMultiply
from mcucompile.kernels.max_pool import MAX_POOLS
from mcucompile.kernels.plain import PLAIN_KERNELS
from mcucompile.kernels.plain_elementwise import ELEMENTWISE_KERNELS
from mcucompile.kernels.plain_movement import MOVEMENT_KERNELS
from mcucompile.kernels.plain_pairs import PAIR_KERNELS
from mcucompile.kernels.plain_rows import ROW_KERNELS
from mcucompile.kernels.plain_windows import WINDOW_KERNELS
from mcucompile.kernels.pooled_tiles import PooledTiles
from mcucompile.kernels.recurrent import RecurrentKernel
from mcucompile.kernels.square_blocks import SquareBlocks
from mcucompile.kernels.tiles import Tiles, TileSums

_TERMS = (*DENSE_TERMS, *DENSE_TRIG)
_SUMS = (
    *_TERMS,
    DENSE_SHIFT,
    DENSE_BINS,
    DENSE_QUARTER_SQUARE,
    *DENSE_LANES,
    *DENSE_SPARSE,
    *DENSE_COLUMNS,
    *DENSE_ROWS,
)
# They compute no dot products, and recurrent layers nothing else.
_OF_SIMILARITIES = (*(kernel for kernel in DENSE_TERMS if kernel.similarity != "dot"), *DENSE_TRIG, *DENSE_LANES)
_TILES: tuple[tuple[str, TileSums], ...] = (
    ("absolute differences", AbsoluteDifferences()),
    ("dual multiply", DualMultiply(halfwords=False)),
    ("dual multiply halfwords", DualMultiply(halfwords=True)),
    ("lane multiply", LaneMultiply()),
    ("block multiply", BlockMultiply("rv32imac")),
    ("block multiply", BlockMultiply("cortex-m0")),
    ("square blocks", SquareBlocks()),
)

KERNELS: tuple[Kernel, ...] = (
    *_SUMS,
    *SKIPPING_COLUMNS,
    *DENSE_SQUARES,
    *(
        ConvPatches(kernel.name, "conv", "kernels/conv_patches.c.j2", kernel, has_depthwise=kernel in _TERMS)
        for kernel in (*_SUMS, *SKIPPING_COLUMNS, *DENSE_SQUARES)
    ),
    *CONV_COLUMNS,
    *CONV_PLANES,
    *CONV_BUCKETS,
    *CONV_LEVELS,
    *DEPTHWISE,
    DEPTHWISE_WORDS,
    *(
        RecurrentKernel(kernel.name, kind, f"kernels/{kind}.c.j2", kernel)
        for kind in ("lstm", "gru")
        for kernel in _SUMS
        if kernel not in _OF_SIMILARITIES
    ),
    *(Tiles(name, kind, "kernels/tiles.c.j2", sums) for name, sums in _TILES for kind in ("dense", "conv")),
    *(
        PooledTiles(name, "pooled_conv", "kernels/pooled_tiles.c.j2", sums)
        for name, sums in _TILES
        # They sum one window at a time, a pool's tile two.
        if not isinstance(sums, SquareBlocks)
    ),
    *PLAIN_KERNELS,
    AFFINE_WORDS,
    FOUR_VIEW_UNROLLED,
    *WINDOW_KERNELS,
    *MAX_POOLS,
    *MOVEMENT_KERNELS,
    *ELEMENTWISE_KERNELS,
    *PAIR_KERNELS,
    *ROW_KERNELS,
)

__all__ = ["KERNELS", "Context", "Core", "Cost", "Kernel", "Layer"]
