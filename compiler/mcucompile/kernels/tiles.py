"""Weighted sums in tiles whose sums stay in registers: what all such kernels share.

A tile is two windows by a few outputs, so that what is loaded of x serves all of them and what is loaded of the weights
both windows; a single row of a dense layer takes one window by more outputs. The words of two windows lie interleaved
in a buffer on the stack, packed once for all outputs. The loops are runtime_c/dsp/tiles.h, for cores with DSP
instructions and unrolled as suits the layer, and runtime_c/mcu_blocks.h for others.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mcucompile.kernels.dense import Sums, sums_of
from mcucompile.kernels.image_rows import geometry_context, geometry_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer, SharedTable
from mcucompile.kernels.requantize import RequantizeCode, requantize_code
from mcucompile.kernels.scaling import code_bytes, code_context, scaling_of
from mcucompile.kernels.tap_words import Copy, copy_instructions, copy_of, has_part_words, tap_words
from mcucompile.numerics import Int, Requantization
from mcucompile.ops import IntegerConv

# Words of each window in one turn of the loop, at most: each takes 44 to 60 bytes of code.
_MOST_UNROLLED = 16
WORD_BITS = 32
# Instructions of a turn of the loop beside its words.
_PER_TURN = 3
# Tiles without a loop around them, and what each of those saves: around it, of a code, of an output.
_MOST_IN_LINE, _SAVED_IN_LINE = 2, (5, 1, 2)
# The same where codes are made in shifts and additions.
_MOST_LITERAL = 4
# What converts bytes one by one, so that a copy of rows can be converted instead of every window.
_OF_BYTES = ("mcu_word_s8", "mcu_word_sign")


@dataclass(frozen=True, slots=True)
class TileCosts:
    """Instructions around a core's tiles, counted by benchmarks/kernels.py.

    Attributes:
        call: of a tile, from its arguments to its return.
        code, output: to finish an output: for each window; for all windows.
        combined: more for each code where sums are combined.
        row, tap_row: of a row of outputs, of a row of taps.
        pack, load: of packing a row of taps or a tap, and of each word of each window.
        gather, word, value: of windows whose pixels are no whole words: around all, of loading a word from any
            address, of putting a value into a word.
        copied: of a word whose row is copied first.
    """

    call: float
    code: float
    output: float
    combined: float
    row: float
    tap_row: float
    pack: float
    load: float
    gather: float
    word: float
    value: float
    copied: float


TILE_COSTS = {
    "rv32ec": TileCosts(30, 10, 4, 2, 25, 16, 9, 4, 20, 8, 4, 12),
    "cortex-m4": TileCosts(23, 5, 4, 2, 25, 14, 9, 1, 16, 1, 3, 2),
    "rv32imac": TileCosts(20, 10, 4, 2, 25, 16, 9, 4, 20, 8, 4, 12),
    "cortex-m0": TileCosts(50, 11, 8, 2, 35, 20, 12, 5, 30, 32, 5, 30),
}


@dataclass(frozen=True, slots=True)
class Tile:
    """A routine of runtime_c/dsp/tiles.h or runtime_c/mcu_blocks.h.

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
        reads_table: `add` takes the tile's table, too.
    """

    add: str
    finish: str
    instructions: tuple[int, int]
    reads_table: bool = False


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
        multiplies: there is a product for each weight.
        table: that the tile reads, if it does.
        origin: its entry that the tile is given.
    """

    tile: Tile
    words: Int
    convert: tuple[str, ...]
    combine: str
    requantize: Requantization
    most_unrolled: int = _MOST_UNROLLED
    norm: Norm | None = None
    multiplies: bool = False
    table: SharedTable | None = None
    origin: int = 0

    @property
    def unrolled(self) -> int:
        """Words in a turn of the loop: those that take the fewest instructions."""
        count = int(self.words.shape[1])
        return min(range(1, self.most_unrolled + 1), key=lambda words: (self._looped(-(-count // words), words), words))

    @property
    def routine(self) -> Routine:
        """The C function that the tile is; loops that never have more than a word have no argument for them."""
        unrolled = str(self.unrolled) if self._unrolls else ""
        how = ("ONCE" if self.is_once else "LOOP") if self._unrolls and not self.tile.lanes else ""
        parts = tuple(filter(None, (self.tile.arguments, unrolled, how)))
        name, arguments = "_".join((self.tile.name, *parts)).lower(), ", ".join(parts)
        return Routine(name, f"MCU_{self.tile.name.upper()}", arguments)

    @property
    def _unrolls(self) -> bool:
        return self.most_unrolled > 1

    @property
    def is_once(self) -> bool:
        """Whether all words are made without a loop, which needs no sums of 0 to begin with."""
        return self._unrolls and self.turns == 1 and not self.tile.lanes

    @property
    def is_in_line(self) -> bool:
        """Whether tiles follow each other without a loop, so that compilers know what each output is multiplied by."""
        return self.tiles <= _MOST_IN_LINE

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

    def instructions(self, costs: TileCosts, codes: float | None = None) -> float:
        """Return the instructions of all tiles over the tile's windows, each output's codes included.

        Args:
            costs: of the core.
            codes: that are made of an output's sums; one for each window by default.
        """
        n_out, windows = len(self.requantize.offset), self.tile.windows
        made = windows if codes is None else codes
        each = self._looped(self.turns, self.unrolled) + costs.call + self.tile.per_call
        if self.is_once:
            each -= _PER_TURN + windows * self.tile.columns * self.tile.outputs
        around, of_code, of_output = _SAVED_IN_LINE if self.is_in_line else (0, 0, 0)
        per_sum = costs.combined * bool(self.combine) + (self.norm.instructions[1] if self.norm else 0)
        output = made * (costs.code - of_code) + made / windows * (costs.output - of_output) + windows * per_sum
        return self.tiles * (each - around) + n_out * output

    def _looped(self, turns: int, words: int) -> int:
        return turns * (words * self.tile.instructions + _PER_TURN + self.tile.per_turn)


def plain_tile(operation: str, windows: int, words: Int, *, in_pairs: bool = False) -> Tile:
    """Return the tile of runtime_c/dsp/tiles.h for single sums that takes the fewest instructions.

    Args:
        operation: "usada8" or "smlad".
        windows: at a time, 1 or 2.
        words: (columns, words) of the weights.
        in_pairs: two columns make an output, so that both must be in one tile.
    """
    columns, count = words.shape
    call = TILE_COSTS["cortex-m4"].call
    tiles = ((8, 12),) if windows == 1 else ((4, 11),) if in_pairs else ((4, 11), (3, 8))
    each, instructions = min(tiles, key=lambda tile: -(-columns // tile[0]) * (tile[1] * count + call))
    return Tile(f"tile_{windows}x{each}", operation, windows, each, instructions)


class TileSums(ABC):
    """One way to make weighted sums in tiles.

    Attributes:
        header: of the runtime that has the loops.
    """

    header: ClassVar[str] = "dsp/tiles.h"

    def core_refusal(self, core: Core) -> str | None:
        """Return why the loops cannot run on a core, None if they can."""
        return None if core.has_dsp else "needs a core with DSP instructions"

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

    headers: ClassVar[tuple[str, ...]] = ("mcu_scaling.h", "dsp/words.h")
    sums: TileSums

    @property
    def included(self) -> tuple[str, ...]:
        """The header of the loops, too."""
        return (*self.headers, self.sums.header)

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse other cores, groups, planes, and what the sums refuse."""
        reason = self.sums.core_refusal(core)
        if reason:
            return reason
        sums = sums_of(layer)
        if sums.groups > 1:
            return "computes one group of channels only"
        if isinstance(layer.op, IntegerConv) and layer.op.planar:
            return "reads images with channels last only"
        return self.sums.refusal(sums, core)

    def cost(self, layer: Layer, core: Core) -> Cost:
        """Every pixel or two of the output are gathered, packed and summed."""
        return tiles_cost(layer, self.tiled(layer), core)

    def context(self, layer: Layer) -> Context:
        """Return the packed weights, the loop, the codes and the geometry."""
        return tiles_context(layer, self.tiled(layer))

    def tiled(self, layer: Layer) -> Tiled:
        """Return the layer's sums as tiles make them."""
        geometry, sums = geometry_of(layer), sums_of(layer)
        values = WORD_BITS // sums.input.bits
        windows = min(geometry.columns, 2)
        if not has_part_words(geometry, values):
            return self.sums.tiled(sums, windows)
        order = np.array(tap_words(geometry, values).order)
        weights = replace(sums.weights, codes=sums.weights.codes[:, order])
        tiled = self.sums.tiled(replace(sums, weights=weights), windows)
        if not _copy_convert(tiled, copy_of(layer, geometry, windows)):
            return tiled
        # The zeros that a patch ends with are not converted.
        words = tiled.words.copy()
        words[:, -1] &= (1 << (sums.input.bits * ((len(order) - 1) % values + 1))) - 1
        return replace(tiled, words=words)


def tiles_cost(layer: Layer, tiled: Tiled, core: Core, codes: float | None = None) -> Cost:
    """Return what one inference of the layer costs. codes: as of `Tiled.instructions`."""
    geometry, sums, costs = geometry_of(layer), sums_of(layer), core.pick(TILE_COSTS)
    windows = tiled.tile.windows
    turns = -(-geometry.columns // windows)
    values = WORD_BITS // sums.input.bits
    n_out, n_in = sums.weights.codes.shape
    words, packed = -(-n_in // values), len(tiled.convert)
    if tiled.norm:
        packed += windows * packed * tiled.norm.instructions[0]
    stack = 4 * windows * tiled.turns * tiled.unrolled
    around = costs.row
    if has_part_words(geometry, values):
        copy = copy_of(layer, geometry, windows)
        converted = _conversions(_gather_convert(tiled, copy))
        # Words are loaded, converted and stored; pieces of a word are put together.
        pieces = sum(len(word) - 1 for word in tap_words(geometry, values).left)
        gather = costs.gather + words * (windows * (costs.word + converted) + packed) + windows * pieces * costs.value
        if copy is not None:
            per_word = costs.copied + bool(_copy_convert(tiled, copy))
            around += copy_instructions(copy, geometry, values, per_word)
            stack += geometry.window.size[0] * copy.pixels * geometry.channels * sums.input.item_bytes
    else:
        # A source word is loaded, converted and stored for each window; the loop around it.
        per_word = windows * (costs.load + _conversions(tiled.convert)) + packed + 2
        gather = per_word * words + geometry.window.size[0] * (costs.tap_row + costs.pack)
    each = gather + tiled.instructions(costs, codes)
    if not core.has_multiplier or not scaling_of(sums, tiled.requantize):
        code = requantize_code(tiled.requantize, sums.output).instructions_on(core) * n_out
        if tiled.tiles <= _MOST_LITERAL:
            code = sum(part.literal_instructions_on(core.name) for part in _literal_codes(tiled, sums))
        each += (windows if codes is None else codes) * (code - n_out * costs.code)
    if geometry.rows * geometry.columns == 1:
        # A single window in a single row has no loops around it.
        around -= costs.row + costs.tap_row
    products = geometry.images * geometry.rows * turns * windows * n_out * n_in if tiled.multiplies else 0
    return Cost(
        round(geometry.images * geometry.rows * (around + turns * each)),
        4 * len(tiled.packed) + code_bytes(sums, tiled.requantize) + (tiled.table.bytes if tiled.table else 0),
        stack + 4 * sum(map(len, tiled.places)),
        (core.multiply_cycles - 1) * products,
    )


def _conversions(converts: tuple[str, ...]) -> int:
    return sum(convert not in ("", "mcu_word_u8") for convert in converts)


def _literal_codes(tiled: Tiled, sums: Sums) -> tuple[RequantizeCode, ...]:
    """Return the requantization of each output alone."""
    n_out, whole = len(sums.weights.codes), tiled.requantize
    multiplier, offset, shift = (np.broadcast_to(p, n_out) for p in (whole.multiplier, whole.offset, whole.shift))
    return tuple(
        requantize_code(
            replace(whole, multiplier=multiplier[o : o + 1], offset=offset[o : o + 1], shift=shift[o : o + 1]),
            sums.output,
        )
        for o in range(n_out)
    )


def _copy_convert(tiled: Tiled, copy: Copy | None) -> str:
    """Return what converts a word of a copy of rows, "" if nothing does: norms are of all that is packed."""
    return tiled.convert[0] if copy is not None and tiled.convert[0] in _OF_BYTES and not tiled.norm else ""


def _gather_convert(tiled: Tiled, copy: Copy | None) -> tuple[str, ...]:
    """Return what converts words of a window, one for each word that is packed; copies may have been converted."""
    return ("",) if _copy_convert(tiled, copy) else tiled.convert


def tiles_context(layer: Layer, tiled: Tiled) -> Context:
    """Return what the template needs. Strides are in elements of the input."""
    geometry, sums = geometry_of(layer), sums_of(layer)
    n_in = int(sums.weights.codes.shape[1])
    values = WORD_BITS // sums.input.bits
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
        "shared_tables": (tiled.table,) if tiled.table else (),
        "origin": tiled.origin,
        "in_line": tiled.is_in_line,
        "literal_codes": _literal_codes(tiled, sums) if tiled.tiles <= _MOST_LITERAL else (),
        **_part_words_context(layer, tiled, values),
    }


def _part_words_context(layer: Layer, tiled: Tiled, values: int) -> Context:
    """Return what templates/kernels/tap_words.c.j2 needs."""
    geometry = geometry_of(layer)
    if not has_part_words(geometry, values):
        return {"taps": None}
    copy = copy_of(layer, geometry, tiled.tile.windows)
    convert = _copy_convert(tiled, copy)
    bits = layer.formats[0].bits
    fill = geometry.fill & ((1 << bits) - 1)
    # What a byte of the padding becomes.
    converted = {"mcu_word_s8": fill ^ 128, "mcu_word_sign": 1 - (fill >> 7)}.get(convert, fill)
    return {
        "taps": tap_words(geometry, values),
        "row_copy": copy,
        "copy_convert": convert,
        "gather_convert": _gather_convert(tiled, copy),
        "copy_fill": converted if convert else geometry.fill,
        "fill_word": sum(converted << (bits * i) for i in range(values)),
    }
