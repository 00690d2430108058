"""Convolution whose weights are code for two output pixels at a time: half an addition for each digit of a weight.

A word holds x of two pixels, low + high * 2**16, and a sum of such words is the pixels' sums in the same form, however
often lanes borrow from each other on the way. Where both are known to fit in 16 bits with a sign, they can be told
apart at the end; longer sums are made in parts. Which pixels share words is kernels/lanes.py's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.ir import Format
from mcucompile.kernels.assembly import Assembly
from mcucompile.kernels.conv_patches import conv_of
from mcucompile.kernels.dense import sums_of
from mcucompile.kernels.dense_code import Block, factors, requantize_each
from mcucompile.kernels.dense_columns import Column, column_lines, column_of, places_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.kernels.lanes import RowLayout, even_layout, lane_context, lane_refusals
from mcucompile.kernels.requantize import RequantizeCode, requantize_code
from mcucompile.numerics import Int, canonical_signed_digits

# Largest magnitude of a lane's sum.
_LARGEST_SUM = 32767
# Binary digits of a weight that one part of a sum takes.
_DIGITS = (8, 4, 3, 2, 1)
# About what a part of a sum takes beside its code.
_PART_LINES = 12
# More lines take longer to compile than they are worth.
_MAX_LINES = 20000
# Of a segment.
_MOST_WORDS = 8
# Bytes of a segment's words on the stack.
_MAX_SCRATCH = 16384
# Instructions to lay out one word, and for each part of an output's two sums.
_PER_WORD = {"rv32imac": 6.9, "rv32ec": 8.3, "cortex-m0": 7.0, "cortex-m4": 6.4}
_PER_PART = {"rv32imac": 11.5, "rv32ec": 12.3, "cortex-m0": 18.4, "cortex-m4": 8.4}
# For each output beyond its requantizations as code alone: in a loop, and by literals.
_PER_OUTPUT = {
    "rv32imac": (-9.0, 12.0),
    "rv32ec": (-11.5, 18.7),
    "cortex-m0": (-16.7, -21.0),
    "cortex-m4": (-1.4, -1.3),
}


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Code that makes a part of all sums: what their lanes hold counts 2**shift each.

    Attributes:
        blocks: of some outputs each.
    """

    shift: int
    blocks: tuple[Block, ...]

    @property
    def lines(self) -> int:
        """Return how many instructions it has."""
        return sum(len(block.lines) + sum(block.negated) for block in self.blocks)


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What cost and context share; layout: of a row of packed words."""

    layout: RowLayout
    parts: tuple[Part, ...]
    requantize: RequantizeCode


@dataclass(frozen=True, slots=True)
class ConvColumns(Kernel):
    """For convolutions of one group over 8-bit channels-last images, on one core.

    Attributes:
        assembly: of the core.
        low, high: how many sums it has registers for: those that every instruction takes, and those that Thumb can
            only add to.
        line_bytes: bytes of an instruction, on average.
    """

    headers: ClassVar[tuple[str, ...]] = ("mcu_lanes.h",)
    assembly: Assembly
    low: int
    high: int
    line_bytes: float

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse other cores, similarities that do not multiply, and layers with too many weights."""
        op = conv_of(layer)
        reasons = {
            f"is made for {self.assembly.core}": core.name != self.assembly.core,
            "computes dot and ternary only": op.similarity not in ("dot", "ternary"),
            **lane_refusals(layer),
            "needs rows of two outputs": layer.output_shape[2] < 2,
            "needs weights that are not 0": not sums_of(layer).weights.values.any(),
        }
        reason = next((reason for reason, refuses in reasons.items() if refuses), None)
        if reason:
            return reason
        if self._scratch(layer) > _MAX_SCRATCH:
            return f"needs {self._scratch(layer)} bytes of scratch"
        count = int(np.count_nonzero(factors(sums_of(layer))))
        return f"{count} weights would make too much code" if count > _MAX_LINES // 2 else None

    def cost(self, layer: Layer, core: Core) -> Cost:
        """Count the instructions."""
        plan = self._plan(layer)
        layout = plan.layout
        images, out_rows, _, _ = layer.output_shape
        requantize, n_out = plan.requantize, layer.output_shape[3]
        lines = sum(part.lines for part in plan.parts)
        accumulators = sum(code.literal_instructions_on(core.name) for code in requantize_each(sums_of(layer)))
        in_loop, literal = core.pick(_PER_OUTPUT)
        per_output = len(plan.parts) * core.pick(_PER_PART) + (in_loop if requantize.is_uniform else literal)
        pair = lines + n_out * per_output + 2 * accumulators
        packed = self._scratch(layer) // 4 * core.pick(_PER_WORD)
        return Cost(
            round(images * out_rows * layout.segments * (layout.words * pair + packed)),
            round(self.line_bytes * (lines + 3 * n_out)) + self._finish_bytes(requantize, n_out),
            self._scratch(layer) + 4 * n_out * len(plan.parts) + 16,
        )

    def context(self, layer: Layer) -> Context:
        """Return geometry, the layout of words and the code."""
        plan = self._plan(layer)
        never_pads = _never_pads(layer, plan.layout)
        return {
            **lane_context(layer, plan.layout),
            "assembly": self.assembly,
            "is_signed": layer.formats[0].signed,
            "packed_words": self._scratch(layer) // 4,
            "parts": plan.parts,
            "is_even": layer.output_shape[2] == 2 * plan.layout.words * plan.layout.segments,
            "requantize": plan.requantize,
            "requantize_each": requantize_each(sums_of(layer)),
            "never_pads": never_pads,
            "step": next(step for step in (4, 3, 2, 1) if layer.shapes[0][-1] % step == 0),
            "row_arguments": ("offset",) if never_pads else ("top", "offset"),
        }

    def _finish_bytes(self, requantize: RequantizeCode, n_out: int) -> int:
        if requantize.is_uniform:
            return requantize.table_bytes + 120
        return round(2 * n_out * 3 * (9 + 2 * requantize.digit_count))

    @property
    def _sums(self) -> int:
        return self.low + self.high

    def _scratch(self, layer: Layer) -> int:
        op = conv_of(layer)
        return 4 * op.window.size[0] * layer.shapes[0][-1] * _layout(layer).row_words

    def _plan(self, layer: Layer) -> _Plan:
        op = conv_of(layer)
        layout = _layout(layer)
        values = factors(sums_of(layer))
        channels = layer.shapes[0][-1]
        rows = np.arange(op.window.size[0])[:, None, None]
        offsets = np.array(layout.tap_offsets)[None, :, None]
        words = ((rows * channels + np.arange(channels)) * layout.row_words + offsets).ravel()
        order = np.argsort(words)
        plans = (tuple(self._parts(words[order], values[:, order], layer.formats[0], digits)) for digits in _DIGITS)
        parts = min(
            (plan for plan in plans if plan),
            key=lambda plan: sum(part.lines + _PART_LINES * len(values) for part in plan),
        )
        return _Plan(layout, parts, requantize_code(op.requantize, layer.output_format))

    def _parts(self, words: Int, values: Int, format_: Format, digits: int) -> Iterator[Part]:
        """Yield parts of some binary digits, and of as many columns as lanes have bits for; none if one is too long."""
        outputs = np.array_split(np.arange(len(values)), -(-len(values) // self._sums))
        for shift, band in _bands(values, digits):
            largest = np.maximum(band * format_.minimum, band * format_.maximum)
            smallest = np.minimum(band * format_.minimum, band * format_.maximum)
            if max(int(largest.max()), -int(smallest.min())) > _LARGEST_SUM:
                return
            start = 0
            while start < len(words):
                above = np.cumsum(largest[:, start:], axis=1).max(axis=0)
                below = np.cumsum(smallest[:, start:], axis=1).min(axis=0)
                end = start + int(np.count_nonzero(np.maximum(above, -below) <= _LARGEST_SUM))
                columns = slice(start, end)
                yield Part(shift, tuple(self._block(int(o[0]), words[columns], band[o][:, columns]) for o in outputs))
                start = end

    def _block(self, first: int, words: Int, values: Int) -> Block:
        high, negated = places_of(values, self.low)
        signed = np.where(np.array(negated)[:, None], -values, values)
        every = (column_of(int(word), signed[:, i]) for i, word in enumerate(words))
        columns = tuple(column for column in every if column.steps)
        return Block(first, len(values), negated, high, columns, tuple(self._lines(columns, high)))

    def _lines(self, columns: tuple[Column, ...], high: tuple[bool, ...]) -> Iterator[str]:
        assembly = self.assembly
        place = 0
        unused = set(range(len(high)))
        for column in columns:
            while column.input - place >= assembly.word_reach:
                yield from assembly.move_pointer("x_0", 4 * assembly.word_reach)
                place += assembly.word_reach
            yield assembly.load_word("v", "x_0", column.input - place)
            yield from column_lines(assembly, column, high, unused)
        yield from assembly.zero("v")
        for k in sorted(unused):
            yield assembly.move(f"sum_{k}", "v")


def _bands(values: Int, digits: int) -> Iterator[tuple[int, Int]]:
    """Yield weights in bands of so many binary digits: values == sum(band << shift)."""
    planes: dict[int, Int] = {}
    for value in np.unique(values):
        for sign, shift in canonical_signed_digits(int(value)):
            planes[shift] = planes.get(shift, np.zeros_like(values)) + sign * (values == value)
    shifts = sorted(planes)
    while shifts:
        lowest = shifts[0]
        taken = [shift for shift in shifts if shift < lowest + digits]
        yield lowest, np.sum([planes[shift] << (shift - lowest) for shift in taken], axis=0)
        shifts = shifts[len(taken) :]


def _never_pads(layer: Layer, layout: RowLayout) -> bool:
    """Return whether every word's pixels are in the image."""
    window = conv_of(layer).window
    _, height, width, _ = layer.shapes[0]
    rows = window.positions(0, layer.output_shape[1]) - window.before[0]
    last = max(phase.first + (phase.words - 1 + layout.words) * window.strides[1] for phase in layout.phases)
    last += (layout.segments - 1) * 2 * layout.words * window.strides[1]
    return window.before == (0, 0) and int(rows.max()) < height and last < width


def _layout(layer: Layer) -> RowLayout:
    return even_layout(conv_of(layer).window, layer.output_shape[2], _MOST_WORDS)


# Registers left for sums, low and high, and bytes of an instruction.
CONV_COLUMNS = tuple(
    ConvColumns("column code of pairs", "conv", "kernels/conv_columns.c.j2", Assembly(core), low, high, line_bytes)
    for core, low, high, line_bytes in (
        ("host", 8, 0, 4.0),
        ("rv32imac", 20, 0, 2.6),
        ("rv32ec", 8, 0, 2.6),
        ("cortex-m0", 5, 3, 2.0),
        ("cortex-m4", 8, 0, 4.0),
    )
)
