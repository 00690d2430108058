"""Convolution over images (n, h, w, c): a weighted sum over each window, in groups of channels.

Depthwise is groups == c; one-dimensional is h == 1. The input may also be planes (n, c, h, w): then the
model's own layout is read without a transposition.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mcucompile.encodings import Weights
from mcucompile.errors import ModelError
from mcucompile.ir import Array, Format, Op, RowAccess, Shape
from mcucompile.lowering import Lowered, Lowering
from mcucompile.numerics import Int, Requantization
from mcucompile.ops.linear import MAX_ROWS, some_rows
from mcucompile.ops.similar import sum_bounds
from mcucompile.ops.sums import Sums
from mcucompile.ops.window import Window, images
from mcucompile.similarities import SIMILARITIES

# Patches are made for as many samples at a time as keep them below this.
_PATCH_BYTES = 1 << 26


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Conv(Sums):
    """y = relu?(gain * sum S(x, weight) + bias) over windows, real.

    Attributes:
        weight: (n_out, kernel rows, kernel columns, c / groups).
        window: geometry; padding takes part as 0.
        groups: outputs of a group see only their group's channels.
        planar: x is (n, c, h, w).
    """

    kind: ClassVar[str] = "conv"
    takes_format: ClassVar[bool] = True
    window: Window
    groups: int = 1
    planar: bool = False

    def output_shape(self, *shapes: Shape) -> Shape:
        """(n, rows, columns, n_out)."""
        return _output_shape(self, shapes[0], len(self.weight), self.weight.shape[3])

    def run(self, *inputs: Array) -> Array:
        """Compute in float64, so that the order of additions, which depends on the machine, does not show."""
        weight = self.weight.reshape(self.groups, len(self.weight) // self.groups, -1).astype(np.float64)
        outputs = []
        for rows, lead in _rows(self, inputs[0].astype(np.float64), 0):
            sums = [self.term.real(group, of_group) for group, of_group in zip(rows, weight, strict=True)]
            outputs.append(self.finished(np.concatenate(sums, axis=-1).reshape(*lead, -1)))
        return np.concatenate(outputs)

    def operations(self, *shapes: Shape) -> int:
        """Taps times channels of a group, for each output."""
        return math.prod(self.output_shape(*shapes)[:3]) * self.weight.size

    def lower(self, lowering: Lowering) -> Lowered:
        """Encode the weights and choose scales: see `lower_linear` and `lower_similar`."""
        chunks = list(_rows(self, _some_samples(self, lowering.inputs[0]), 0))
        sums = self.lower_sums(lowering, some_rows(np.concatenate([chunk for chunk, _ in chunks], axis=1)))
        op = IntegerConv(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            similarity=self.similarity,
            weights=sums.weights,
            requantize=sums.requantize,
            window=self.window,
            groups=self.groups,
            planar=self.planar,
            fill=lowering.formats[0].zero_point,
        )
        return Lowered(op, sums.format)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerConv(Op):
    """Codes to codes; the zero point of x is inside the offset.

    Attributes:
        similarity: name in the similarity table.
        weights: codes (n_out, taps * c / groups), taps in row order, channels last.
        requantize: one multiplier for all outputs or one each; one offset each.
        window, groups, planar: as of Conv.
        fill: the code that padding takes part as: x's zero point.
    """

    kind: ClassVar[str] = "conv"
    similarity: str
    weights: Weights
    requantize: Requantization
    window: Window
    groups: int
    planar: bool
    fill: int

    def output_shape(self, *shapes: Shape) -> Shape:
        """(n, rows, columns, n_out)."""
        n_out, n_in = self.weights.codes.shape
        return _output_shape(self, shapes[0], n_out, n_in // self.window.taps)

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        n_in = self.weights.codes.shape[1]
        values = self.weights.values.reshape(self.groups, -1, n_in)
        accumulate = SIMILARITIES[self.similarity].accumulate
        outputs = []
        for rows, lead in _rows(self, inputs[0], self.fill):
            sums = [accumulate(group, value) for group, value in zip(rows, values, strict=True)]
            outputs.append(self.requantize.apply(np.concatenate(sums, axis=-1)).reshape(*lead, -1))
        return np.concatenate(outputs)

    def operations(self, *shapes: Shape) -> int:
        """Taps times channels of a group, for each output."""
        return math.prod(self.output_shape(*shapes)[:3]) * int(self.weights.codes.size)

    def row_access(self, *shapes: Shape) -> RowAccess | None:
        """One image: a window's rows."""
        n, *axes = shapes[0]
        height, width = (axes[1], axes[2]) if self.planar else (axes[0], axes[1])
        access = self.window.row_access(self, height, width) if n == 1 else None
        return replace(access, is_scattered=True) if access and self.planar else access

    def accumulator_bounds(self, *formats: Format) -> tuple[Int, Int]:
        """Return the smallest and largest accumulator of each output for any input, (n_out,) each."""
        return sum_bounds(SIMILARITIES[self.similarity], self.weights.values, formats[0])


def _rows(op: Conv | IntegerConv, x: Array, fill: int) -> Iterator[tuple[Array, Shape]]:
    """Yield, for some samples at a time, (groups, windows, n_in) and the output's axes but the last."""
    samples = len(x)
    outputs = op.output_shape(x.shape[1:])
    x = x.transpose(0, 1, 3, 4, 2) if op.planar else x
    image = x.shape[2:]
    groups, taps = op.groups, op.window.taps
    size = math.prod(outputs[:3]) * taps * image[2] * x.itemsize
    step = max(1, _PATCH_BYTES // size)
    for start in range(0, samples, step):
        some = x[start : start + step]
        patches = op.window.patches(some.reshape(-1, *image), (outputs[1], outputs[2]), fill)
        grouped = patches.reshape(-1, taps, groups, image[2] // groups).transpose(2, 0, 1, 3)
        yield grouped.reshape(groups, len(patches) * outputs[1] * outputs[2], -1), (len(some), *outputs[:3])


def _some_samples(op: Conv, x: Array) -> Array:
    """Return enough samples, evenly spread, for MAX_ROWS windows and some variety."""
    windows = math.prod(op.output_shape(x.shape[1:])[:3])
    wanted = min(len(x), max(16, MAX_ROWS // windows))
    return x[np.linspace(0, len(x) - 1, wanted).astype(np.int64)]


def _output_shape(op: Conv | IntegerConv, shape: Shape, n_out: int, channels: int) -> Shape:
    n, h, w, c = images(op, shape)
    if op.planar:
        h, w, c = w, c, h
    if c != channels * op.groups or n_out % op.groups:
        raise ModelError(
            op.source,
            f"has weights for {channels * op.groups} channels in {op.groups} groups, its input has {c}",
            "re-export the model",
        )
    return (n, *op.window.output_size(op, h, w), n_out)
