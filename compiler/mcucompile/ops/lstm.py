"""Long short-term memory in one direction.

i, f, o = sigmoid(W x + R h + b), g = tanh(W x + R h + b), c = f * c + i * g, h = o * tanh(c).
Source: Hochreiter and Schmidhuber, Neural Computation 9 (1997), with the forget gate of Gers et al. (2000); the
equations are those of onnx.ai/onnx/operators/onnx__LSTM.html without peepholes.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mcucompile.encodings import Weights
from mcucompile.ir import Array, Format
from mcucompile.lowering import Lowered, Lowering
from mcucompile.numerics import Real, Requantization
from mcucompile.ops.recurrent import (
    LARGEST,
    SIGMOID_BITS,
    TANH_BITS,
    IntegerRecurrent,
    Recurrent,
    binary_format,
    in_order,
    lower_sums,
    memory_fraction_of,
    mixed,
    sigmoid,
    sigmoid_table,
    sum_fraction_of,
)

# A hidden state is a product of a sigmoid and a tanh.
PRODUCT_BITS = SIGMOID_BITS + TANH_BITS
# Finer steps of a state are finer than what the tables are exact to.
_FINEST_STATE = 15


@dataclass(frozen=True, slots=True, eq=False)
class _Trace:
    """What a layer computes on samples, in the order of steps: (samples, steps, batch, ...) each."""

    from_input: Real
    from_state: Real
    before: Real
    hidden: Real
    cell: Real


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Lstm(Recurrent):
    """Gates in the order input, forget, cell candidate, output.

    Attributes:
        initial_cell: (batch, hidden).
        gives_cell: y is the cell state, not the hidden state.
    """

    kind: ClassVar[str] = "lstm"
    gates: ClassVar[int] = 4
    initial_cell: npt.NDArray[np.float32]
    gives_cell: bool = False

    def run(self, *inputs: Array) -> Array:
        """Compute in float64, so that the order of additions, which depends on the machine, does not show."""
        trace = self._trace(self.sequences(inputs[0]))
        y = trace.cell if self.gives_cell else trace.hidden
        return (y[:, -1:] if self.last else in_order(y, reverse=self.reverse)).astype(np.float32)

    def _trace(self, x: Real) -> _Trace:
        from_input = x @ self.weight.T.astype(np.float64) + self.bias + self.recurrent_bias
        shape = (*x.shape[:3], self.hidden)
        from_state, before, hidden, cell = np.empty_like(from_input), np.empty(shape), np.empty(shape), np.empty(shape)
        h, c = (np.broadcast_to(v.astype(np.float64), (len(x), *v.shape)) for v in (self.initial, self.initial_cell))
        for step in range(x.shape[1]):
            before[:, step] = h
            from_state[:, step] = h @ self.recurrent.T.astype(np.float64)
            i, f, g, o = np.split(from_input[:, step] + from_state[:, step], 4, axis=-1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            hidden[:, step], cell[:, step] = h, c
        return _Trace(from_input, from_state, before, hidden, cell)

    def lower(self, lowering: Lowering) -> Lowered:
        """Choose steps that are powers of two and encode both matrices for them."""
        x = self.some_sequences(lowering.inputs[0])
        trace = self._trace(x)
        bits = lowering.activation_bits
        sum_fraction = sum_fraction_of((trace.from_input, trace.from_state), bits)
        memory_fraction = memory_fraction_of(np.append(trace.cell, self.initial_cell), bits)
        state, state_fraction = binary_format(np.append(trace.hidden, self.initial), bits, _FINEST_STATE)
        sums = Format(16, True, 2.0**-sum_fraction)
        bias = self.bias + self.recurrent_bias
        input_ = lower_sums(lowering, self.source, lowering.formats[0], self.weight, bias, x, sums)
        recurrent = lower_sums(lowering, self.source, state, self.recurrent, np.zeros_like(bias), trace.before, sums)
        format_, output_fraction = state, state_fraction
        if lowering.is_result:
            output_fraction = memory_fraction if self.gives_cell else SIGMOID_BITS
            format_ = Format(32, True, 2.0**-output_fraction)
        elif self.gives_cell:
            format_, output_fraction = binary_format(trace.cell, bits, memory_fraction)
        op = IntegerLstm(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            similarity="dot",
            input_weights=input_.weights,
            input_requantize=input_.requantize,
            state_weights=recurrent.weights,
            state_requantize=recurrent.requantize,
            sum_fraction=sum_fraction,
            memory_fraction=memory_fraction,
            state=state,
            state_fraction=state_fraction,
            output_fraction=output_fraction,
            minimum=format_.minimum,
            maximum=format_.maximum,
            sigmoid=sigmoid_table(bits),
            initial_state=state.quantize(self.initial),
            initial_memory=Format(16, True, 2.0**-memory_fraction).quantize(self.initial_cell),
            reverse=self.reverse,
            last=self.last,
            gives_cell=self.gives_cell,
        )
        return Lowered(op, format_)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerLstm(IntegerRecurrent):
    """The memory is the cell state.

    c = clamp(mix(c, f, g, i)), state = clamp((o * tanh(c) + half) >> n).
    """

    kind: ClassVar[str] = "lstm"
    gives_cell: bool

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        x = in_order(inputs[0].astype(np.int64), reverse=self.reverse)
        shape = (len(x), *self.initial_state.shape)
        state, cell = np.broadcast_to(self.initial_state, shape), np.broadcast_to(self.initial_memory, shape)
        outputs = []
        for step in range(x.shape[1]):
            argument = self.part(x[:, step], self.input_weights, self.input_requantize)
            argument = argument + self.part(state, self.state_weights, self.state_requantize)
            i, f, g, o = np.split(argument, 4, axis=-1)
            cell = np.clip(mixed(cell, self.gate(f), self.candidate(g), self.gate(i)), -LARGEST, LARGEST)
            product = self.gate(o) * self.squashed(cell, self.memory_fraction)
            state = self.as_state(product, PRODUCT_BITS)
            given = (cell, self.memory_fraction) if self.gives_cell else (product, PRODUCT_BITS)
            outputs.append(self.as_output(*given))
        y = np.stack(outputs[-1:] if self.last else outputs, axis=1)
        return y if self.last else in_order(y, reverse=self.reverse)

    def weighted_sums(self) -> tuple[tuple[Weights, Requantization, str], ...]:
        """Over x and over the state."""
        return (
            (self.input_weights, self.input_requantize, "input"),
            (self.state_weights, self.state_requantize, "state"),
        )
