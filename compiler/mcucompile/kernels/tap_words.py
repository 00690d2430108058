"""Windows whose pixels are no whole words: which values under a window make a word, and where they are read from.

A row of taps gives as many words as it holds; what is left of all rows fills the last words. So a window takes no
more words than its values need, and all but a few words are one load each. Windows that reach beyond the image,
and those over rings of rows, are read from a copy of their rows, padding included, which serves a whole row of
outputs or a block of it.
"""

from dataclasses import dataclass

from mcucompile.kernels.image_rows import Geometry
from mcucompile.kernels.kernel import Layer

# Bytes of copied rows, at most, if two windows do not take more.
_MOST_BYTES = 2048
# Words of a row that are copied, or taken, without a loop.
IN_LINE = 16
_HALF = 2
# Instructions of a value that is copied by itself, with tests and without; of a loop's turn; of a row, of a block.
_PER_TESTED, _PER_VALUE, _PER_TURN, _PER_ROW, _PER_BLOCK = 8, 2, 2, 20, 16


@dataclass(frozen=True, slots=True)
class Piece:
    """Values beside each other in a word.

    Attributes:
        row: of the window's taps.
        element: of that row, from the window's first.
        count: values: 1, or 2 bytes.
        shift: bits from the word's lowest.
    """

    row: int
    element: int
    count: int
    shift: int


@dataclass(frozen=True, slots=True)
class TapWords:
    """The words of a window.

    Attributes:
        order: indices of the window's values in the order of the words.
        whole: elements from the first of a row of taps to each of the row's whole words.
        left: pieces of each of the other words.
    """

    order: tuple[int, ...]
    whole: tuple[int, ...]
    left: tuple[tuple[Piece, ...], ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """Rows that windows are read from.

    Attributes:
        pixels: of a row.
        before, inside: of them padding before the image, and of the image; blocks find out by themselves.
        block: outputs of a row that one copy serves, 0 for all.
    """

    pixels: int
    before: int
    inside: int
    block: int


def has_part_words(geometry: Geometry, values: int) -> bool:
    """Return whether a window's words are those of this file. values: of a word."""
    return geometry.channels % values != 0 and (geometry.window.taps > 1 or any(geometry.checks))


def tap_words(geometry: Geometry, values: int) -> TapWords:
    """Return the words of a window. values: of a word."""
    (rows, columns), channels = geometry.window.size, geometry.channels
    step = geometry.window.dilations[1]
    # Elements of a row that follow each other: begin in the image's row and in the row of taps, and how many.
    runs = [(0, 0, columns * channels)] if step == 1 or columns == 1 else []
    runs = runs or [(column * step * channels, column * channels, channels) for column in range(columns)]
    whole = [(begin + i, at + i) for begin, at, n in runs for i in range(0, n - n % values, values)]
    left = [(begin + i, at + i) for begin, at, n in runs for i in range(n - n % values, n)]
    row = columns * channels
    order = [ky * row + at + i for ky in range(rows) for _, at in whole for i in range(values)]
    order += [ky * row + at for ky in range(rows) for _, at in left]
    rest = [(ky, begin) for ky in range(rows) for begin, _ in left]
    words = tuple(_pieces(rest[i : i + values], 32 // values) for i in range(0, len(rest), values))
    return TapWords(tuple(order), tuple(begin for begin, _ in whole), words)


def _pieces(values: list[tuple[int, int]], bits: int) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    for place, (row, element) in enumerate(values):
        last = pieces[-1] if pieces else None
        if bits == 8 and last is not None and last == Piece(row, element - 1, 1, (place - 1) * bits):
            pieces[-1] = Piece(row, element - 1, _HALF, last.shift)
        else:
            pieces.append(Piece(row, element, 1, place * bits))
    return tuple(pieces)


def copy_of(layer: Layer, geometry: Geometry, windows: int) -> Copy | None:
    """Return the copy of rows that windows are read from, None if they are read from the image. windows: at a time."""
    window = geometry.window
    if not any(geometry.checks) and not (layer.ring_rows and window.size[0] > 1):
        return None
    stride, reach = window.strides[1], (window.size[1] - 1) * window.dilations[1] + 1
    pixel = window.size[0] * geometry.channels * layer.formats[0].item_bytes
    most = max((_MOST_BYTES // pixel - reach) // stride + 1, windows)
    if most < geometry.columns:
        block = most - most % windows
        return Copy((block - 1) * stride + reach, 0, 0, block)
    pixels = (geometry.columns - 1) * stride + reach
    before = min(window.before[1], pixels)
    return Copy(pixels, before, min(geometry.width, pixels - before), 0)


def copy_instructions(copy: Copy, geometry: Geometry, values: int, per_word: float) -> float:
    """Return the instructions of copying the rows of a row of outputs.

    Args:
        copy: of the rows.
        geometry: of the windows.
        values: of a word.
        per_word: instructions of a word.
    """
    rows, channels = geometry.window.size[0], geometry.channels
    if copy.block:
        blocks = -(-geometry.columns // copy.block)
        return blocks * (_PER_BLOCK + rows * (_PER_ROW + _PER_TESTED * copy.pixels * channels))
    parts = [n * channels for n in (copy.before, copy.inside, copy.pixels - copy.before - copy.inside)]
    moved = sum(per_word * (n // values) + _PER_VALUE * (n % values) for n in parts)
    looped = sum(_PER_TURN * (n // values) for n in parts if n > IN_LINE * values)
    return _PER_BLOCK + rows * (_PER_ROW + moved + looped)
