"""What LSTM and GRU share: shapes, the tables of their gates, and integers for their weighted sums.

x: (steps, batch, n_in) -> y: (steps, batch, hidden), or (1, batch, hidden) if only the last step is wanted. One
operator goes through the sequence in one direction; its weights are stored once.

Integers: the sums over x and over the state before become 16-bit parts of a gate's argument in steps of 2**-f; a
gate is a table of the sigmoid, in steps of 2**-15, with straight lines between its entries, and
tanh(z) = 2 sigmoid(2 z) - 1 in steps of 2**-14. What a layer remembers has 16 bits, what it sums over the bits of
an activation. Everything between two tables is exact but for one rounding of each sum of products. On sequences of 60
steps the states stay within 0.002 (root mean square; 0.0002 with 16-bit activations) of the same layer in float with
the encoded weights (tests/test_recurrent.py); what rounding the weights adds is usually more.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mcucompile.encodings import Weights
from mcucompile.errors import ModelError
from mcucompile.ir import Array, Format, Op, Shape, Source
from mcucompile.lowering import Lowering, RealOp, best_format, largest
from mcucompile.numerics import Int, Real, Requantization
from mcucompile.ops.linear import MAX_ROWS, LinearLayer, LoweredLinear, lower_linear, some_rows, weighted_bounds
from mcucompile.similarities import SIMILARITIES

# The sigmoid's table reaches from -2**4 to 2**4; beyond, the sigmoid is within 2**-23 of 0 or 1.
REACH_BITS = 4
SIGMOID_BITS, TANH_BITS = 15, 14
# log2 of the table's straight lines for 8-bit and 16-bit states: within 2.1e-4 and 4e-5 of the sigmoid.
_SEGMENT_BITS = {8: 8, 16: 10}
# Steps finer than these are finer than what a table makes of them.
_FINEST_SUM, _FINEST_MEMORY = 12, TANH_BITS
# Inputs that no sample had may go this far beyond those that samples had.
_ROOM = 1.25
LARGEST = (1 << 15) - 1


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Recurrent(RealOp):
    """A recurrent layer in one direction, real.

    Attributes:
        weight: (gates * hidden, n_in), gate after gate.
        recurrent: (gates * hidden, hidden), over the state before.
        bias: (gates * hidden,), beside `weight`.
        recurrent_bias: (gates * hidden,), beside `recurrent`.
        initial: (batch, hidden) the state before the first step.
        reverse: go from the last step to the first; outputs keep the places of their inputs.
        last: y is the state after the last step made, alone.
    """

    gates: ClassVar[int]
    weight: npt.NDArray[np.float32]
    recurrent: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    recurrent_bias: npt.NDArray[np.float32]
    initial: npt.NDArray[np.float32]
    reverse: bool = False
    last: bool = False

    @property
    def hidden(self) -> int:
        """Size of the state."""
        return int(self.recurrent.shape[1])

    def output_shape(self, *shapes: Shape) -> Shape:
        """(steps or 1, batch, hidden)."""
        return _output_shape(self, shapes[0], self.weight.shape[1], self.initial, last=self.last)

    def operations(self, *shapes: Shape) -> int:
        """All weights, at each step of each sequence."""
        return math.prod(shapes[0][:2]) * (self.weight.size + self.recurrent.size)

    def sequences(self, x: Array) -> Real:
        """Return x, (samples, steps, batch, n_in), in the order of the steps made, in float64."""
        return np.asarray(in_order(x, reverse=self.reverse), dtype=np.float64)

    def some_sequences(self, x: Array) -> Real:
        """Return enough of the samples, evenly spread, for MAX_ROWS steps and some variety, in order."""
        wanted = min(len(x), max(16, MAX_ROWS // math.prod(x.shape[1:3])))
        return self.sequences(x[np.linspace(0, len(x) - 1, wanted).astype(np.int64)])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerRecurrent(Op):
    """Codes to codes.

    Attributes:
        similarity: name in the similarity table.
        input_weights, input_requantize: sums over x, (gates * hidden, n_in); biases and x's zero point included.
        state_weights, state_requantize: sums over the state before.
        sum_fraction: the parts of a gate's argument are in steps of 2**-sum_fraction, 16 bits.
        memory_fraction: what the layer remembers is in steps of 2**-memory_fraction, 16 bits.
        state: what is summed over, in steps of 2**-state_fraction.
        output_fraction: y is in steps of 2**-output_fraction.
        minimum, maximum: the clamp of y.
        sigmoid: (segments + 1,) sigmoid at equal distances from -2**REACH_BITS to 2**REACH_BITS, times 2**15.
        initial_state: (batch, hidden) in the format `state`.
        initial_memory: (batch, hidden).
        reverse, last: as of Recurrent.
    """

    similarity: str
    input_weights: Weights
    input_requantize: Requantization
    state_weights: Weights
    state_requantize: Requantization
    sum_fraction: int
    memory_fraction: int
    state: Format
    state_fraction: int
    output_fraction: int
    minimum: int
    maximum: int
    sigmoid: Int
    initial_state: Int
    initial_memory: Int
    reverse: bool
    last: bool

    @property
    def hidden(self) -> int:
        """Size of the state."""
        return int(self.state_weights.codes.shape[1])

    @property
    def segment_bits(self) -> int:
        """Log2 of the straight lines of the sigmoid."""
        return (len(self.sigmoid) - 1).bit_length() - 1

    @property
    def sums(self) -> Format:
        """Format of the parts of a gate's argument."""
        return Format(16, True, 2.0**-self.sum_fraction)

    def output_shape(self, *shapes: Shape) -> Shape:
        """(steps or 1, batch, hidden)."""
        n_in = int(self.input_weights.codes.shape[1])
        return _output_shape(self, shapes[0], n_in, self.initial_state, last=self.last)

    def operations(self, *shapes: Shape) -> int:
        """All weights, at each step of each sequence."""
        return math.prod(shapes[0][:2]) * sum(weights.codes.size for weights, _, _ in self.weighted_sums())

    @abstractmethod
    def weighted_sums(self) -> tuple[tuple[Weights, Requantization, str], ...]:
        """Return all weighted sums of a step: weights, requantization, a name; the first is over x."""

    def accumulations(self, *formats: Format) -> Iterator[tuple[Requantization, Int, Int]]:
        """Yield each requantization with the smallest and largest accumulators for any input and state."""
        for i, (weights, requantize, _) in enumerate(self.weighted_sums()):
            yield requantize, *weighted_bounds(weights.values, self.state if i else formats[0])

    def part(self, x: Int, weights: Weights, requantize: Requantization) -> Int:
        """Return the weighted sums over the last axis as parts of gates' arguments."""
        return requantize.apply(SIMILARITIES[self.similarity].accumulate(x, weights.values))

    def gate(self, argument: Int) -> Int:
        """Return sigmoid(argument * 2**-sum_fraction) in steps of 2**-15."""
        return interpolated_sigmoid(self.sigmoid, argument, self.sum_fraction)

    def candidate(self, argument: Int) -> Int:
        """Return tanh(argument * 2**-sum_fraction) in the steps of the memory."""
        return rounded(self.squashed(argument, self.sum_fraction), TANH_BITS - self.memory_fraction)

    def squashed(self, argument: Int, fraction: int) -> Int:
        """Return tanh(argument * 2**-fraction) in steps of 2**-14."""
        return interpolated_sigmoid(self.sigmoid, argument, fraction - 1) - (1 << TANH_BITS)

    def as_state(self, value: Int, fraction: int) -> Int:
        """Return a value in steps of 2**-fraction as what the next sums are over."""
        return np.clip(rounded(value, fraction - self.state_fraction), self.state.minimum, self.state.maximum)

    def as_output(self, value: Int, fraction: int) -> Int:
        """Return a value in steps of 2**-fraction as an output code."""
        return np.clip(rounded(value, fraction - self.output_fraction), self.minimum, self.maximum)


