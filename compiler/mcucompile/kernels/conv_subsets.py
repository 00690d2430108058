"""Convolution by tables of sums of some channels: what kernels of planes and of buckets share.

For every four channels of an input pixel, a table row holds each of the 15 sums of some of them. A set of an output's
weights then takes one row for four channels of a tap, and one addition serves two output pixels, since lanes have 16
bits. The table serves all outputs and all columns of the window.

Squared distances are products, too: - sum (x - w)**2 = 2 sum x w - sum x**2 - sum w**2. The squares of a pixel are
added where it is put into the table, those of a column once for all windows that see it.

Source: the tables are the method of four Russians (Arlazarov et al., 1970), as T-MAC uses it for low-bit weights
(Wei et al., arXiv:2407.00088, section 3).
"""

import itertools
import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.kernels.conv_patches import conv_of
from mcucompile.kernels.dense import sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.kernels.lane_streams import ADD, ADD_END, SKIP, STORE, STORE_END, StreamCount, count_sums, sum_tokens
from mcucompile.kernels.lanes import (
    LARGEST_LANE,
    LaneCost,
    LanePart,
    RowLayout,
    lane_context,
    lane_cost,
    lane_part,
    lane_refusals,
    lane_requantization,
    part_context,
    row_layout,
)
from mcucompile.kernels.requantize import RequantizeCode
from mcucompile.kernels.squares import SQUARES
from mcucompile.numerics import Int, canonical_signed_digits

_GROUP = 4
_ENTRIES = 15
_SIMILARITIES = ("dot", "ternary", "euclid")
# Instructions to add a channel's square to a column's.
_PER_SQUARE = 7
# What is added to a signed byte to make it unsigned.
_SIGNED_OFFSET = 128


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """Digits of the weights that count 2**shift: 1, 0 or -1 each.

    Attributes:
        digits: (n_out, rows of the window, groups of channels, columns, 4).
    """

    shift: int
    digits: Int


@dataclass(frozen=True, slots=True, eq=False)
class PlanedPart:
    """Planes of some groups of channels, the highest first, whose sum a lane holds."""

    lane: LanePart
    planes: tuple[Plane, ...]
    groups: slice

    @property
    def shifts(self) -> tuple[int, ...]:
        """How far each plane shifts those above it."""
        shifts = [plane.shift for plane in self.planes]
        return (0, *(above - below for above, below in itertools.pairwise(shifts)))


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """sum = (sum << shift) + subsets `plus` - subsets `minus`.

    Attributes:
        plus, minus: (n_out, rows of the window, groups of channels, columns) number of a sum of channels, 0 for none.
    """

    shift: int
    plus: Int
    minus: Int

    @classmethod
    def of_signs(cls, shift: int, digits: Int) -> "Step":
        """Return the step that adds channels where a digit is positive and subtracts where it is negative."""
        powers = 1 << np.arange(_GROUP)
        return cls(shift, *(np.asarray((bits * powers).sum(axis=-1)) for bits in (digits > 0, digits < 0)))


