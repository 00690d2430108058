"""Dense layer of adder or minconv sums, four or three differences in a word, on cores without DSP instructions.

With u = x + z and c = w + z in 0..255, and R = sum max(c - u, 0):
  adder    -sum |u - c| = -sum u + sum c - 2 R
  minconv  2 sum sgn(x) sgn(w) min(|x|, |w|) = sum |x + w| - |x - w|, the difference of two such sums
A c outside of 0..255 is as far from every u as the nearer end, and a constant more. Three lanes of 10 bits hold any
u and c. Four lanes of 8 bits hold those of a window of 128 values; u and c are clamped to it:
  |u - c| = |u - low| - (c - low) + 2 max((c - low) - (u - low), 0)    for low <= c <= high
  |u - c| = |u - high| + (c - high) - 2 clamp(u - high, 0, c - high)   for a c above the window
and alike below it. |u - low| is summed once for all outputs, and so few weights are outside of a good window that a
list of these outliers costs less than a fourth lane saves. x is packed once for all outputs. How many words may be
added before lanes are full is proven from the weights, since no difference exceeds its c.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.kernels.dense import Sums, sums_of
from mcucompile.kernels.dsp import padded, with_constant
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.kernels.requantize import requantize_code
from mcucompile.numerics import Int, Requantization

_SIMILARITIES = ("adder", "minconv")
_BYTE_BITS, _LARGEST = 8, 255
# Four lanes save about an instruction for each value, and an outlier takes about this many.
_OUTLIER_SHARE = 14
# Words in a turn of the loop, at most: each takes about 20 bytes of code.
_MOST_UNROLLED = 16
# Twice an outlier's number in its row is counted in 16 bits.
_MOST_INPUTS = 32767
# 16-bit lanes hold so many values of 8 bits.
_MOST_FOLDS = 257


@dataclass(frozen=True, slots=True)
class Lanes:
    """How values lie in a word.

    Attributes:
        form: as functions of runtime_c/mcu_differences.h are named.
        count: of lanes.
        bits: of a lane.
        flag: bit of a lane that is set beside w, above its value.
        most_folds: words of full lanes that the runtime adds; None for any number.
    """

    form: str
    count: int
    bits: int
    flag: int
    most_folds: int | None

    @property
    def largest(self) -> int:
        """The largest value beside which the flag fits."""
        return (1 << self.flag) - 1

    def words(self, values: Int) -> Int:
        """Return (rows, words) of rows of values, with their flags."""
        lanes = padded(values, self.count, 0).reshape(len(values), -1, self.count) + (1 << self.flag)
        return np.asarray((lanes << (self.bits * np.arange(self.count))).sum(axis=-1), dtype=np.int64)


_QUADS = Lanes("quads", 4, 8, 7, _MOST_FOLDS)
_TRIPLES = Lanes("triples", 3, 10, 8, None)


@dataclass(frozen=True, slots=True)
class LaneCost:
    """Instructions on a core, for one row of weights.

    Attributes:
        per_word: of x and of the weights.
        per_fold: to add a word of sums to the sums of lanes, for four lanes and for three.
        per_turn: around a turn of the loop.
        per_part: around the loop.
        per_packed: to pack a word of x, for four lanes and for three.
        per_outlier, per_list: an outlier, and around the list of a row.
    """

    per_word: float
    per_fold: tuple[float, float]
    per_turn: float
    per_part: float
    per_packed: tuple[float, float]
    per_outlier: float
    per_list: float


@dataclass(frozen=True, slots=True, eq=False)
class _Window:
    """Sums of differences as lanes make them, in rows: one of each output, or two.

    Attributes:
        low, high: the ends of the window.
        values: (rows, n_in) c - low, clamped to the window.
        lacking: (rows,) sum |u - c| less sum (|u - low| - low) and twice the sum of differences.
        above, below: (rows, n_in) how far an outlier is from the window, 0 if it is none.
    """

    low: int
    high: int
    values: Int
    lacking: Int
    above: Int
    below: Int

    @property
    def outliers(self) -> int:
        """How many there are."""
        return int(np.count_nonzero(self.above) + np.count_nonzero(self.below))


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """The loop of a layer.

    Attributes:
        lanes: of its words.
        window: of the weights.
        words: (rows, words) weights.
        planes: rows that an output takes: the second less the first one, or one alone.
        folded: words whose lanes are added before they are added to sums.
        turn: words in a turn of the loop.
        part_turns, parts: turns that lanes of 16 bits hold, and how often the loop is run for an output.
        requantize: of the sums as the loop makes them.
    """

    lanes: Lanes
    window: _Window
    words: Int
    planes: int
    folded: int
    turn: int
    part_turns: int
    parts: int
    requantize: Requantization

    @property
    def row_words(self) -> int:
        """Words of a plane, padded to whole parts."""
        return self.parts * self.part_turns * self.turn


@dataclass(frozen=True, slots=True)
class DenseLanes(Kernel):
    """For 8-bit inputs in one group, with or without a multiplier.

    Attributes:
        cores: those whose instructions it counts.
        together: rows of weights that share the words of x, as registers allow: 1 or 2.
        instructions: of the cores.
    """

    headers: ClassVar[tuple[str, ...]] = ("mcu_differences.h",)
    cores: tuple[str, ...]
    together: int
    instructions: LaneCost

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse other similarities and formats, and groups, whose rows are short."""
        sums = sums_of(layer)
        if core.name not in self.cores:
            return f"is made for {', '.join(self.cores)}"
        if sums.similarity not in _SIMILARITIES:
            return f"computes {' and '.join(_SIMILARITIES)} only"
        if sums.input.bits != _BYTE_BITS:
            return "needs an 8-bit input"
        if sums.weights.codes.shape[1] > _MOST_INPUTS:
            return f"takes at most {_MOST_INPUTS} inputs"
        return "computes one group of channels only" if sums.groups > 1 else None

    def cost(self, layer: Layer, core: Core) -> Cost:  # noqa: ARG002 - it is for one core
        """Count words, turns, outliers and what surrounds them."""
        sums, plan, costs = sums_of(layer), self._plan(layer), self.instructions
        requantize = requantize_code(plan.requantize, sums.output)
        is_triple = plan.lanes is _TRIPLES
        n_out, window = len(sums.weights.codes), plan.window
        lists = len(plan.words) * (int(window.above.any()) + int(window.below.any()))
        turns = plan.parts * plan.part_turns
        of_turn = self._of_turn(plan.lanes, plan.turn, plan.folded)
        per_row = (
            len(plan.words) * (turns * of_turn + plan.parts * costs.per_part)
            + costs.per_outlier * window.outliers
            + costs.per_list * lists
            + costs.per_packed[is_triple] * plan.row_words
            + n_out * requantize.instructions_on(Core(has_multiplier=False, name=self.cores[0]))
        )
        numbers = 2 * window.outliers * _bytes_of(window.values.shape[1] - 1)
        counts = lists * _bytes_of(2 * _longest(window))
        table_bytes = requantize.table_bytes + numbers + counts
        size = 4 * plan.row_words
        # The last row has a neighbour, if only of padding.
        rows = len(plan.words) + -len(plan.words) % self.together
        return Cost(round(sums.rows * per_row), rows * size + table_bytes, size + 4 * max(self.together, plan.planes))

    def context(self, layer: Layer) -> Context:
        """Return sizes, weights and requantization."""
        sums, plan = sums_of(layer), self._plan(layer)
        n_out, n_in = sums.weights.codes.shape
        missing = plan.row_words - plan.words.shape[1]
        flags = int(plan.lanes.words(np.zeros((1, plan.lanes.count), dtype=np.int64))[0, 0])
        words = np.pad(plan.words, ((0, -len(plan.words) % self.together), (0, missing)), constant_values=flags)
        # Word by word of the rows that share x.
        words = words.reshape(-1, self.together, plan.row_words).transpose(0, 2, 1)
        return {
            "n_in": int(n_in),
            "n_out": int(n_out),
            "rows": sums.rows,
            "groups": sums.groups,
            "part": sums.part,
            "requantize": requantize_code(plan.requantize, sums.output),
            "form": plan.lanes.form,
            "lanes": plan.lanes.count,
            "together": self.together,
            "block": max(self.together, plan.planes),
            "row_words": plan.row_words,
            "flip": _offset(sums),
            "low": plan.window.low - _offset(sums),
            "high": plan.window.high - _offset(sums),
            **_outlier_context(plan.window),
            "words": tuple(words.reshape(-1).tolist()),
            "planes": plan.planes,
            "folded": plan.folded,
            "turn": plan.turn,
            "parts": plan.parts,
            "part_words": plan.part_turns * plan.turn,
        }

    def _plan(self, layer: Layer) -> _Plan:
        sums = sums_of(layer)
        lanes, window = _best_window(_rows(sums))
        words = lanes.words(window.values)
        turn, folded = self._loop(lanes, window.values)
        turns = -(-words.shape[1] // turn)
        of_part = lanes.most_folds * folded // turn if lanes.most_folds else turns
        parts = -(-turns // of_part)
        lacking = window.lacking.reshape(len(sums.weights.codes), -1)
        planes = lacking.shape[1]
        # The difference of two sums is even, and so is what it lacks.
        constant = -lacking[:, 0] if planes == 1 else (lacking[:, 1] - lacking[:, 0]) // 2
        requantize = with_constant(sums.requantize, constant)
        return _Plan(lanes, window, words, planes, folded, turn, -(-turns // parts), parts, requantize)

    def _loop(self, lanes: Lanes, values: Int) -> tuple[int, int]:
        """Return words in a turn and words that are folded at once, for the fewest instructions."""
        words = -(-int(values.shape[1]) // lanes.count)

        def instructions(choice: tuple[int, int]) -> float:
            turn, folded = choice
            return -(-words // turn) * self._of_turn(lanes, turn, folded)

        return min(_loops(lanes, values), key=lambda choice: (instructions(choice), choice))

    def _of_turn(self, lanes: Lanes, turn: int, folded: int) -> float:
        """Return the instructions of a turn for one row."""
        costs = self.instructions
        of_words = turn * costs.per_word + turn // folded * costs.per_fold[lanes is _TRIPLES]
        return of_words + costs.per_turn / self.together


def _outlier_context(window: _Window) -> Context:
    """Return the lists of outliers: those above the window, then those below it, of each row."""
    sides = [side for side in (window.above, window.below) if side.any()]
    pairs = [(int(i), int(row[i])) for rows in zip(*sides, strict=True) for row in rows for i in np.flatnonzero(row)]
    counts = tuple(2 * int(np.count_nonzero(row)) for rows in zip(*sides, strict=True) for row in rows)
    return {
        "has_outliers": (bool(window.above.any()), bool(window.below.any())),
        "outliers": tuple(number for pair in pairs for number in pair),
        "counts": counts,
        "outlier_type": f"uint{8 * _bytes_of(window.values.shape[1] - 1)}_t",
        "count_type": f"uint{8 * _bytes_of(2 * _longest(window))}_t",
    }


def _longest(window: _Window) -> int:
    """Return the outliers of the longest list."""
    return max(int(np.count_nonzero(side, axis=1).max()) for side in (window.above, window.below))


def _bytes_of(largest: int) -> int:
    """Return the bytes of numbers up to this."""
    return 1 if largest <= _LARGEST else 2


def _offset(sums: Sums) -> int:
    return 128 if sums.input.signed else 0


def _rows(sums: Sums) -> Int:
    """Return c of all rows, any integers: (rows, n_in); minconv has two rows for each output, the first subtracted."""
    w, z = sums.weights.values, _offset(sums)
    if sums.similarity == "adder":
        return w + z
    return np.stack([z + w, z - w], axis=1).reshape(2 * len(w), -1)


def _window(rows: Int, low: int, high: int) -> _Window:
    clipped = np.clip(rows, low, high)
    inside = np.clip(rows, 0, _LARGEST)
    values = clipped - low
    above, below = np.maximum(inside - high, 0), np.maximum(low - inside, 0)
    # The runtime's sum lacks low of each input.
    lacking = (np.abs(rows - clipped) - values + low).sum(axis=1)
    return _Window(low, high, values, lacking, above, below)


def _best_window(rows: Int) -> tuple[Lanes, _Window]:
    """Return the window of four lanes with the fewest outliers, or all values in three if those are too many."""
    counts = np.bincount(np.clip(rows, 0, _LARGEST).reshape(-1), minlength=_LARGEST + 1)
    inside = np.convolve(counts, np.ones(_QUADS.largest + 1, dtype=np.int64), "valid")
    # An end of the window at an end of 0..255 leaves no outlier there.
    low = int(np.argmax(inside))
    window = _window(rows, low, low + _QUADS.largest)
    if window.outliers * _OUTLIER_SHARE <= rows.size:
        return _QUADS, window
    return _TRIPLES, _window(rows, 0, _LARGEST)


def _loops(lanes: Lanes, values: Int) -> Iterator[tuple[int, int]]:
    """Yield words in a turn and words that are folded at once, in whose sums no lane carries."""
    for folded in range(1, _MOST_UNROLLED + 1):
        groups = padded(values, folded * lanes.count, 0).reshape(len(values), -1, folded, lanes.count)
        if int(groups.sum(axis=2).max()) < 1 << lanes.bits:
            yield from ((turn, folded) for turn in range(folded, _MOST_UNROLLED + 1, folded))


_NAME, _TEMPLATE = "lanes", "kernels/dense_lanes.c.j2"
# Counted by benchmarks/kernels.py.
DENSE_LANES = (
    DenseLanes(_NAME, "dense", _TEMPLATE, ("rv32imac", "host"), 2, LaneCost(7.5, (3, 4), 3, 16, (36, 18), 12, 5)),
    DenseLanes(_NAME, "dense", _TEMPLATE, ("rv32ec",), 1, LaneCost(8, (3, 4), 3, 30, (36, 18), 12, 5)),
    DenseLanes(_NAME, "dense", _TEMPLATE, ("cortex-m0",), 1, LaneCost(8.5, (5, 6), 3, 52, (36, 18), 12, 5)),
)
