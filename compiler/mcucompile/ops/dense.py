"""Fully connected layer: y[o] = requantize(sum_i S(x[i], w[o, i]))."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.encodings import Weights
from mcucompile.errors import ModelError
from mcucompile.ir import Array, Format, Op, Shape
from mcucompile.lowering import Lowered, Lowering
from mcucompile.numerics import Int, Requantization
from mcucompile.ops.linear import some_rows
from mcucompile.ops.similar import sum_bounds
from mcucompile.ops.sums import Sums
from mcucompile.similarities import SIMILARITIES


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Dense(Sums):
    """y = relu?(gain * sum S(x, weight) + bias) over the last axis. x: (..., n_in) -> y: (..., n_out), real.

    Attributes:
        weight: (n_out, n_in).
    """

    kind: ClassVar[str] = "dense"
    takes_format: ClassVar[bool] = True

    def output_shape(self, *shapes: Shape) -> Shape:
        """The last axis, n_in long, becomes n_out long."""
        return _output_shape(self, shapes[0], self.weight.shape)

    def run(self, *inputs: Array) -> Array:
        """Compute in float64, so that the order of additions, which depends on the machine, does not show."""
        return self.finished(self.term.real(inputs[0].astype(np.float64), self.weight.astype(np.float64)))

    def operations(self, *shapes: Shape) -> int:
        """n_out * n_in for each row."""
        return math.prod(shapes[0][:-1]) * self.weight.size

    def lower(self, lowering: Lowering) -> Lowered:
        """Encode the weights and choose scales: see `lower_linear` and `lower_similar`."""
        sums = self.lower_sums(lowering, some_rows(lowering.inputs[0].reshape(1, -1, self.weight.shape[1])))
        op = IntegerDense(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            similarity=self.similarity,
            weights=sums.weights,
            requantize=sums.requantize,
        )
        return Lowered(op, sums.format)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerDense(Op):
    """x: (..., n_in) codes -> y: (..., n_out) codes; the zero point of x is inside the offset.

    Attributes:
        similarity: name in the similarity table.
        weights: codes (n_out, n_in).
        requantize: one multiplier for all outputs or one each; one offset each.
    """

    kind: ClassVar[str] = "dense"
    similarity: str
    weights: Weights
    requantize: Requantization

    def output_shape(self, *shapes: Shape) -> Shape:
        """The last axis, n_in long, becomes n_out long."""
        return _output_shape(self, shapes[0], self.weights.codes.shape)

    def accumulate(self, x: Array) -> Int:
        """Return the accumulators, (..., n_out)."""
        return SIMILARITIES[self.similarity].accumulate(x, self.weights.values)

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        return self.requantize.apply(self.accumulate(inputs[0]))

    def operations(self, *shapes: Shape) -> int:
        """n_out * n_in for each row."""
        return math.prod(shapes[0][:-1]) * int(self.weights.codes.size)

    def accumulator_bounds(self, *formats: Format) -> tuple[Int, Int]:
        """Return the smallest and largest accumulator of each output for any input, (n_out,) each."""
        return sum_bounds(SIMILARITIES[self.similarity], self.weights.values, formats[0])


def _output_shape(op: Op, shape: Shape, weight_shape: tuple[int, ...]) -> Shape:
    n_out, n_in = weight_shape
    if not shape or shape[-1] != n_in:
        raise ModelError(
            op.source, f"takes {n_in} values on its last axis, its input is {shape}", "re-export the model"
        )
    return (*shape[:-1], n_out)
