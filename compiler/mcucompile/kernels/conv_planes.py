"""Convolution by bit planes of the weights, without a product: exact for integer weights of any size.

For every four channels of an input pixel, a table row holds each of the 15 sums of some of them. A bit plane of an
output's weights then takes one row for four channels of a tap, and one addition serves two output pixels, since lanes
have 16 bits. The sums of the planes are combined by Horner's rule once for each output. The table serves all outputs
and all columns of the window.

Squared distances are products, too: - sum (x - w)**2 = 2 sum x w - sum x**2 - sum w**2. The squares of a pixel are
added where it is put into the table, those of a column once for all windows that see it.

Source: the tables are the method of four Russians (Arlazarov et al., 1970), as T-MAC uses it for low-bit weights
(Wei et al., arXiv:2407.00088, section 3).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from mcucompile.kernels.squares import SQUARES
from mcucompile.numerics import Int, canonical_signed_digits

Bits = npt.NDArray[np.bool_]
_GROUP = 4
_ENTRIES = 15
_SIMILARITIES = ("dot", "ternary", "euclid")
# Instructions to add a channel's square to a column's.
_PER_SQUARE = 7
# What is added to a signed byte to make it unsigned.
_SIGNED_OFFSET = 128


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """Bits of the weights that count sign * 2**shift each.

    Attributes:
        bits: (n_out, rows of the window, groups of channels, columns, 4).
    """

    shift: int
    sign: int
    bits: Bits

    def tokens(self) -> int:
        """Return how many table rows the plane takes."""
        return int(np.count_nonzero(self.bits.any(axis=-1)))


@dataclass(frozen=True, slots=True)
class ConvPlanes(Kernel):
    """For convolutions of one group over 8-bit channels-last images.

    Attributes:
        table_bytes: the table may take; channels are blocked to keep it.
    """

    headers: ClassVar[tuple[str, ...]] = ("mcu_lanes.h",)
    table_bytes: int

    def refusal(self, layer: Layer, core: Core) -> str | None:  # noqa: ARG002 - every core has the loops
        """Refuse groups, planar and wide inputs, similarities without products, zeros, and wide requantizations."""
        op = conv_of(layer)
        layout = row_layout(op.window, layer.output_shape[2])
        one_group = 4 * layout.row_words * _ENTRIES * op.window.size[0]
        reasons = {
            "computes dot, ternary and euclid only": op.similarity not in _SIMILARITIES,
            **lane_refusals(layer),
            "has no weight but 0": not op.weights.values.any(),
            "the table of four channels is too large": one_group > min(self.table_bytes, LARGEST_LANE),
        }
        return next((reason for reason, refuses in reasons.items() if refuses), None)

    def cost(self, layer: Layer, core: Core) -> Cost:
        """Count the table's words, its rows and what is done for each output."""
        plan = self._plan(layer)
        op, layout, count = conv_of(layer), plan.layout, lane_cost(core)
        images, out_rows, _, n_out = layer.output_shape
        tokens = sum(plane.tokens() for plane in plan.planes)
        runs = n_out * len(plan.planes) * plan.blocks
        built = op.window.size[0] * plan.groups * layout.row_words * core.pick(_SUBSETS)
        finished = count.finished(layout, n_out, len(plan.planes), plan.requantize)
        segment = count.added(layout, tokens, runs) + built + finished
        table_bytes, norm_bytes = 0, 0
        if op.similarity == "euclid":
            segment += 2 * op.window.size[0] * layout.row_words * layer.shapes[0][-1] * _PER_SQUARE
            segment += 2 * layout.words * (len(layout.tap_offsets) + 3 + 3 * n_out)
            table_bytes, norm_bytes = SQUARES["uint8_t"].bytes, 8 * (layout.row_words + layout.words)
        table = 4 * op.window.size[0] * plan.block * _ENTRIES * layout.row_words
        sums = 4 * layout.words * len(plan.planes) * (n_out if plan.blocks > 1 else 1)
        return Cost(
            round(images * out_rows * layout.segments * segment),
            2 * (tokens + runs) + plan.requantize.table_bytes + table_bytes,
            table + sums + norm_bytes + 160,
        )

    def context(self, layer: Layer) -> Context:
        """Return geometry, table layout, tokens and how planes are combined."""
        plan = self._plan(layer)
        layout = plan.layout
        return {
            **lane_context(layer, layout),
            "offset": _SIGNED_OFFSET if layer.formats[0].signed else 0,
            "table_row_stride": plan.block * _ENTRIES * layout.row_words,
            "entries": _ENTRIES,
            "blocks": plan.blocks,
            "block": plan.block,
            "last_block": plan.groups - plan.block * (plan.blocks - 1),
            "rest": layer.shapes[0][-1] % _GROUP,
            "parts": len(plan.planes),
            "steps": tuple(_steps(plan.planes)),
            "tokens": tuple(self._tokens(plan)),
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
        blocks = math.ceil(groups / block)
        return _Plan(
            layout,
            tuple(_planes(values, layer)),
            groups,
            math.ceil(groups / blocks),
            blocks,
            _requantization(layer, values),
        )

    def _tokens(self, plan: "_Plan") -> Iterator[int]:
        """Yield, block by block, output by output, plane by plane: how many rows there are, and where each begins."""
        powers = 1 << np.arange(_GROUP)
        rows = plan.planes[0].bits.shape[1]
        offsets = np.array(plan.layout.tap_offsets)
        entries = [(plane.bits * powers).sum(axis=-1) for plane in plan.planes]
        for first in range(0, plan.groups, plan.block):
            last = min(first + plan.block, plan.groups)
            tables = np.arange(rows)[:, None] * plan.block + np.arange(last - first)
            for output in range(len(entries[0])):
                for entry in entries:
                    chosen = entry[output, :, first:last]
                    places = (tables[:, :, None] * _ENTRIES + chosen - 1) * plan.layout.row_words + offsets
                    found = places[chosen > 0]
                    yield len(found)
                    yield from (4 * int(place) for place in found)


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What cost and context share; block: groups of channels in the table at a time."""

    layout: RowLayout
    planes: tuple[Plane, ...]
    groups: int
    block: int
    blocks: int
    requantize: RequantizeCode


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


def _planes(values: Int, layer: Layer) -> Iterator[Plane]:
    """Yield the planes of the representation with the fewest table rows, none with a sum that leaves a lane."""
    forms = [list(form(values)) for form in (_twos_complement, _sign_and_magnitude, _signed_digits)]
    best = min(forms, key=lambda planes: sum(plane.tokens() for plane in planes))
    format_ = layer.formats[0]
    ones = LARGEST_LANE // (format_.maximum - format_.minimum if format_.signed else format_.maximum)
    for plane in best:
        yield from _split(plane, ones)


def _twos_complement(values: Int) -> Iterator[Plane]:
    low, high = int(values.min()), int(values.max())
    count = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0, 1)
    if low < 0:
        yield Plane(count, -1, values < 0)
    for bit in range(count - 1, -1, -1):
        yield Plane(bit, 1, (values >> bit & 1).astype(np.bool_))


def _sign_and_magnitude(values: Int) -> Iterator[Plane]:
    for bit in range(int(np.abs(values).max()).bit_length() - 1, -1, -1):
        bits = (np.abs(values) >> bit & 1).astype(np.bool_)
        yield Plane(bit, 1, bits & (values > 0))
        yield Plane(bit, -1, bits & (values < 0))


def _signed_digits(values: Int) -> Iterator[Plane]:
    digits = {int(v): canonical_signed_digits(int(v)) for v in np.unique(values)}
    for bit in range(max((d[0][1] for d in digits.values() if d), default=0), -1, -1):
        for sign in (1, -1):
            having = [v for v, d in digits.items() if (sign, bit) in d]
            yield Plane(bit, sign, np.isin(values, having))


def _split(plane: Plane, ones: int) -> Iterator[Plane]:
    """Yield a plane in as many parts as keep each output's bits below a count; one without bits not at all."""
    if not plane.bits.any():
        return
    by_group = plane.bits.sum(axis=(1, 3, 4))
    first, groups = 0, by_group.shape[1]
    while first < groups:
        last = first + 1
        while last < groups and int(by_group[:, first : last + 1].sum(axis=1).max()) <= ones:
            last += 1
        kept = np.zeros_like(plane.bits)
        kept[:, :, first:last] = plane.bits[:, :, first:last]
        yield replace(plane, bits=kept)
        first = last


def _steps(planes: tuple[Plane, ...]) -> Iterator[HornerStep]:
    shifts = sorted({plane.shift for plane in planes}, reverse=True)
    above = shifts[0]
    for shift in shifts:
        plus = tuple(i for i, p in enumerate(planes) if p.shift == shift and p.sign > 0)
        minus = tuple(i for i, p in enumerate(planes) if p.shift == shift and p.sign < 0)
        yield HornerStep(above - shift, plus, minus)
        above = shift
    if above:
        yield HornerStep(above, (), ())


def _requantization(layer: Layer, values: Int) -> RequantizeCode:
    """Return the requantization; what an unsigned x adds to each sum is taken back by the offset."""
    offset = _SIGNED_OFFSET if layer.formats[0].signed else 0
    constant = -offset * values.sum(axis=(1, 2, 3, 4))
    if conv_of(layer).similarity == "euclid":
        constant = 2 * constant - np.square(values).sum(axis=(1, 2, 3, 4))
    return lane_requantization(layer, constant)


def _squares(layer: Layer) -> Context:
    """Return the table of squares of bytes and whether it is needed."""
    if conv_of(layer).similarity != "euclid":
        return {}
    return {"has_norms": True, "shared_tables": (SQUARES[layer.formats[0].c_type],)}


# Instructions to make one word of the 15 sums.
_SUBSETS = {"rv32imac": 50, "cortex-m0": 56, "cortex-m4": 42}
CONV_PLANES = tuple(
    ConvPlanes("planes", "conv", "kernels/conv_planes.c.j2", table_bytes) for table_bytes in (2048, 8192, 32768)
)