@dataclass(frozen=True, slots=True)
class Combination:
    """part = (part << shift) + sums `plus` - sums `minus`."""

    shift: int
    plus: tuple[int, ...]
    minus: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """How the sums of a layer are made.

    Attributes:
        sums: the steps of each, the same for all outputs but for the subsets.
        parts: of the result.
        combinations: how sums make each part; none if they are the parts.
    """

    sums: tuple[tuple[Step, ...], ...]
    parts: tuple[LanePart, ...]
    combinations: tuple[tuple[Combination, ...], ...] = ()

    def instructions(
        self, count: LaneCost, layout: RowLayout, blocking: "Blocking", requantize: RequantizeCode
    ) -> float:
        """Return what a segment of all outputs takes, beside the table."""
        wide, n_out = layout.is_wide, len(self.sums[0][0].plus)
        calls = n_out * blocking.blocks
        streamed = self.counted(blocking)
        found = sum(count.streamed(layout, each) for each in streamed)
        added = count.add[wide] - count.store[wide]
        ends = (len(self.sums) - 1) * count.store[wide] + count.run[wide]
        if self.combinations:
            combined = [_count_combination(steps) for steps in self.combinations]
            found += calls * sum(count.streamed(layout, each) for each in combined)
            ends += (len(self.parts) - 1) * count.store[wide] + count.run[wide]
        found += calls * ends
        if blocking.blocks > 1:
            found += len(self.parts) * (calls * added + 3 * n_out * layout.words)
            skipped = 0 if self.combinations else self.skipped(blocking)
            found += skipped * (count.skip[wide] - count.add[wide])
        return found + count.finished(layout, n_out, self.parts, requantize)

    def counted(self, blocking: "Blocking") -> Iterator[StreamCount]:
        """Yield what the tokens of each sum do, without their ends."""
        for steps in self.sums:
            counts = [np.stack([blocking.counted(s) for s in of_sign]) for of_sign in _by_sign(steps)]
            yield count_sums([step.shift for step in steps], *(each.reshape(len(steps), -1) for each in counts))

    def skipped(self, blocking: "Blocking") -> int:
        """Return how often a block has nothing for a sum that is not its output's last one."""
        counts = [sum(blocking.counted(s) for of_sign in _by_sign(steps) for s in of_sign) for steps in self.sums[:-1]]
        return sum(int(np.count_nonzero(np.asarray(each) == 0)) for each in counts)

    def tokens(self, blocking: "Blocking", layout: RowLayout) -> Iterator[int]:
        """Yield the tokens of sums, block by block, output by output."""
        adds = blocking.blocks > 1 and not self.combinations
        offsets = np.array(layout.tap_offsets)
        for first in range(0, blocking.groups, blocking.block):
            channels = slice(first, first + blocking.block)
            for output in range(len(self.sums[0][0].plus)):
                for steps in self.sums:
                    is_last = steps is self.sums[-1]
                    signed = [
                        [blocking.places(subset[output, :, channels], offsets, layout.row_words) for subset in of_sign]
                        for of_sign in _by_sign(steps)
                    ]
                    found = list(sum_tokens([step.shift for step in steps], *signed))
                    yield from found
                    if is_last:
                        yield ADD_END if adds else STORE_END
                    elif adds:
                        yield ADD if found else SKIP
                    else:
                        yield STORE

    def combination_tokens(self, blocks: int, words: int) -> Iterator[int]:
        """Yield the tokens that make an output's parts of its sums."""
        for steps in self.combinations:
            is_last = steps is self.combinations[-1]
            places = [[4 * words * sums for sums in of_sign] for of_sign in _combined(steps)]
            yield from sum_tokens([step.shift for step in steps], *places)
            if blocks > 1:
                yield ADD_END if is_last else ADD
            else:
                yield STORE_END if is_last else STORE


@dataclass(frozen=True, slots=True)
class Blocking:
    """How channels go through the table.

    Attributes:
        groups: of four channels.
        block: groups in the table at a time.
    """

    groups: int
    block: int

    @property
    def blocks(self) -> int:
        """How often the table is filled."""
        return math.ceil(self.groups / self.block)

    def counted(self, subset: Int) -> Int:
        """Return how many rows each output takes in each block: (n_out, blocks)."""
        by_group = np.count_nonzero(subset, axis=(1, 3))
        return np.asarray(np.add.reduceat(by_group, range(0, self.groups, self.block), axis=1))

    def places(self, subset: Int, offsets: Int, row_words: int) -> Int:
        """Return where the rows of an output's subsets begin, in bytes. subset: (rows, groups of a block, columns)."""
        tables = np.arange(subset.shape[0])[:, None] * self.block + np.arange(subset.shape[1])
        places = (tables[:, :, None] * _ENTRIES + subset - 1) * row_words + offsets
        return np.asarray(4 * places[subset > 0])


