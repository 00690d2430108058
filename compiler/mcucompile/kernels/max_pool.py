"""Largest values of windows that lie in the image: all taps of a channel at once, or of four channels in a word."""

import math
from dataclasses import dataclass
from typing import ClassVar

from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.kernels.plain_windows import window_context
from mcucompile.ops import MaxPool

_MOST_TAPS, _MOST_WORDS = 16, 16
_BYTES = 4
# Instructions of a tap of a word and of a value; around a value, a pixel and a row.
_PER_WORD, _PER_TAP, _PER_VALUE, _PER_PIXEL, _PER_ROW = 3, 4, 5, 8, 30


@dataclass(frozen=True, slots=True)
class TogetherMaxPool(Kernel):
    """Windows of few taps without padding.

    Attributes:
        words: four channels at a time.
    """

    words: ClassVar[bool] = False

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse padding, large windows, and for words other cores and formats."""
        op = _pool(layer)
        if any(window_context(layer, op.window)["checks"]):
            return "needs windows without padding"
        if op.window.taps > _MOST_TAPS:
            return f"needs windows of at most {_MOST_TAPS} taps"
        if not self.words:
            return None
        if not core.has_dsp:
            return "needs a core with DSP instructions"
        if layer.formats[0].bits != 8:
            return "needs 8-bit values"
        channels = layer.shapes[0][-1]
        return None if _BYTES <= channels <= _BYTES * _MOST_WORDS else "needs 4 to 64 channels"

    def cost(self, layer: Layer, core: Core) -> Cost:  # noqa: ARG002 - much the same on all
        """Every tap of every word or value."""
        taps = _pool(layer).window.taps
        n, rows, columns, channels = layer.output_shape
        if self.words:
            pixel = len(_starts(channels)) * (_PER_WORD * taps - 1) + _PER_PIXEL
        else:
            pixel = channels * (_PER_TAP * taps + _PER_VALUE) + _PER_PIXEL
        return Cost(n * rows * (columns * pixel + _PER_ROW), 0)

    def context(self, layer: Layer) -> Context:
        """Return the geometry, and where words begin."""
        starts = _starts(layer.shapes[0][-1]) if self.words else ()
        maximum = f"mcu_max_{'s' if layer.formats[0].signed else 'u'}8x4"
        return {**window_context(layer, _pool(layer).window), "starts": starts, "maximum": maximum}


def _pool(layer: Layer) -> MaxPool:
    if not isinstance(layer.op, MaxPool):
        raise TypeError(layer.op.kind)
    return layer.op


def _starts(channels: int) -> tuple[int, ...]:
    return tuple(min(_BYTES * k, channels - _BYTES) for k in range(math.ceil(channels / _BYTES)))


@dataclass(frozen=True, slots=True)
class WordMaxPool(TogetherMaxPool):
    """Four channels at a time, on cores with DSP instructions; the last word may take some once more."""

    headers: ClassVar[tuple[str, ...]] = ("dsp/words.h",)
    words: ClassVar[bool] = True


MAX_POOLS = (
    TogetherMaxPool("taps together", "max_pool", "kernels/max_pool.c.j2"),
    WordMaxPool("words", "max_pool", "kernels/max_pool.c.j2"),
)
