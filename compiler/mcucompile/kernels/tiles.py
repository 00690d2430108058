"""Weighted sums in tiles of eight registers, on cores with DSP instructions: what all such kernels share.

A tile is two windows by four outputs, so that each word of x serves four sums and each word of the weights two; a
single row of a dense layer takes one window by eight outputs. The words of two windows lie interleaved in a buffer
on the stack, packed once for all outputs. The loop is runtime_c/dsp/tiles.h, unrolled as suits the layer.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.kernels.conv_patches import conv_of, row_context
from mcucompile.kernels.dense import Sums, sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.kernels.requantize import requantize_code
from mcucompile.numerics import Int, Requantization
from mcucompile.ops import IntegerDense
from mcucompile.ops.window import Window

# Words of each window in one turn of the loop, at most: each takes 44 to 60 bytes of code.
_MOST_UNROLLED = 16
_REGISTERS = 8
_WORD_BITS = 32
_INT16_MAX = 32767
# Instructions around the words: of a turn of the loop; of a call, from its arguments to its return.
_PER_TURN, _PER_CALL = 3, 23
# Instructions to finish an output: for each window; for all windows; more where sums are combined; without multiplier.
_PER_CODE, _PER_OUTPUT, _PER_COMBINED = 5, 4, 2
# Instructions of a row of outputs, of a row of taps, of packing a row of taps or a tap, of copying a value.
_PER_ROW, _PER_TAP_ROW, _PER_PACK, _PER_COPY = 25, 14, 9, 6


@dataclass(frozen=True, slots=True)
class Tile:
    """A routine of runtime_c/dsp/tiles.h.

    Attributes:
        macro: that defines it, with the arguments that follow the name.
        windows: at a time, 1 or 2.
        columns: words of the weights for each word of x.
        instructions: for each word of x.
        per_call: beyond those of every tile.
    """

    macro: str
    windows: int
    columns: int
    instructions: int
    per_call: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Tiled:
    """A layer's sums as tiles make them.

    Attributes:
        tile: the routine.
        words: (columns, words) of the weights.
        convert: C functions of a word of x, one for each word that is packed.
        combine: how two sums become one: "add" or "subtract", then halved; "" for one sum.
        requantize: of the sums as tiles make them.
    """

    tile: Tile
    words: Int
    convert: tuple[str, ...]
    combine: str
    requantize: Requantization

    @property
    def unrolled(self) -> int:
        """Words in a turn of the loop: those that take the fewest instructions."""
        count = self.words.shape[1]
        return min(range(1, _MOST_UNROLLED + 1), key=lambda words: (self._looped(-(-count // words), words), words))

    @property
    def turns(self) -> int:
        """Turns of the loop; the last words may be padding."""
        return -(-self.words.shape[1] // self.unrolled)

    @property
    def outputs_per_tile(self) -> int:
        """Outputs that a tile makes of each window."""
        return _REGISTERS // self.tile.windows // (2 if self.combine else 1)

    @property
    def tiles(self) -> int:
        """Tiles that make all outputs of a window."""
        return -(-len(self.words) // self.tile.columns)

    @property
    def packed(self) -> tuple[int, ...]:
        """The weights as tiles read them, padded with words and columns of 0."""
        columns, words = self.tiles * self.tile.columns, self.turns * self.unrolled
        padded = np.zeros((columns, words), dtype=np.int64)
        padded[: len(self.words), : self.words.shape[1]] = self.words
        return tuple(padded.reshape(self.tiles, -1, words).transpose(0, 2, 1).reshape(-1).tolist())

    @property
    def instructions(self) -> int:
        """Instructions of all tiles over the tile's windows, each output's code included."""
        n_out = len(self.requantize.offset)
        code = _PER_CODE + _PER_COMBINED * bool(self.combine)
        each = self._looped(self.turns, self.unrolled) + _PER_CALL + self.tile.per_call
        return self.tiles * each + n_out * (self.tile.windows * code + _PER_OUTPUT)

    def _looped(self, turns: int, words: int) -> int:
        return turns * (words * self.tile.instructions + _PER_TURN)


class TileSums(ABC):
    """One way to make weighted sums in tiles."""

    @abstractmethod
    def refusal(self, sums: Sums, core: Core) -> str | None:
        """Return why tiles cannot make the sums, None if they can."""

    @abstractmethod
    def tiled(self, sums: Sums, windows: int) -> Tiled:
        """Return the sums as tiles make them, for one or two windows at a time."""


@dataclass(frozen=True, slots=True)
class TileKernel(Kernel):
    """A kernel whose sums are made in tiles.

    Attributes:
        sums: how.
    """

    headers: ClassVar[tuple[str, ...]] = ("dsp/tiles.h",)
    sums: TileSums

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse other cores, and what the sums refuse."""
        if not core.has_dsp:
            return "needs a core with DSP instructions"
        sums = sums_of(layer)
        if sums.groups > 1:
            return "computes one group of channels only"
        return self.sums.refusal(sums, core)


