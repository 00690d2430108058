"""Scale and offset of all values alike, four bytes at a time: two in the halfwords of a word, two in another's."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.kernels.requantize import requantize_code
from mcucompile.ops import IntegerAffine

_BYTES = 4
_HALFWORD = 1 << 16
_BOTH_HALVES = 0x10001
# Instructions of a word and of a digit in it; of a value behind the last word; around the layer.
_PER_WORD, _PER_DIGIT, _PER_VALUE, _PER_LAYER = 12, 2, 8, 8


@dataclass(frozen=True, slots=True)
class AffineWords(Kernel):
    """For bytes without a sign whose scaled values fit 16 bits without one."""

    headers: ClassVar[tuple[str, ...]] = ("dsp/words.h",)

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse other cores and formats, factors of channels, values that halfwords cannot hold, and clamps."""
        op, code = _affine(layer), requantize_code(_affine(layer).requantize, layer.output_format)
        if not core.has_dsp:
            return "needs a core with DSP instructions"
        source = layer.formats[0]
        if source.bits != _BYTES * 2 or source.signed or layer.output_format.bits != source.bits:
            return "needs 8-bit values, the input's without a sign"
        if len(op.sign) > 1 or not code.is_uniform or len(code.offsets) > 1:
            return "needs one factor and one offset for all values"
        if code.is_wide or code.tie_window or code.zero_point is not None:
            return "rounds ties up only"
        ends = np.array([source.minimum, source.maximum]) * int(op.sign[0] * op.requantize.multiplier[0])
        low, high = sorted(int(end) for end in ends + code.offsets[0])
        if low < 0 or high >= _HALFWORD:
            return "needs scaled values of 16 bits that are not negative"
        fits = low >> code.shifts[0] >= code.minimum and high >> code.shifts[0] <= code.maximum
        return None if fits else "does not clamp"

    def cost(self, layer: Layer, core: Core) -> Cost:  # noqa: ARG002 - the same on all it is for
        """Every word."""
        count = math.prod(layer.output_shape)
        digits = sum(1 for digit in requantize_code(_affine(layer).requantize, layer.output_format).digits[0] if digit)
        words = (_PER_WORD + _PER_DIGIT * digits) * (count // _BYTES)
        return Cost(_PER_LAYER + words + _PER_VALUE * (count % _BYTES), 0)

    def context(self, layer: Layer) -> Context:
        """Return the requantization of two halfwords at once."""
        op = _affine(layer)
        code = requantize_code(op.requantize, layer.output_format)
        shift = code.shifts[0]
        return {
            "count": math.prod(layer.output_shape),
            "requantize": code,
            "sign": int(op.sign[0]),
            "shift": shift,
            "offset": code.offsets[0] * _BOTH_HALVES % (1 << 32),
            "mask": ((_HALFWORD - 1) >> shift) * _BOTH_HALVES,
        }


def _affine(layer: Layer) -> IntegerAffine:
    if not isinstance(layer.op, IntegerAffine):
        raise TypeError(layer.op.kind)
    return layer.op


AFFINE_WORDS = AffineWords("words", "affine", "kernels/affine_words.c.j2")
