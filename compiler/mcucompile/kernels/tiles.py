"""Weighted sums in tiles of eight registers, on cores with DSP instructions: what all such kernels share.

A tile is two windows by four outputs, so that each word of x serves four sums and each word of the weights two; a
single row of a dense layer takes one window by eight outputs. The words of two windows lie interleaved in a buffer
on the stack, packed once for all outputs. The loop is runtime_c/dsp/tiles.h, unrolled as suits the layer.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.kernels.dense import Sums, sums_of
from mcucompile.kernels.image_rows import Geometry, geometry_context, geometry_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.kernels.requantize import requantize_code
from mcucompile.kernels.scaling import code_bytes, code_context, scaling_of
from mcucompile.numerics import Int, Requantization
from mcucompile.ops import IntegerConv

# Words of each window in one turn of the loop, at most: each takes 44 to 60 bytes of code.
_MOST_UNROLLED = 16
_WORD_BITS = 32
# Instructions around the words: of a turn of the loop; of a call, from its arguments to its return.
_PER_TURN, _PER_CALL = 3, 23
# Instructions to finish an output: for each window; for all windows; more where sums are combined; without multiplier.
_PER_CODE, _PER_OUTPUT, _PER_COMBINED = 5, 4, 2
# Instructions of a row of outputs, of a row of taps, of packing a row of taps or a tap.
_PER_ROW, _PER_TAP_ROW, _PER_PACK = 25, 14, 9
# Instructions of laying values together: around all, of copying a word, of testing and copying a value.
_PER_GATHER, _PER_COPY, _PER_VALUE = 20, 2, 6


@dataclass(frozen=True, slots=True)
class Tile:
    """A routine of runtime_c/dsp/tiles.h.

    Attributes:
        name: of the macro that defines it, MCU_ before it, in lower case.
        arguments: of the macro between the name and the words in a turn.
        windows: at a time, 1 or 2.
        columns: words of the weights for each word of x.
        instructions: for each word of x.
        per_turn, per_call: instructions beyond those of every tile.
        outputs: that a column serves.
        lanes: two outputs are in lanes of a sum: all first ones are stored before all second ones.
    """

    name: str
    arguments: str
    windows: int
    columns: int
    instructions: int
    per_turn: int = 0
    per_call: int = 0
    outputs: int = 1
    lanes: bool = False

    def place(self, window: int, output: int) -> int:
        """Return where a window's sum of an output is stored."""
        if self.lanes:
            return self.windows * self.columns * (output % 2) + self.columns * window + output // 2
        return self.columns * self.outputs * window + output


@dataclass(frozen=True, slots=True)
class Norm:
    """What each window adds to all its sums, made where its words are packed.

    Attributes:
        add: C function of the norm so far and a packed word.
        finish: C function of a sum and the norm.
        instructions: of `add` and of `finish`.
    """

    add: str
    finish: str
    instructions: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Routine:
    """A function that a macro of the runtime defines, shared by all layers that need it.

    Attributes:
        suffix: of its name, behind the model's.
        macro: with the name as its first argument.
        arguments: the others.
    """

    suffix: str
    macro: str
    arguments: str


