"""Convolution by tables of levels: any similarity, if the weights have few values, without computing a term twice.

For every channel of a row of pixels, a table has a row for each value w that weights have: the similarities of the
pixels with w, two of them in a word. Then each weight takes one table row for all its pixels, and the table serves all
outputs, all columns of the window and, where output rows are made together, all its rows.

Entries are similarities less the smallest one of their level, so that none is negative; what they lack is in the
offset of the requantization. Levels that differ by a constant share a row, and one that is constant needs none.

A level's similarities come from a table by the byte of x.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mcucompile.kernels.conv_patches import conv_of
from mcucompile.kernels.dense import sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.kernels.lanes import (
    LARGEST_LANE,
    HornerStep,
    RowLayout,
    lane_context,
    lane_cost,
    lane_refusals,
    lane_requantization,
    row_layout,
)
from mcucompile.kernels.requantize import RequantizeCode
from mcucompile.numerics import Int
from mcucompile.similarities import SIMILARITIES

_MOST_LEVELS = 16
# Values of a layer that may make so many levels.
_MOST_VALUES = 64
_BYTES = 256


@dataclass(frozen=True, slots=True)
class BuildCost:
    """Instructions to fill the table on a core.

    Attributes:
        entries: for a word of a level, by bytes of an entry.
        words: for a word of a channel.
        rows: for a word of a row.
    """

    entries: dict[int, float]
    words: float
    rows: float


@dataclass(frozen=True, slots=True)
class ConvLevels(Kernel):
    """For convolutions of one group over 8-bit channels-last images.

    Attributes:
        rolls: each input row is put into the table once, and added to all output rows that see it; but a stream makes
            one output row at a time, and its input rows are put into the table for each.
        entry_bytes: of a similarity in flash; 4 of them take one instruction less than 2.
        table_bytes: the table may take; channels are blocked to keep it.
    """

    headers: ClassVar[tuple[str, ...]] = ("mcu_lanes.h",)
    rolls: bool
    entry_bytes: int
    table_bytes: int

    def refusal(self, layer: Layer, core: Core) -> str | None:  # noqa: ARG002 - every core has the loops
        """Refuse groups, planar and wide inputs, wide requantizations, many levels and large similarities."""
        reason = next((reason for reason, refuses in lane_refusals(layer).items() if refuses), None)
        if reason is not None:
            return reason
        if len(_used_codes(layer)) > _MOST_VALUES:
            return "weights have too many values"
        count = len(_levels(layer).entries)
        if not 0 < count <= _MOST_LEVELS:
            return f"needs 1 to {_MOST_LEVELS} levels"
        return None if self._blocking(layer, _levels(layer)) else "similarities or the table of a channel are too large"

    def cost(self, layer: Layer, core: Core) -> Cost:
        """Count the table's words, its rows and what is done for each output."""
        plan = self._plan(layer)
        op, layout, count, build = conv_of(layer), plan.layout, lane_cost(core), core.pick(_BUILD)
        images, out_rows, _, n_out = layer.output_shape
        inside = _is_inside(layer)
        runs = n_out * op.window.size[0] * plan.blocks
        levels = len(plan.levels.entries)
        words = layout.row_words * layer.shapes[0][-1]
        built = words * (levels * build.entries[self.entry_bytes] + build.words)
        built += layout.row_words * plan.blocks * build.rows
        tables = len(np.unique(_input_rows(layer)[inside])) if self.rolls else np.count_nonzero(inside)
        added = count.added(layout, plan.tokens, runs) * float(inside.mean())
        finished = count.finished(layout, n_out, plan.parts, plan.requantize)
        each = added + finished + n_out * layout.words * plan.parts
        sums = n_out * plan.parts * layout.words * (self._live_rows(layer) * layout.segments if self.rolls else 1)
        entries = _BYTES * _power_of_two(levels) * self.entry_bytes
        return Cost(
            round(images * layout.segments * (out_rows * each + tables * built)),
            entries + 2 * (plan.tokens + 2 * runs) + plan.requantize.table_bytes,
            4 * (plan.block * levels * layout.row_words + sums) + 8 * op.window.size[0] + 200,
        )

    def context(self, layer: Layer) -> Context:
        """Return geometry, table layout, similarities and tokens."""
        plan = self._plan(layer)
        window, layout, levels = conv_of(layer).window, plan.layout, plan.levels
        n_out = layer.output_shape[3]
        runs = list(_runs(layer, plan))
        padded = np.zeros((_BYTES, _power_of_two(len(levels.entries))), dtype=np.int64)
        padded[:, : len(levels.entries)] = levels.entries.T
        return {
            **lane_context(layer, layout),
            "rolls": self.rolls and layer.ring_rows is None,
            "live_rows": self._live_rows(layer),
            "entry_bytes": self.entry_bytes,
            "entries": tuple(map(int, padded.flat)),
            "entry_shift": int(math.log2(padded.shape[1])),
            "levels": len(levels.entries),
            "blocks": plan.blocks,
            "block": plan.block,
            "last_block": layer.shapes[0][-1] - plan.block * (plan.blocks - 1),
            "parts": plan.parts,
            "run_parts": tuple(part * layout.words for part in plan.run_parts),
            "run_starts": tuple(int(n) for n in np.cumsum([0, *map(len, runs[:-1])])),
            "tokens": tuple(token for run in runs for token in run),
            "fill_sums": _fill_sums(layer, plan) if _reaches_beyond(layer) else (),
            "row_arguments": ("top", "offset") if _reaches_beyond(layer) else ("offset",),
            "sums": n_out * plan.parts * layout.words,
            "last_top": (layer.output_shape[1] - 1) * window.strides[0] - window.before[0],
            "steps": (HornerStep(0, tuple(range(plan.parts)), ()),),
            "requantize": plan.requantize,
        }

    def _plan(self, layer: Layer) -> "_Plan":
        levels = _levels(layer)
        blocking = self._blocking(layer, levels)
        if blocking is None:
            raise ValueError(f"{layer.op.name}: similarities do not fit lanes")
        block, run_parts = blocking
        sums = sums_of(layer)
        return _Plan(
            row_layout(conv_of(layer).window, layer.output_shape[2]),
            levels,
            int(np.count_nonzero(levels.row_of_code[sums.weights.codes] >= 0)),
            block,
            -(-layer.shapes[0][-1] // block),
            run_parts,
            lane_requantization(layer, levels.constants[sums.weights.codes].sum(axis=1)),
        )

    def _blocking(self, layer: Layer, levels: "_Levels") -> "tuple[int, tuple[int, ...]] | None":
        """Return channels in the table at a time and the part of the sum that each run is added to.

        No lane of a part overflows. None if one channel leaves a lane or the table.
        """
        window = conv_of(layer).window
        channels = layer.shapes[0][-1]
        per_channel = 4 * len(levels.entries) * row_layout(window, layer.output_shape[2]).row_words
        largest = min(self.table_bytes, LARGEST_LANE) // per_channel
        reach = np.where(levels.row_of_code < 0, 0, levels.entries.max(axis=1)[levels.row_of_code])
        codes = sums_of(layer).weights.codes
        # (n_out, rows of the window, channels)
        by_channel = reach[codes].reshape(len(codes), *window.size, channels).sum(axis=2)
        if largest == 0 or by_channel.max() > LARGEST_LANE:
            return None
        for blocks in range(-(-channels // largest), channels + 1):
            block = -(-channels // blocks)
            by_run = np.add.reduceat(by_channel, range(0, channels, block), axis=2)
            if by_run.max() <= LARGEST_LANE:
                return block, tuple(_parts(by_run.reshape(len(codes), -1)))
        return None

    def _live_rows(self, layer: Layer) -> int:
        """Return how many output rows see one input row at most."""
        window = conv_of(layer).window
        return min((window.size[0] - 1) * window.dilations[0] // window.strides[0] + 1, layer.output_shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class _Levels:
    """What the weights can do to x.

    Attributes:
        entries: (levels, bytes of x), none negative.
        row_of_code: (codes,), -1 for one whose similarity is constant or which no weight has.
        constants: (codes,) what is to be added to an entry to give the similarity.
    """

    entries: Int
    row_of_code: Int
    constants: Int


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What cost and context share; run_parts: by row of the window, then by block."""

    layout: RowLayout
    levels: _Levels
    tokens: int
    block: int
    blocks: int
    run_parts: tuple[int, ...]
    requantize: RequantizeCode

    @property
    def parts(self) -> int:
        return max(self.run_parts) + 1


def _used_codes(layer: Layer) -> Int:
    return np.flatnonzero(np.bincount(sums_of(layer).weights.codes.ravel()))


def _levels(layer: Layer) -> _Levels:
    sums = sums_of(layer)
    used = _used_codes(layer)
    values = sums.weights.code_values
    x = np.arange(_BYTES)
    if sums.input.signed:
        x = np.where(x < _BYTES // 2, x, x - _BYTES)
    x = np.clip(x, sums.input.minimum, sums.input.maximum)
    terms = np.asarray(SIMILARITIES[sums.similarity].term(x[None, :], values[used, None]), dtype=np.int64)
    constants = np.zeros(len(values), dtype=np.int64)
    constants[used] = terms.min(axis=1)
    # np.unique is ten times slower on rows.
    entries_of_used = [tuple(row) for row in (terms - constants[used, None]).tolist()]
    distinct = sorted(set(entries_of_used))
    entries, rows = np.array(distinct), np.array([distinct.index(row) for row in entries_of_used])
    # The first in their order is the row of zeros, if there is one.
    is_constant = int(not entries[0].any())
    row_of_code = np.full(len(values), -1)
    row_of_code[used] = rows.reshape(-1) - is_constant
    return _Levels(entries[is_constant:], row_of_code, constants)


def _parts(by_run: Int) -> Iterator[int]:
    """Yield the part of each run: the first in which no output leaves a lane. by_run: (n_out, runs) largest sums."""
    filled: list[Int] = []
    for run in by_run.T:
        part = next((i for i, sums in enumerate(filled) if (sums + run).max() <= LARGEST_LANE), len(filled))
        if part == len(filled):
            filled.append(np.zeros_like(run))
        filled[part] = filled[part] + run
        yield part


def _runs(layer: Layer, plan: _Plan) -> Iterator[list[int]]:
    """Yield by row of the window and block, for every output: how many rows there are, and where each begins."""
    window = conv_of(layer).window
    codes = sums_of(layer).weights.codes
    rows = plan.levels.row_of_code[codes].reshape(len(codes), *window.size, -1)
    offsets = np.array(plan.layout.tap_offsets)[:, None]
    for ky in range(window.size[0]):
        for first in range(0, rows.shape[3], plan.block):
            chosen = rows[:, ky, :, first : first + plan.block]
            tables = np.arange(chosen.shape[2]) * len(plan.levels.entries)
            places = 4 * ((tables + chosen) * plan.layout.row_words + offsets)
            yield [
                int(token)
                for place, row in zip(places, chosen, strict=True)
                for token in (np.count_nonzero(row >= 0), *place[row >= 0])
            ]


def _input_rows(layer: Layer) -> Int:
    """Return (rows, rows of the window) the input row that each output row sees."""
    window = conv_of(layer).window
    return window.positions(0, layer.output_shape[1]) - window.before[0]


def _is_inside(layer: Layer) -> npt.NDArray[np.bool_]:
    rows = _input_rows(layer)
    return (rows >= 0) & (rows < layer.shapes[0][1])


def _reaches_beyond(layer: Layer) -> bool:
    return not _is_inside(layer).all()


def _fill_sums(layer: Layer, plan: _Plan) -> tuple[int, ...]:
    """Return what a row of padding adds to each output in each run."""
    op = conv_of(layer)
    codes = op.weights.codes
    similarities = plan.levels.entries[plan.levels.row_of_code, op.fill % _BYTES]
    of_weights = np.where(plan.levels.row_of_code < 0, 0, similarities)[codes]
    by_channel = of_weights.reshape(len(codes), *op.window.size, -1).sum(axis=2)
    return tuple(map(int, np.add.reduceat(by_channel, range(0, by_channel.shape[2], plan.block), axis=2).flat))


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()


_BUILD = {
    "rv32imac": BuildCost({2: 5.0, 4: 4.0}, 13.0, 40.0),
    "cortex-m0": BuildCost({2: 5.5, 4: 4.0}, 8.0, 50.0),
    "cortex-m4": BuildCost({2: 4.0, 4: 4.0}, 6.0, 40.0),
}
CONV_LEVELS = tuple(
    ConvLevels("levels", "conv", "kernels/conv_levels.c.j2", rolls, entry_bytes, table_bytes)
    for rolls in (True, False)
    for entry_bytes in (2, 4)
    for table_bytes in (2048, 8192, 32768)
)