def sigmoid(z: Real) -> Real:
    """Return 1 / (1 + exp(-z)) without overflow."""
    return np.asarray(0.5 * np.tanh(0.5 * z) + 0.5)


def rounded(value: Int, shift: int) -> Int:
    """Return value / 2**shift, ties up. The C twin is mcu_round_s32."""
    return np.asarray((value + (1 << shift >> 1)) >> shift, dtype=np.int64)


def mixed(a: Int, share_of_a: Int, b: Int, share_of_b: Int) -> Int:
    """Return (a * share_of_a + b * share_of_b) / 2**15, ties up. The C twin is mcu_mix_s32.

    |a|, |b| below 2**15, shares 0..2**15; the shares of a GRU sum up to 2**15, an LSTM's |b| is at most 2**14: the
    sum and its rounding half stay below 2**31.
    """
    return rounded(a * share_of_a + b * share_of_b, SIGMOID_BITS)


def interpolated_sigmoid(table: Int, argument: Int, fraction: int) -> Int:
    """Return sigmoid(argument * 2**-fraction) in steps of 2**-15. The C twin is mcu_sigmoid_s32."""
    reach, shift = sigmoid_place(len(table), fraction)
    place = np.clip(argument, -reach, reach - 1) + reach
    low, high = table[place >> shift], table[(place >> shift) + 1]
    return rounded((low << shift) + (high - low) * (place & ((1 << shift) - 1)), shift)


