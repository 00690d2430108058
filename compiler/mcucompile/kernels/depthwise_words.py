"""Depthwise sums of absolute differences, four channels in a word, on cores with DSP instructions.

A byte's distance takes three instructions of four bytes (UQSUB8 both ways), its sum two more (UXTAB16): halfwords
hold the sums of 257 taps.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.kernels.absolute_differences import AbsoluteDifferences
from mcucompile.kernels.conv_patches import depthwise_refusal
from mcucompile.kernels.dense import sums_of
from mcucompile.kernels.depthwise import blocks_of, padding_bytes
from mcucompile.kernels.dsp import bytes_as_words
from mcucompile.kernels.image_rows import geometry_context, geometry_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.kernels.requantize import requantize_code
from mcucompile.kernels.scaling import code_bytes, code_context, scaling_of
from mcucompile.kernels.tiles import Tiled
from mcucompile.numerics import Int

_CHANNELS = 4
_MOST_WINDOWS = 2
# Instructions of a tap; of a code by a product; of a block's word, a single window's, a tap's place there, a row.
_PER_TAP, _PER_SCALED, _PER_WORD, _PER_SINGLE, _PER_PLACE, _PER_ROW = 5, 7, 28, 16, 12, 60

# Instructions to load and convert a word.
_PER_LOAD = {"mcu_word_u8": 1, "mcu_word_s8": 2, "mcu_word_sign": 4}


@dataclass(frozen=True, slots=True)
class DepthwiseWords(Kernel):
    """For sums of one absolute difference a weight: adder, binary, and ternary without zeros."""

    headers: ClassVar[tuple[str, ...]] = ("mcu_scaling.h", "dsp/words.h")

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse other cores, other convolutions, and sums of two differences."""
        if not core.has_dsp:
            return "needs a core with DSP instructions"
        sums = sums_of(layer)
        refused = depthwise_refusal(layer) or AbsoluteDifferences().refusal(sums, core)
        if refused:
            return refused
        if layer.shapes[0][-1] % _CHANNELS:
            return "needs channels in fours"
        return "computes one difference for each weight only" if _tiled(layer).combine else None

    def cost(self, layer: Layer, core: Core) -> Cost:
        """Blocks of windows, single ones, and their rows."""
        geometry, sums, tiled = geometry_of(layer), sums_of(layer), _tiled(layer)
        blocks, taps = blocks_of(layer, _MOST_WINDOWS), geometry.window.taps
        scaled = core.has_multiplier and bool(scaling_of(sums, tiled.requantize))
        requantize = requantize_code(tiled.requantize, sums.output)
        codes = _CHANNELS * (_PER_SCALED if scaled else requantize.instructions_on(core))
        load = _PER_LOAD[tiled.convert[0]]
        block = blocks.windows * (taps * _PER_TAP + codes) + load * blocks.loads + taps + _PER_WORD
        single = taps * (_PER_TAP + load + 2) + codes + _PER_SINGLE
        singles = geometry.columns - blocks.count * blocks.windows
        words = geometry.channels // _CHANNELS
        row = words * (blocks.count * block + singles * single) + singles * taps * _PER_PLACE + _PER_ROW
        return Cost(
            geometry.images * geometry.rows * row,
            int(sums.weights.codes.size) + code_bytes(sums, tiled.requantize) + padding_bytes(layer, blocks),
            4 * (taps + geometry.window.size[0]),
        )

    def context(self, layer: Layer) -> Context:
        """Return the weights of four channels in a word, the blocks and the geometry."""
        geometry, tiled = geometry_of(layer), _tiled(layer)
        blocks = blocks_of(layer, _MOST_WINDOWS)
        return {
            **geometry_context(layer, geometry),
            **code_context(sums_of(layer), tiled.requantize),
            "blocks": blocks,
            "convert": tiled.convert[0],
            "table": None,
            "weights": tuple(_words(layer, tiled).reshape(-1).tolist()),
            "weight_type": "uint32_t",
            "padding": padding_bytes(layer, blocks),
        }


def _tiled(layer: Layer) -> Tiled:
    return AbsoluteDifferences().tiled(sums_of(layer), 1)


def _words(layer: Layer, tiled: Tiled) -> Int:
    """Return the bytes of each tap of four channels as words, (channels / 4, taps)."""
    taps = sums_of(layer).weights.codes.shape[1]
    each = (tiled.words[:, :, None] >> np.array([0, 8, 16, 24])) & 255
    channels = each.reshape(len(tiled.words), -1)[:, :taps]
    quads = channels.reshape(-1, _CHANNELS, taps).transpose(0, 2, 1)
    return bytes_as_words(quads.reshape(-1, _CHANNELS)).reshape(-1, taps)


DEPTHWISE_WORDS = DepthwiseWords("depthwise words", "conv", "kernels/depthwise_words.c.j2")
