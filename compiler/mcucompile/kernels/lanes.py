"""Where pixels lie in table rows of 16-bit lanes, two of them in a word (runtime_c/mcu_lanes.h).

2 * words outputs of a row are made at a time. Word j of a row holds what output j sees in its lower lane and what
output j + words sees in its upper one, so that the tap to the right is the same table row one word on. With a stride,
the taps that are a whole number of strides apart share words in this way, and each such phase has words of its own.
"""

from dataclasses import dataclass

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


def row_layout(window: Window, columns: int) -> RowLayout:
    """Return the layout with which a row of so many outputs takes the fewest additions."""
    words = min(_ROW_WORDS, key=lambda n: -(-columns // (2 * n)) * (2 * n + 2))
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
