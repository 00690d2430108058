"""Convolution by tables of levels: any similarity, if the weights have few values, without computing a term twice.

For every channel of a row of pixels, a table has a row for each value w that weights have: the similarities of the
pixels with w, two of them in a word. Then each weight takes one table row for all its pixels, and the table serves all
outputs, all columns of the window and, where output rows are made together, all its rows.

Entries are similarities less the smallest one of their level, so that none is negative; what they lack is in the
offset of the requantization. Levels that differ by a constant share a row, and one that is constant needs none. So do
levels whose sum is constant: one adds the row, the other subtracts it.

Sums that leave a lane are made in parts, each output's where its own are full.

A level's similarities come from a table by the byte of x.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mcucompile.kernels.conv_patches import conv_of
from mcucompile.kernels.dense import sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.kernels.lane_streams import ADD, ADD_END, SKIP, STORE, STORE_END, StreamCount, count_sums, sum_tokens
from mcucompile.kernels.lanes import (
    LARGEST_LANE,
    LanePart,
    RowLayout,
    lane_context,
    lane_cost,
    lane_refusals,
    lane_requantization,
    part_context,
    row_layout,
)
from mcucompile.kernels.requantize import RequantizeCode
from mcucompile.numerics import Int
from mcucompile.similarities import SIMILARITIES

_MOST_LEVELS = 16
# Parts of a sum: so many words of scratch for each output.
_MOST_PARTS = 32
# Values of a layer that may make so many levels.
_MOST_VALUES = 64
_BYTES = 256
# Times this, a value is in both lanes.
_BOTH_LANES = 0x10001


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
        if not _candidates(layer, self.table_bytes):
            return f"needs 1 to {_MOST_LEVELS} levels, a table of one channel, and sums in {_MOST_PARTS} parts"
        return None

    def cost(self, layer: Layer, core: Core) -> Cost:
        """Count the table's words, its rows and what is done for each output."""
        plan = self._plan(layer)
        window, layout = conv_of(layer).window, plan.layout
        images, _, _, n_out = layer.output_shape
        levels, runs, parts = len(plan.levels.entries), plan.runs, len(plan.parts)
        sums = n_out * parts * layout.words * (self._live_rows(layer) * layout.segments if self.rolls else 1)
        entries = _BYTES * _power_of_two(levels) * self.entry_bytes
        found, ends = plan.counted()
        tokens = found.tokens + ends.skips + ends.stores + ends.adds
        fills = n_out * parts * (4 * runs + 2) if _reaches_beyond(layer) else 0
        return Cost(
            round(images * layout.segments * self._segment_instructions(layer, plan, core)),
            entries + 2 * tokens + fills + 4 * runs + plan.requantize.table_bytes,
            4 * (plan.block * levels * layout.row_words + sums) + 8 * window.size[0] + 200,
        )

    def _segment_instructions(self, layer: Layer, plan: "_Plan", core: Core) -> float:
        layout, count, build = plan.layout, lane_cost(core), core.pick(_BUILD)
        inside = _is_inside(layer)
        n_out, wide = layer.output_shape[3], layout.is_wide
        words = layout.row_words * layer.shapes[0][-1]
        built = words * (len(plan.levels.entries) * build.entries[self.entry_bytes] + build.words)
        built += layout.row_words * plan.blocks * build.rows
        tables = len(np.unique(_input_rows(layer)[inside])) if self.rolls else np.count_nonzero(inside)
        found, ends = plan.counted()
        calls = n_out * plan.runs
        added = count.streamed(layout, found) + ends.skips * count.skip[wide] + ends.adds * count.add[wide]
        added += ends.stores * count.store[wide] + calls * (count.run[wide] - count.store[wide])
        finished = count.finished(layout, n_out, plan.parts, plan.requantize)
        return float(layer.output_shape[1] * (added * float(inside.mean()) + finished) + tables * built)

    def context(self, layer: Layer) -> Context:
        """Return geometry, table layout, similarities and tokens."""
        plan = self._plan(layer)
        window, layout, levels = conv_of(layer).window, plan.layout, plan.levels
        n_out = layer.output_shape[3]
        runs = list(plan.tokens())
        padded = np.zeros((_BYTES, _power_of_two(len(levels.entries))), dtype=np.int64)
        padded[:, : len(levels.entries)] = levels.entries.T
        return {
            **lane_context(layer, layout),
            **part_context(plan.parts),
            "rolls": self.rolls and layer.ring_rows is None,
            "live_rows": self._live_rows(layer),
            "entry_bytes": self.entry_bytes,
            "entries": tuple(map(int, padded.flat)),
            "entry_shift": int(math.log2(padded.shape[1])),
            "levels": len(levels.entries),
            "blocks": plan.blocks,
            "block": plan.block,
            "last_block": layer.shapes[0][-1] - plan.block * (plan.blocks - 1),
            "run_starts": tuple(int(n) for n in np.cumsum([0, *map(len, runs[:-1])])),
            "tokens": tuple(token for run in runs for token in run),
            "fill_sums": plan.fill_sums(conv_of(layer).fill) if _reaches_beyond(layer) else (),
            "first_runs": tuple(map(int, plan.first_runs().flat)),
            "row_arguments": ("top", "offset") if _reaches_beyond(layer) else ("offset",),
            "sums": n_out * len(plan.parts) * layout.words,
            "last_top": (layer.output_shape[1] - 1) * window.strides[0] - window.before[0],
            "requantize": plan.requantize,
        }

    def _plan(self, layer: Layer) -> "_Plan":
        """Return the plan that takes fewest instructions on a usual core: the context does not know for which it is."""
        usual = Core(has_multiplier=False, name="rv32imac")
        return min(
            _candidates(layer, self.table_bytes), key=lambda plan: self._segment_instructions(layer, plan, usual)
        )

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
        signs: (codes,) 1 where an entry is added, -1 where it is subtracted.
        constants: (codes,) what is to be added to a signed entry to give the similarity.
    """

    entries: Int
    row_of_code: Int
    signs: Int
    constants: Int

    def signed_reach(self, codes: Int) -> Int:
        """Return the largest entry of each code, with its sign."""
        reach = np.where(self.row_of_code < 0, 0, self.entries.max(axis=1)[self.row_of_code])
        return np.asarray((self.signs * reach)[codes])


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What cost and context share.

    Attributes:
        codes, part_of: (n_out, rows of the window, channels, columns), codes of weights, and to which part they add.
        block: channels in the table at a time.
    """

    layout: RowLayout
    levels: _Levels
    codes: Int
    part_of: Int
    block: int
    parts: tuple[LanePart, ...]
    requantize: RequantizeCode

    @property
    def blocks(self) -> int:
        """How often the table is filled for a row."""
        return -(-int(self.codes.shape[2]) // self.block)

    @property
    def runs(self) -> int:
        """How often an output's sum is gone on with."""
        return self.codes[0, :, 0, 0].size * self.blocks

    def counts(self) -> tuple[Int, Int]:
        """Return how many rows are added, and subtracted: (n_out, parts, runs)."""
        rows, signs = self.levels.row_of_code[self.codes], self.levels.signs[self.codes]
        starts = range(0, self.codes.shape[2], self.block)
        each = []
        for sign in (1, -1):
            counted = (rows >= 0) & (signs == sign)
            by_part = [((self.part_of == part) & counted).sum(axis=3) for part in range(len(self.parts))]
            by_run = np.add.reduceat(np.stack(by_part, axis=1), starts, axis=3)
            each.append(by_run.reshape(*by_run.shape[:2], self.runs))
        return each[0], each[1]

    def first_runs(self) -> Int:
        """Return the first run that adds to each part, the last one for a part of 0: (n_out, parts)."""
        plus, minus = self.counts()
        present = plus + minus > 0
        return np.asarray(np.where(present.any(axis=2), present.argmax(axis=2), self.runs - 1))

    def counted(self) -> "tuple[StreamCount, _Ends]":
        """Return what the tokens of all runs do."""
        plus, minus = self.counts()
        present = plus + minus > 0
        skips = np.where(present.any(axis=1), present.argmax(axis=1), 0).sum()
        ends = np.maximum(present.sum(axis=1), 1).sum()
        stores = present.shape[0] * present.shape[1]
        found = count_sums([0], plus.reshape(1, -1), minus.reshape(1, -1))
        return found, _Ends(int(skips), stores, max(int(ends) - stores, 0))

    def tokens(self) -> Iterator[list[int]]:
        """Yield by row of the window and block the tokens of all outputs."""
        rows, signs = self.levels.row_of_code[self.codes], self.levels.signs[self.codes]
        offsets = np.array(self.layout.tap_offsets)
        first_runs = self.first_runs()
        for ky in range(self.codes.shape[1]):
            for block, first in enumerate(range(0, self.codes.shape[2], self.block)):
                run = (slice(None), ky, slice(first, first + self.block))
                tables = np.arange(rows[run].shape[1])[:, None] * len(self.levels.entries)
                places = 4 * ((tables + rows[run]) * self.layout.row_words + offsets)
                begins = first_runs == ky * self.blocks + block
                each = zip(places, rows[run] >= 0, signs[run], self.part_of[run], begins, strict=True)
                yield [token for of_output in each for token in _run_tokens(*of_output)]

    def fill_sums(self, fill: int) -> tuple[int, ...]:
        """Return what a row of padding adds to both lanes, by output, part and run."""
        entries = self.levels.entries[self.levels.row_of_code, fill % _BYTES]
        added = np.where(self.levels.row_of_code < 0, 0, self.levels.signs * entries)[self.codes]
        by_part = [((self.part_of == part) * added).sum(axis=3) for part in range(len(self.parts))]
        by_run = np.add.reduceat(np.stack(by_part, axis=1), range(0, self.codes.shape[2], self.block), axis=3)
        return tuple(int(v) * _BOTH_LANES % 2**32 for v in by_run.flat)


@dataclass(frozen=True, slots=True)
class _Ends:
    """How often a part of a sum is left out, stored, and added to what is there."""

    skips: int
    stores: int
    adds: int


# Kernels that differ in other ways ask for the same plans.
@lru_cache(maxsize=4)
def _candidates(layer: Layer, table_bytes: int) -> tuple[_Plan, ...]:
    """Return how the sums can be made with a table of a size, with and without rows that are subtracted."""
    window = conv_of(layer).window
    layout = row_layout(window, layer.output_shape[2])
    channels = layer.shapes[0][-1]
    codes = sums_of(layer).weights.codes
    by_tap = codes.reshape(len(codes), *window.size, channels).transpose(0, 1, 3, 2)
    table = min(table_bytes, LARGEST_LANE)
    plans = []
    for levels in (_levels(layer), _folded(_levels(layer))):
        row_bytes = 4 * layout.row_words * len(levels.entries)
        is_held = 0 < len(levels.entries) <= _MOST_LEVELS and row_bytes <= table
        divided = _parts(levels, by_tap) if is_held else None
        if divided is not None:
            part_of, parts = divided
            block = -(-channels // math.ceil(channels / (table // row_bytes)))
            requantize = lane_requantization(layer, levels.constants[codes].sum(axis=1), parts)
            plans.append(_Plan(layout, levels, by_tap, part_of, block, parts, requantize))
    return tuple(plans)


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
    return _Levels(entries[is_constant:], row_of_code, np.ones_like(constants), constants)


def _folded(levels: _Levels) -> _Levels:
    """Return the levels with one row for two whose sum is constant."""
    if not len(levels.entries):
        return levels
    largest = levels.entries.max(axis=1, keepdims=True)
    first: dict[bytes, int] = {}
    places = [first.setdefault(row.tobytes(), i) for i, row in enumerate(levels.entries)]
    opposite = [first.get(row.tobytes(), len(places)) for row in largest - levels.entries]
    kept = [i for i, other in enumerate(opposite) if i <= other]
    new_row = np.array([kept.index(min(i, other)) for i, other in enumerate(opposite)])
    is_opposite = np.array([other < i for i, other in enumerate(opposite)])
    has_row = levels.row_of_code >= 0
    subtracts = has_row & is_opposite[levels.row_of_code]
    return _Levels(
        levels.entries[kept],
        np.where(has_row, new_row[levels.row_of_code], -1),
        np.where(subtracts, -1, 1),
        levels.constants + np.where(subtracts, largest[levels.row_of_code, 0], 0),
    )


def _parts(levels: _Levels, codes: Int) -> tuple[Int, tuple[LanePart, ...]] | None:
    """Return the part of its output's sum that each weight adds to, and the parts; None if there are too many.

    Each output begins another part where the next weight would leave the lane. codes: (n_out, ...).
    """
    reach = levels.signed_reach(codes).reshape(len(codes), -1)
    above, below = np.maximum(reach, 0), np.maximum(-reach, 0)
    # Lanes are biased so that parts are full for both signs.
    bias = round(LARGEST_LANE * int(below.sum()) / max(int(np.abs(reach).sum()), 1))
    bias = min(max(bias, int(below.max())), max(LARGEST_LANE - int(above.max()), 0))
    if below.max() > bias or above.max() > LARGEST_LANE - bias:
        return None
    limits = np.array([LARGEST_LANE - bias, bias])[:, None, None]
    filled = np.stack([above, below]).cumsum(axis=2)
    before = np.zeros((2, len(codes), 1), dtype=np.int64)
    part_of = np.zeros_like(reach)
    for _ in range(_MOST_PARTS):
        leaves = np.logical_or(*(filled - before > limits))
        if not leaves.any():
            return part_of.reshape(codes.shape), (LanePart(0, bias),) * (int(part_of.max()) + 1)
        part_of += leaves
        # Behind the weights of this part; an output that has no more begins no other.
        last = np.where(leaves.any(axis=1), leaves.argmax(axis=1) - 1, reach.shape[1] - 1)
        before = np.take_along_axis(filled, last[None, :, None], axis=2)
    return None


def _run_tokens(
    places: Int,
    has_row: npt.NDArray[np.bool_],
    signs: Int,
    part_of: Int,
    begins: npt.NDArray[np.bool_],
) -> Iterator[int]:
    """Yield the tokens of an output's run, part by part.

    Args:
        places, has_row, signs, part_of: of the weights, (channels, columns).
        begins: of each part, whether it begins here.
    """
    chosen = set(np.flatnonzero(begins).tolist()) | set(part_of[has_row].tolist()) or {0}
    first, last = min(chosen), max(chosen)
    yield from [SKIP] * first
    for part in range(first, last + 1):
        signed = ([places[has_row & (part_of == part) & (signs == sign)]] for sign in (1, -1))
        yield from sum_tokens([0], *signed)
        is_first = bool(begins[part])
        if part == last:
            yield STORE_END if is_first else ADD_END
        else:
            yield STORE if is_first else ADD


def _input_rows(layer: Layer) -> Int:
    """Return (rows, rows of the window) the input row that each output row sees."""
    window = conv_of(layer).window
    return window.positions(0, layer.output_shape[1]) - window.before[0]


def _is_inside(layer: Layer) -> npt.NDArray[np.bool_]:
    rows = _input_rows(layer)
    return (rows >= 0) & (rows < layer.shapes[0][1])


def _reaches_beyond(layer: Layer) -> bool:
    return not _is_inside(layer).all()


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()


_BUILD = {
    "rv32ec": BuildCost({2: 4.6, 4: 3.8}, 16.2, 50.0),
    "rv32imac": BuildCost({2: 4.6, 4: 3.8}, 14.7, 50.0),
    "cortex-m0": BuildCost({2: 6.0, 4: 4.7}, 16.0, 50.0),
    "cortex-m4": BuildCost({2: 4.2, 4: 4.2}, 15.5, 50.0),
}
CONV_LEVELS = tuple(
    ConvLevels("levels", "conv", "kernels/conv_levels.c.j2", rolls, entry_bytes, table_bytes)
    for rolls in (True, False)
    for entry_bytes in (2, 4)
    for table_bytes in (2048, 8192, 32768)
)
