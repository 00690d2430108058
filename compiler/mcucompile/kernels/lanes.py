"""Where pixels lie in table rows of 16-bit lanes, two of them in a word (runtime_c/mcu_lanes.h).

2 * words outputs of a row are made at a time. Word j of a row holds what output j sees in its lower lane and what
output j + words sees in its upper one, so that the tap to the right is the same table row one word on. With a stride,
the taps that are a whole number of strides apart share words in this way, and each such phase has words of its own.
"""

from dataclasses import dataclass

import numpy as np

from mcucompile.kernels.conv_patches import conv_of, row_context
from mcucompile.kernels.dsp import with_constant
from mcucompile.kernels.kernel import Context, Core, Layer
from mcucompile.kernels.lane_streams import StreamCount
from mcucompile.kernels.requantize import RequantizeCode, requantize_code
from mcucompile.numerics import Int
from mcucompile.ops.window import Window

LARGEST_LANE = 65535
# The lengths of rows that the runtime adds.
_ROW_WORDS = (8, 4)


@dataclass(frozen=True, slots=True)
class Phase:
    """Words of a row whose columns are `first + stride * j`, from the window's left edge."""

    first: int
    words: int


@dataclass(frozen=True, slots=True)
class RowLayout:
    """A table row.

    Attributes:
        words: that are added: half as many as outputs made at a time.
        phases: in their order.
        tap_offsets: for each column of the window, the word of its first output.
        segments: how many times `words` cover an output row.
    """

    words: int
    phases: tuple[Phase, ...]
    tap_offsets: tuple[int, ...]
    segments: int

    @property
    def row_words(self) -> int:
        """All words of a row."""
        return sum(phase.words for phase in self.phases)

    @property
    def is_wide(self) -> bool:
        """Whether 8 words are added, not 4."""
        return self.words == max(_ROW_WORDS)