def sigmoid_place(entries: int, fraction: int) -> tuple[int, int]:
    """Return where an argument in steps of 2**-fraction is in the sigmoid's table.

    Returns:
        The end of the table in such steps, and the bits of an argument that lie between two entries, at least 1.
    """
    segment_bits = (entries - 1).bit_length() - 1
    return 1 << (REACH_BITS + fraction), REACH_BITS + 1 + fraction - segment_bits


def sigmoid_table(bits: int) -> Int:
    """Return the sigmoid's table for states of 8 or 16 bits."""
    places = np.linspace(-(2.0**REACH_BITS), 2.0**REACH_BITS, (1 << _SEGMENT_BITS[bits]) + 1)
    return np.asarray(np.floor(sigmoid(places) * (1 << SIGMOID_BITS) + 0.5), dtype=np.int64)


def fraction_of(values: Array, bits: int, finest: int) -> int:
    """Return the f, at most `finest`, for which 16-bit steps of 2**-f hold the values and some room beyond.

    Args:
        values: real.
        bits: of an activation; it says how fine the sigmoid's table is.
        finest: the largest f that has a use.
    """
    coarsest = _SEGMENT_BITS[bits] - REACH_BITS + 1
    return max(min(math.floor(math.log2(LARGEST / (_ROOM * largest(values)))), finest), coarsest)


def sum_fraction_of(parts: tuple[Array, ...], bits: int) -> int:
    """Return the fraction bits of the parts of gates' arguments."""
    return min(fraction_of(part, bits, _FINEST_SUM) for part in parts)


def memory_fraction_of(values: Array, bits: int) -> int:
    """Return the fraction bits of what a layer remembers; it must hold 1 as well."""
    return fraction_of(np.append(values.reshape(-1), 1.0), bits, _FINEST_MEMORY)


def binary_format(values: Array, bits: int, finest: int) -> tuple[Format, int]:
    """Return the signed format with steps of 2**-f, f at most `finest`, that measures best, and f."""
    top = math.floor(math.log2(((1 << (bits - 1)) - 1) / largest(values)))
    fractions = {min(max(f, 0), finest) for f in (top, top + 1, top + 2)}
    format_ = best_format(values, signed=True, bits=bits, scales=[2.0**-f for f in sorted(fractions)])
    return format_, round(-math.log2(format_.scale))


def lower_sums(
    lowering: Lowering, source: Source, format_: Format, weight: Array, bias: Array, rows: Array, sums: Format
) -> LoweredLinear:
    """Encode a matrix whose sums become parts of gates' arguments.

    Args:
        format_: of what is summed over.
        weight: (n_out, n_in).
        bias: (n_out,).
        rows: (..., n_in) what is summed over on the samples.
        sums: format of the parts.
    """
    layer = LinearLayer(
        source,
        weight.astype(np.float64),
        bias.astype(np.float64),
        False,
        math.inf,
        some_rows(rows.reshape(1, -1, weight.shape[1])),
        sums,
    )
    return lower_linear(replace(lowering, formats=(format_,)), layer)


def in_order(y: Array, *, reverse: bool) -> Array:
    """Return (samples, steps, ...) from the last step to the first, if reverse; the same again goes back."""
    return y[:, ::-1] if reverse else y


def _output_shape(op: Recurrent | IntegerRecurrent, shape: Shape, n_in: int, initial: Array, *, last: bool) -> Shape:
    if len(shape) != 3 or shape[2] != n_in or initial.shape != (shape[1], op.hidden):
        raise ModelError(
            op.source,
            f"takes sequences of {n_in} values and has initial states of shape {initial.shape}, its input is {shape}",
            "re-export the model",
        )
    return (1 if last else shape[0], shape[1], op.hidden)