@dataclass(frozen=True, slots=True)
class TileRow(TileKernel):
    """One row of a dense layer: a window by eight outputs."""

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse several rows."""
        return "computes one row only" if sums_of(layer).rows > 1 else TileKernel.refusal(self, layer, core)

    def cost(self, layer: Layer) -> Cost:
        """Count the words to pack and the tiles."""
        tiled = self.sums.tiled(sums_of(layer), 1)
        words = tiled.turns * tiled.unrolled
        each = 4 + len(tiled.convert)
        return Cost(
            _PER_ROW + each * words // len(tiled.convert) + tiled.instructions,
            4 * len(tiled.packed) + scaling_bytes(layer, tiled),
            4 * (words + _REGISTERS),
        )

    def context(self, layer: Layer) -> Context:
        """Return the packed weights, the loop and the codes."""
        return tiled_context(layer, self.sums.tiled(sums_of(layer), 1))


@dataclass(frozen=True, slots=True)
class TileRows(TileKernel):
    """Rows of pixels, of a convolution or of a dense layer: two windows by four outputs."""

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse planes, and a single row, for which the other tile is made."""
        if isinstance(layer.op, IntegerDense):
            if sums_of(layer).rows == 1:
                return "computes several rows only"
        elif conv_of(layer).planar:
            return "reads images with channels last only"
        return TileKernel.refusal(self, layer, core)

    def cost(self, layer: Layer) -> Cost:
        """Every two pixels of the output are gathered, packed and summed."""
        return row_tiles_cost(layer, self.sums.tiled(sums_of(layer), 2))

    def context(self, layer: Layer) -> Context:
        """Return the packed weights, the loop, the codes and the geometry."""
        return row_tiles_context(layer, self.sums.tiled(sums_of(layer), 2))


@dataclass(frozen=True, slots=True)
class Geometry:
    """Rows of windows as the template sees them; a dense layer's rows are pixels.

    Attributes:
        images, height, width, channels: of the input.
        rows, columns: of the output.
        window, fill: of the convolution.
    """

    images: int
    height: int
    width: int
    channels: int
    rows: int
    columns: int
    window: Window
    fill: int

    @property
    def checks(self) -> tuple[bool, bool]:
        """Whether windows reach beyond rows and columns of the image."""
        checks = []
        for axis, (extent, outputs) in enumerate(((self.height, self.rows), (self.width, self.columns))):
            last = int(self.window.positions(axis, outputs).max()) - self.window.before[axis]
            checks.append(self.window.before[axis] > 0 or last >= extent)
        return checks[0], checks[1]


def geometry_of(layer: Layer) -> Geometry:
    """Return the geometry of a convolution, or of a dense layer's rows."""
    if isinstance(layer.op, IntegerDense):
        rows = sums_of(layer).rows
        return Geometry(1, 1, rows, layer.shapes[0][-1], 1, rows, Window((1, 1)), 0)
    op = conv_of(layer)
    _, rows, columns, _ = layer.output_shape
    return Geometry(*layer.shapes[0], rows, columns, op.window, op.fill)