@dataclass(frozen=True, slots=True, eq=False)
class Tiled:
    """A layer's sums as tiles make them.

    Attributes:
        tile: the routine.
        words: (columns, words) of the weights.
        convert: C functions of a word of x, one for each word that is packed.
        combine: how two sums become one: "add" or "subtract", then halved; "" for one sum.
        requantize: of the sums as tiles make them.
        most_unrolled: words in a turn of the loop, at most.
        norm: of each window, if sums need one.
    """

    tile: Tile
    words: Int
    convert: tuple[str, ...]
    combine: str
    requantize: Requantization
    most_unrolled: int = _MOST_UNROLLED
    norm: Norm | None = None

    @property
    def unrolled(self) -> int:
        """Words in a turn of the loop: those that take the fewest instructions."""
        count = int(self.words.shape[1])
        return min(range(1, self.most_unrolled + 1), key=lambda words: (self._looped(-(-count // words), words), words))

    @property
    def routine(self) -> Routine:
        """The C function that the tile is."""
        parts = tuple(filter(None, (self.tile.arguments, str(self.unrolled))))
        name, arguments = "_".join((self.tile.name, *parts)), ", ".join(parts)
        return Routine(name, f"MCU_{self.tile.name.upper()}", arguments)

    @property
    def turns(self) -> int:
        """Turns of the loop; the last words may be padding."""
        return -(-int(self.words.shape[1]) // self.unrolled)

    @property
    def outputs_per_tile(self) -> int:
        """Outputs that a tile makes of each window."""
        return self.tile.columns * self.tile.outputs // (2 if self.combine else 1)

    @property
    def places(self) -> tuple[tuple[int, ...], ...]:
        """Where the sums of each window lie, of all outputs of a tile."""
        each = range(self.tile.columns * self.tile.outputs)
        return tuple(tuple(self.tile.place(window, k) for k in each) for window in range(self.tile.windows))

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
        code = _PER_CODE + _PER_COMBINED * bool(self.combine) + (self.norm.instructions[1] if self.norm else 0)
        each = self._looped(self.turns, self.unrolled) + _PER_CALL + self.tile.per_call
        return self.tiles * each + n_out * (self.tile.windows * code + _PER_OUTPUT)

    def _looped(self, turns: int, words: int) -> int:
        return turns * (words * self.tile.instructions + _PER_TURN + self.tile.per_turn)


class TileSums(ABC):
    """One way to make weighted sums in tiles."""

    @abstractmethod
    def refusal(self, sums: Sums, core: Core) -> str | None:
        """Return why tiles cannot make the sums, None if they can."""

    @abstractmethod
    def tiled(self, sums: Sums, windows: int) -> Tiled:
        """Return the sums as tiles make them, for one or two windows at a time."""


@dataclass(frozen=True, slots=True)
class Tiles(Kernel):
    """Rows of pixels, of a convolution or of a dense layer, two at a time, or one where a row has no more.

    Attributes:
        sums: how a tile makes sums.
    """

    headers: ClassVar[tuple[str, ...]] = ("mcu_scaling.h", "dsp/words.h", "dsp/tiles.h")
    sums: TileSums

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse other cores, groups, planes, and what the sums refuse."""
        if not core.has_dsp:
            return "needs a core with DSP instructions"
        sums = sums_of(layer)
        if sums.groups > 1:
            return "computes one group of channels only"
        if isinstance(layer.op, IntegerConv) and layer.op.planar:
            return "reads images with channels last only"
        return self.sums.refusal(sums, core)

    def cost(self, layer: Layer, core: Core) -> Cost:
        """Every pixel or two of the output are gathered, packed and summed."""
        return _cost(layer, self._tiled(layer), core)

    def context(self, layer: Layer) -> Context:
        """Return the packed weights, the loop, the codes and the geometry."""
        return _context(layer, self._tiled(layer))

    def _tiled(self, layer: Layer) -> Tiled:
        return self.sums.tiled(sums_of(layer), min(geometry_of(layer).columns, 2))


def _cost(layer: Layer, tiled: Tiled, core: Core) -> Cost:
    geometry, sums, windows = geometry_of(layer), sums_of(layer), tiled.tile.windows
    turns = -(-geometry.columns // windows)
    values = _WORD_BITS // sums.input.bits
    n_in = int(sums.weights.codes.shape[1])
    converted = sum(convert not in ("", "mcu_word_u8") for convert in tiled.convert)
    # A source word is loaded, converted and stored for each window; the loop around it.
    per_word = windows * (1 + converted) + len(tiled.convert) + 2
    if tiled.norm:
        per_word += windows * len(tiled.convert) * tiled.norm.instructions[0]
    gather = per_word * -(-n_in // values)
    stack = 4 * windows * tiled.turns * tiled.unrolled
    if geometry.channels % values and geometry.window.taps > 1:
        gather += _PER_GATHER + round(windows * _copied(geometry, values))
        stack += 4 * windows * -(-n_in // values)
    else:
        gather += geometry.window.size[0] * (_PER_TAP_ROW + _PER_PACK)
    each = gather + tiled.instructions
    if not core.has_multiplier or not scaling_of(sums, tiled.requantize):
        code = requantize_code(tiled.requantize, sums.output).instructions_on(core)
        each += windows * len(sums.weights.codes) * (code - _PER_CODE)
    # A single window in a single row has no loops around it.
    around = _PER_ROW if geometry.rows * geometry.columns > 1 else -_PER_TAP_ROW
    return Cost(
        geometry.images * geometry.rows * (around + turns * each),
        4 * len(tiled.packed) + code_bytes(sums, tiled.requantize),
        stack + 4 * sum(map(len, tiled.places)),
    )


def _copied(geometry: Geometry, values: int) -> float:
    """Return the instructions that lay a window's values together, the mean over all windows.

    Args:
        geometry: of windows whose pixels are no whole words.
        values: of a word.
    """
    rows, columns = geometry.window.size
    row = columns * geometry.channels
    one_by_one = rows * (_PER_TAP_ROW + _PER_VALUE * row)
    if geometry.window.dilations[1] > 1 and columns > 1:
        return one_by_one
    return geometry.inside * rows * _PER_COPY * (row // values + row % values) + (1 - geometry.inside) * one_by_one


def _context(layer: Layer, tiled: Tiled) -> Context:
    """Return what the template needs. Strides are in elements of the input."""
    geometry, sums = geometry_of(layer), sums_of(layer)
    n_in = int(sums.weights.codes.shape[1])
    values = _WORD_BITS // sums.input.bits
    return {
        **geometry_context(layer, geometry),
        **code_context(sums, tiled.requantize),
        "n_in": n_in,
        "word_values": values,
        "tile": tiled.tile,
        "routines": (tiled.routine,),
        "convert": tiled.convert,
        "packed_words": tiled.words.shape[1],
        "buffer_words": tiled.turns * tiled.unrolled,
        "weights": tiled.packed,
        "outputs_per_tile": tiled.outputs_per_tile,
        "places": tiled.places,
        "combine": tiled.combine,
        "norm": tiled.norm,
    }