@dataclass(frozen=True, slots=True)
class ConvSubsets(Kernel):
    """For convolutions of one group over 8-bit channels-last images.

    Attributes:
        table_bytes: the table may take; channels are blocked to keep it.
    """

    headers: ClassVar[tuple[str, ...]] = ("mcu_lanes.h",)
    table_bytes: int

    @abstractmethod
    def programs(self, layer: Layer, values: Int) -> Iterable[Program]:
        """Yield ways to make the sums."""

    @abstractmethod
    def refused(self, layer: Layer) -> str | None:
        """Return why the weights do not suit the kernel."""

    def refusal(self, layer: Layer, core: Core) -> str | None:  # noqa: ARG002 - every core has the loops
        """Refuse groups, planar and wide inputs, similarities without products, zeros, and wide requantizations."""
        op = conv_of(layer)
        layout = row_layout(op.window, layer.output_shape[2])
        one_group = 4 * layout.row_words * _ENTRIES * op.window.size[0]
        most = _span(layer) * op.window.taps * _GROUP
        reasons = {
            "computes dot, ternary and euclid only": op.similarity not in _SIMILARITIES,
            **lane_refusals(layer),
            "has no weight but 0": not op.weights.values.any(),
            "the table of four channels is too large": one_group > min(self.table_bytes, LARGEST_LANE),
            "sums over four channels are too large": most > LARGEST_LANE,
        }
        return next((reason for reason, refuses in reasons.items() if refuses), None) or self.refused(layer)

    def cost(self, layer: Layer, core: Core) -> Cost:
        """Count the table's words, its rows and what is done for each output."""
        plan = self._plan(layer)
        op, layout, program, blocking = conv_of(layer), plan.layout, plan.program, plan.blocking
        images, out_rows, _, n_out = layer.output_shape
        built = op.window.size[0] * blocking.groups * layout.row_words * core.pick(_SUBSETS)
        segment = built + program.instructions(lane_cost(core), layout, blocking, plan.requantize)
        table_bytes, norm_bytes = 0, 0
        if op.similarity == "euclid":
            segment += 2 * op.window.size[0] * layout.row_words * layer.shapes[0][-1] * _PER_SQUARE
            segment += 2 * layout.words * (len(layout.tap_offsets) + 3 + 3 * n_out)
            table_bytes, norm_bytes = SQUARES["uint8_t"].bytes, 8 * (layout.row_words + layout.words)
        table = op.window.size[0] * blocking.block * _ENTRIES * layout.row_words
        tokens = sum(each.tokens for each in program.counted(blocking))
        tokens += n_out * blocking.blocks * len(program.sums)
        combined = sum(1 for _ in program.combination_tokens(blocking.blocks, layout.words))
        sums = len(program.parts) * (n_out if blocking.blocks > 1 else 1)
        sums += len(program.sums) if program.combinations else 0
        return Cost(
            round(images * out_rows * layout.segments * segment),
            2 * (tokens + combined) + plan.requantize.table_bytes + table_bytes,
            4 * (table + layout.words * sums) + norm_bytes + 160,
        )

    def context(self, layer: Layer) -> Context:
        """Return geometry, table layout, tokens and how parts are combined."""
        plan = self._plan(layer)
        layout, blocking, program = plan.layout, plan.blocking, plan.program
        return {
            **lane_context(layer, layout),
            **part_context(program.parts),
            "offset": _SIGNED_OFFSET if layer.formats[0].signed else 0,
            "table_row_stride": blocking.block * _ENTRIES * layout.row_words,
            "entries": _ENTRIES,
            "blocks": blocking.blocks,
            "block": blocking.block,
            "last_block": blocking.groups - blocking.block * (blocking.blocks - 1),
            "rest": layer.shapes[0][-1] % _GROUP,
            "tokens": tuple(program.tokens(blocking, layout)),
            "bucket_words": len(program.sums) * layout.words,
            "combination": tuple(program.combination_tokens(blocking.blocks, layout.words)),
            "requantize": plan.requantize,
            "row_arguments": ("top", "offset"),
            **_squares(layer),
        }

    def _plan(self, layer: Layer) -> "_Plan":
        op = conv_of(layer)
        values = _factors(layer)
        layout = row_layout(op.window, layer.output_shape[2])
        groups = values.shape[2]
        one_group = 4 * op.window.size[0] * _ENTRIES * layout.row_words
        block = max(min(self.table_bytes, LARGEST_LANE) // one_group, 1)
        blocking = Blocking(groups, math.ceil(groups / math.ceil(groups / block)))
        plans = []
        for program in self.programs(layer, values):
            plans.append(_Plan(layout, program, blocking, _requantization(layer, values, program.parts)))
        return min(plans, key=_Plan.usual_instructions)


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What cost and context share."""

    layout: RowLayout
    program: Program
    blocking: Blocking
    requantize: RequantizeCode

    def usual_instructions(self) -> float:
        """Return what orders programs: the context does not know for which core it is."""
        count = lane_cost(Core(has_multiplier=False, name="rv32imac"))
        return self.program.instructions(count, self.layout, self.blocking, self.requantize)


def in_parts(layer: Layer, planes: Iterable[Plane]) -> list[PlanedPart]:
    """Return planes, the highest first, in as few parts as there are lanes that hold them.

    Planes that leave a lane alone are split by channels.
    """
    known = list(planes)
    groups = known[0].digits.shape[2]
    known = [plane for plane in known if plane.digits.any()] or known[-1:]
    for ranges in range(1, groups + 1):
        bounds = np.linspace(0, groups, ranges + 1).astype(np.int64)
        each = [_parts_of_range(layer, known, slice(*pair)) for pair in itertools.pairwise(map(int, bounds))]
        if None not in each:
            return [part for parts in each for part in parts or ()]
    raise ValueError(f"{layer.op.name}: sums over four channels leave a lane")


def signed_digits(values: Int) -> Iterator[Plane]:
    """Yield the planes of the fewest digits 1 and -1 (canonical signed digits), the highest first."""
    digits = {int(v): canonical_signed_digits(int(v)) for v in np.unique(values)}
    for bit in range(max((d[0][1] for d in digits.values() if d), default=0), -1, -1):
        plus, minus = (np.isin(values, [v for v, d in digits.items() if (sign, bit) in d]) for sign in (1, -1))
        yield Plane(bit, plus.astype(np.int64) - minus)


def _parts_of_range(layer: Layer, planes: list[Plane], groups: slice) -> list[PlanedPart] | None:
    span = _span(layer)
    found: list[PlanedPart] = []
    coefficients: Int | None = None
    for whole in planes:
        digits = np.zeros_like(whole.digits)
        digits[:, :, groups] = whole.digits[:, :, groups]
        plane = Plane(whole.shift, digits)
        if coefficients is not None:
            more = (coefficients << (found[-1].planes[-1].shift - plane.shift)) + digits
            part = lane_part(more, plane.shift, span)
            if part is not None:
                coefficients = more
                found[-1] = PlanedPart(part, (*found[-1].planes, plane), groups)
                continue
        coefficients = digits
        part = lane_part(digits, plane.shift, span)
        if part is None:
            return None
        found.append(PlanedPart(part, (plane,), groups))
    return found


def _span(layer: Layer) -> int:
    format_ = layer.formats[0]
    return format_.maximum - format_.minimum if format_.signed else format_.maximum


def _by_sign(steps: Iterable[Step]) -> tuple[list[Int], list[Int]]:
    known = list(steps)
    return [step.plus for step in known], [step.minus for step in known]


def _combined(steps: Iterable[Combination]) -> tuple[list[Int], list[Int]]:
    known = list(steps)
    return [np.array(step.plus, np.int64) for step in known], [np.array(step.minus, np.int64) for step in known]


def _count_combination(steps: tuple[Combination, ...]) -> StreamCount:
    counts = [np.array([[len(sums)] for sums in of_sign]) for of_sign in _combined(steps)]
    return count_sums([step.shift for step in steps], *counts)


def _factors(layer: Layer) -> Int:
    """Return what each channel is multiplied by: (n_out, window rows, groups of channels, window columns, 4)."""
    op = conv_of(layer)
    sums = sums_of(layer)
    values = sums.weights.values
    if sums.similarity == "ternary":
        values = np.asarray(np.sign(values))
    n_out = len(values)
    values = values.reshape(n_out, *op.window.size, -1)
    padded = np.pad(values, ((0, 0), (0, 0), (0, 0), (0, -values.shape[3] % _GROUP)))
    return padded.reshape(n_out, *op.window.size, -1, _GROUP).transpose(0, 1, 3, 2, 4)


def _requantization(layer: Layer, values: Int, parts: tuple[LanePart, ...]) -> RequantizeCode:
    """Return the requantization; what an unsigned x adds to each sum is taken back by the offset."""
    offset = _SIGNED_OFFSET if layer.formats[0].signed else 0
    constant = -offset * values.sum(axis=(1, 2, 3, 4))
    if conv_of(layer).similarity == "euclid":
        # Sums count twice, biases too.
        biases = sum(part.bias << part.shift for part in parts)
        constant = 2 * constant - np.square(values).sum(axis=(1, 2, 3, 4)) - biases
    return lane_requantization(layer, constant, parts)


def _squares(layer: Layer) -> Context:
    """Return the table of squares of bytes and whether it is needed."""
    if conv_of(layer).similarity != "euclid":
        return {}
    return {"has_norms": True, "shared_tables": (SQUARES[layer.formats[0].c_type],)}


# Instructions to make one word of the 15 sums.
_SUBSETS = {"rv32ec": 50, "rv32imac": 43, "cortex-m0": 70, "cortex-m4": 48}