def tiled_context(layer: Layer, tiled: Tiled) -> Context:
    """Return what both templates need: packed weights, the loop, the codes."""
    sums = sums_of(layer)
    n_out, n_in = sums.weights.codes.shape
    values = _WORD_BITS // sums.input.bits
    code = requantize_code(tiled.requantize, sums.output)
    multipliers = np.broadcast_to(tiled.requantize.multiplier, n_out)
    scalable = not (code.is_wide or code.tie_window) and int(np.abs(multipliers).max()) <= _INT16_MAX
    scaling = zip(
        np.broadcast_to(code.offsets, n_out).tolist(),
        multipliers.tolist(),
        np.broadcast_to(tiled.requantize.shift, n_out).tolist(),
        strict=True,
    )
    return {
        "n_in": int(n_in),
        "n_out": int(n_out),
        "values": values,
        "whole_words": int(n_in) // values,
        "left": int(n_in) % values,
        "words": -(-int(n_in) // values),
        "tile": tiled.tile,
        "tile_name": f"{tiled.tile.macro.split('(', maxsplit=1)[0].lower()}_{tiled.unrolled}",
        "unrolled": tiled.unrolled,
        "convert": tiled.convert,
        "packed_words": tiled.words.shape[1],
        "buffer_words": tiled.turns * tiled.unrolled,
        "weights": tiled.packed,
        "tiles": tiled.tiles,
        "outputs_per_tile": tiled.outputs_per_tile,
        "combine": tiled.combine,
        "requantize": code,
        "scaling": tuple(scaling) if scalable else (),
    }


def scaling_bytes(layer: Layer, tiled: Tiled) -> int:
    """Return the bytes of flash that requantization takes, with a multiplier."""
    code = requantize_code(tiled.requantize, layer.output_format)
    return code.table_bytes if code.is_wide or code.tie_window else 8 * len(tiled.requantize.offset)


def row_tiles_cost(layer: Layer, tiled: Tiled) -> Cost:
    """Return the cost of two windows at a time."""
    geometry, sums = geometry_of(layer), sums_of(layer)
    pairs = -(-geometry.columns // 2)
    size = geometry.window.size
    # To load and store a source word of both windows and what it takes to convert it.
    values = _WORD_BITS // sums.input.bits
    per_word = 4 + 2 * len(tiled.convert) + 2 * (tiled.convert != ("mcu_word_u8",) and tiled.convert != ("",))
    n_in = int(sums.weights.codes.shape[1])
    gather = size[0] * (_PER_TAP_ROW + _PER_PACK) + per_word * -(-n_in // values)
    stack = 4 * 2 * tiled.turns * tiled.unrolled
    if geometry.channels % values:
        gather += 2 * _PER_COPY * n_in
        stack += 2 * values * -(-n_in // values) * layer.formats[0].item_bytes
    rows = geometry.images * geometry.rows
    return Cost(
        rows * (_PER_ROW + pairs * (gather + tiled.instructions)),
        4 * len(tiled.packed) + scaling_bytes(layer, tiled),
        stack + 4 * _REGISTERS,
    )


def row_tiles_context(layer: Layer, tiled: Tiled) -> Context:
    """Return the geometry of two windows at a time. Strides are in elements of the input."""
    geometry = geometry_of(layer)
    context = tiled_context(layer, tiled)
    row = geometry.width * geometry.channels
    reads_words = geometry.channels % (_WORD_BITS // layer.formats[0].bits) == 0
    return {
        **context,
        "geometry": geometry,
        "window": geometry.window,
        "checks": geometry.checks,
        "reads_words": reads_words,
        "row_stride": row,
        "image_elements": geometry.height * row,
        "row_elements": geometry.columns * int(context["n_out"]),  # type: ignore[call-overload]
        **row_context(layer, geometry.window, row),
        "row_arguments": ("top", "offset") if geometry.checks[0] else ("offset",),
    }


def bytes_as_words(values: Int) -> Int:
    """Return rows of bytes 0..255 as words, the first byte lowest: (rows, 4 * words) -> (rows, words)."""
    quads = values.reshape(len(values), -1, 4)
    return np.asarray((quads << np.array([0, 8, 16, 24])).sum(axis=-1), dtype=np.int64)


def halfwords_as_words(values: Int) -> Int:
    """Return rows of halfwords of any sign as words, the first one lowest: (rows, 2 * words) -> (rows, words)."""
    pairs = values.reshape(len(values), -1, 2) & 0xFFFF
    return np.asarray(pairs[..., 0] | (pairs[..., 1] << 16), dtype=np.int64)


def padded(values: Int, multiple: int, value: int) -> Int:
    """Return rows made a multiple as long with a value."""
    missing = -values.shape[1] % multiple
    return np.pad(values, ((0, 0), (0, missing)), constant_values=value)
