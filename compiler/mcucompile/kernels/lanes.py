"""Where pixels lie in table rows of 16-bit lanes, two of them in a word (runtime_c/mcu_lanes.h).

2 * words outputs of a row are made at a time. Word j of a row holds what output j sees in its lower lane and what
output j + words sees in its upper one, so that the tap to the right is the same table row one word on. With a stride,
the taps that are a whole number of strides apart share words in this way, and each such phase has words of its own.
"""

from dataclasses import dataclass

from mcucompile.kernels.conv_patches import conv_of, row_context
from mcucompile.kernels.dsp import with_constant
from mcucompile.kernels.kernel import Context, Core, Layer
from mcucompile.kernels.requantize import RequantizeCode, requantize_code
from mcucompile.numerics import Int
from mcucompile.ops.window import Window

LARGEST_LANE = 65535
# The lengths of rows that the runtime adds.
_ROW_WORDS = (8, 4)
# Parts of a sum that stay in registers.
_KEPT_PARTS = 8


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
    """Instructions of the runtime's loops on a core.

    Attributes:
        rows: of one table row of 4 and of 8 words.
        runs: around the rows of one run of them, of 4 and of 8 words.
        finish: of one output, for each part of its sum, and beside.
        spilled: of one output, for each part beyond the eight that registers keep.
    """

    rows: tuple[float, float]
    runs: tuple[int, int]
    finish: tuple[float, float]
    spilled: float = 0

    def added(self, layout: RowLayout, tokens: int, runs: int) -> float:
        """Return what it takes to add so many table rows in so many runs."""
        wide = layout.words == max(_ROW_WORDS)
        return tokens * self.rows[wide] + runs * self.runs[wide]

    def finished(self, layout: RowLayout, n_out: int, parts: int, requantize: RequantizeCode) -> float:
        """Return what it takes to make the codes of a segment from the parts of its sums."""
        per_part, beside = self.finish
        # Digits from a table are shifted by what is looked up.
        digits = 0 if requantize.is_uniform else requantize.digit_count
        beside += 4 * digits + self.spilled * max(parts - _KEPT_PARTS, 0)
        return n_out * 2 * layout.words * (per_part * parts + beside)


@dataclass(frozen=True, slots=True)
class HornerStep:
    """sum = (sum << shift) + parts `plus` - parts `minus`."""

    shift: int
    plus: tuple[int, ...]
    minus: tuple[int, ...]


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


def lane_requantization(layer: Layer, constant: Int) -> RequantizeCode:
    """Return the requantization of sums that lack a constant each. constant: (n_out,)."""
    return requantize_code(with_constant(conv_of(layer).requantize, constant), layer.output_format)


_COSTS = {
    "rv32imac": LaneCost(rows=(10.5, 18.5), runs=(50, 62), finish=(3.6, 11.0)),
    "cortex-m0": LaneCost(rows=(8.6, 13.7), runs=(70, 90), finish=(4.5, 18.0), spilled=3.0),
    "cortex-m4": LaneCost(rows=(8.6, 13.4), runs=(60, 76), finish=(3.0, 10.0)),
}