def row_layout(window: Window, columns: int) -> RowLayout:
    """Return the layout with which a row of so many outputs takes the fewest additions."""
    return layout_of(window, columns, min(_ROW_WORDS, key=lambda n: -(-columns // (2 * n)) * (2 * n + 2)))


def even_layout(window: Window, columns: int, largest: int) -> RowLayout:
    """Return the layout whose segments are few, of `largest` words at most, and all of one size."""
    segments = -(-columns // (2 * largest))
    return layout_of(window, columns, -(-columns // (2 * segments)))


def layout_of(window: Window, columns: int, words: int) -> RowLayout:
    """Return the layout of a row of outputs of which 2 * words are made at a time."""
    stride = window.strides[1]
    places = [divmod(column * window.dilations[1], stride) for column in range(window.size[1])]
    phases = []
    starts = {}
    start = 0
    for first in sorted({rest for _, rest in places}):
        starts[first] = start
        phase = Phase(first, words + max(word for word, rest in places if rest == first))
        phases.append(phase)
        start += phase.words
    offsets = tuple(starts[rest] + word for word, rest in places)
    return RowLayout(words, tuple(phases), offsets, -(-columns // (2 * words)))


@dataclass(frozen=True, slots=True)
class LaneCost:
    """Instructions of the runtime's loops on a core, for 4 and for 8 words.

    Attributes:
        row, eight, rest: of one table row, of a jump to eight of them, and to fewer.
        double, negate: of all words.
        store, add, skip: of an end of a sum behind which another one begins.
        run: of a call, the end of its last sum included.
        part: of one output to combine a part of its sum, and to shift what is above.
        finish: of one output beside.
    """

    row: tuple[float, float]
    eight: float
    rest: float
    double: tuple[int, int]
    negate: tuple[int, int]
    store: tuple[int, int]
    add: tuple[int, int]
    skip: tuple[int, int]
    run: tuple[int, int]
    part: tuple[float, float]
    finish: float

    def streamed(self, layout: RowLayout, count: StreamCount) -> float:
        """Return what it takes to follow the tokens of sums, without their ends."""
        wide = layout.is_wide
        found = count.rows * self.row[wide] + count.eights * self.eight + count.rests * self.rest
        return found + count.doubles * self.double[wide] + count.negates * self.negate[wide]

    def finished(
        self, layout: RowLayout, n_out: int, parts: tuple["LanePart", ...], requantize: RequantizeCode
    ) -> float:
        """Return what it takes to make the codes of a segment from the parts of its sums."""
        of_part, of_shift = self.part
        # Digits from a table are shifted by what is looked up.
        digits = 0 if requantize.is_uniform else requantize.digit_count
        shifts = len({part.shift for part in parts})
        each = of_part * len(parts) + of_shift * shifts + 4 * digits + self.finish
        return n_out * 2 * layout.words * each


@dataclass(frozen=True, slots=True)
class LanePart:
    """A part of a sum, which counts 2**shift.

    Attributes:
        shift: as above.
        bias: what is added to a lane so that none is negative.
    """

    shift: int
    bias: int = 0


def lane_part(coefficients: Int, shift: int, span: int) -> LanePart | None:
    """Return the part of a sum that products with 0 <= x <= span make, None if they leave a lane.

    Args:
        coefficients: (n_out, ...) what each x is multiplied by.
        shift: the part counts 2**shift.
        span: the largest x.
    """
    by_output = coefficients.reshape(len(coefficients), -1)
    below, above = (span * int(np.maximum(c, 0).sum(axis=1).max()) for c in (-by_output, by_output))
    return LanePart(shift, below) if below + above <= LARGEST_LANE else None


def lane_refusals(layer: Layer) -> dict[str, bool]:
    """Return reasons that no kernel of lanes can compute a convolution, and whether they hold."""
    op = conv_of(layer)
    return {
        "needs one group": op.groups > 1,
        "needs channels last": op.planar,
        "needs inputs of 8 bits": layer.formats[0].bits != 8,
        "needs a requantization of 32 bits": op.requantize.is_wide,
    }


def lane_cost(core: Core) -> LaneCost:
    """Return what the loops take on a core."""
    return core.pick(_COSTS)


def lane_context(layer: Layer, layout: RowLayout) -> Context:
    """Return the geometry of a convolution over one group of channels."""
    op = conv_of(layer)
    images, height, width, channels = layer.shapes[0]
    _, out_rows, out_columns, n_out = layer.output_shape
    return {
        "images": images,
        "height": height,
        "width": width,
        "channels": channels,
        "window": op.window,
        "out_rows": out_rows,
        "out_columns": out_columns,
        "n_out": n_out,
        "row_elements": out_columns * n_out,
        "image_elements": height * width * channels,
        "fill": op.fill,
        "layout": layout,
        "has_norms": False,
        **row_context(layer, op.window, width * channels),
    }


def part_context(parts: tuple[LanePart, ...]) -> Context:
    """Return how the template combines parts: the highest first, each shifts those above it."""
    order = sorted(range(len(parts)), key=lambda k: -parts[k].shift)
    above = [parts[order[0]].shift, *(parts[k].shift for k in order)]
    return {
        "parts": len(parts),
        "part_steps": tuple((k, above[i] - parts[k].shift, parts[k].bias) for i, k in enumerate(order)),
        "last_shift": parts[order[-1]].shift,
    }


def lane_requantization(layer: Layer, constant: Int, parts: tuple[LanePart, ...]) -> RequantizeCode:
    """Return the requantization of sums of parts that lack a constant each. constant: (n_out,)."""
    biases = sum(part.bias << part.shift for part in parts)
    return requantize_code(with_constant(conv_of(layer).requantize, constant - biases), layer.output_format)


_COSTS = {
    "rv32ec": LaneCost(
        row=(10.0, 18.0),
        eight=4.0,
        rest=7.5,
        double=(10, 14),
        negate=(10, 14),
        store=(18, 26),
        add=(27, 43),
        skip=(14, 18),
        run=(36, 48),
        part=(3.6, 0.6),
        finish=11.1,
    ),
    "rv32imac": LaneCost(
        row=(10.0, 18.0),
        eight=4.0,
        rest=7.5,
        double=(10, 14),
        negate=(10, 14),
        store=(18, 26),
        add=(27, 43),
        skip=(14, 18),
        run=(36, 48),
        part=(3.2, 1.1),
        finish=7.8,
    ),
    "cortex-m0": LaneCost(
        row=(8.0, 13.0),
        eight=4.2,
        rest=5.5,
        double=(11, 15),
        negate=(13, 25),
        store=(19, 31),
        add=(25, 41),
        skip=(16, 20),
        run=(40, 52),
        part=(4.0, 1.2),
        finish=11.3,
    ),
    "cortex-m4": LaneCost(
        row=(8.0, 13.0),
        eight=4.2,
        rest=5.5,
        double=(11, 15),
        negate=(13, 25),
        store=(19, 31),
        add=(25, 41),
        skip=(16, 20),
        run=(40, 52),
        part=(2.9, 0.2),
        finish=4.0,
    ),
}
