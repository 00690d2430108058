"""Gated recurrent unit in one direction.

z, r = sigmoid(W x + R h + b), n = tanh(W x + R (r * h) + b) or tanh(W x + b + r * (R h + b')), h = z * h + (1 - z) * n.
Source: Cho et al., arXiv:1406.1078, and, for the second form of n, cuDNN's; the equations are those of
onnx.ai/onnx/operators/onnx__GRU.html.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.encodings import Weights
from mcucompile.ir import Array, Format
from mcucompile.lowering import Lowered, Lowering
from mcucompile.numerics import Int, Real, Requantization
from mcucompile.ops.recurrent import (
    SIGMOID_BITS,
    IntegerRecurrent,
    Recurrent,
    binary_format,
    in_order,
    lower_sums,
    memory_fraction_of,
    mixed,
    rounded,
    sigmoid,
    sigmoid_table,
    sum_fraction_of,
)


@dataclass(frozen=True, slots=True, eq=False)
class _Trace:
    """What a layer computes on samples, in the order of steps: (samples, steps, batch, ...) each."""

    from_input: Real
    from_state: Real
    from_candidate: Real
    before: Real
    candidate_rows: Real
    hidden: Real


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Gru(Recurrent):
    """Gates in the order update, reset, candidate.

    Attributes:
        resets_sum: the reset gate scales the candidate's sum over the state, its bias included, not the state.
    """

    kind: ClassVar[str] = "gru"
    gates: ClassVar[int] = 3
    resets_sum: bool = False

    def run(self, *inputs: Array) -> Array:
        """Compute in float64, so that the order of additions, which depends on the machine, does not show."""
        y = self._trace(self.sequences(inputs[0])).hidden
        return (y[:, -1:] if self.last else in_order(y, reverse=self.reverse)).astype(np.float32)

    def _biases(self) -> tuple[Real, Real]:
        """Return the biases beside the input's sums, and that beside the candidate's over the state."""
        bias, recurrent = self.bias.astype(np.float64), self.recurrent_bias.astype(np.float64)
        if not self.resets_sum:
            return bias + recurrent, np.zeros(self.hidden)
        gates = 2 * self.hidden
        return np.append(bias[:gates] + recurrent[:gates], bias[gates:]), recurrent[gates:]

    def _trace(self, x: Real) -> _Trace:
        bias, candidate_bias = self._biases()
        gates = self.recurrent[: 2 * self.hidden].T.astype(np.float64)
        candidate = self.recurrent[2 * self.hidden :].T.astype(np.float64)
        from_input = x @ self.weight.T.astype(np.float64) + bias
        shape = (*x.shape[:3], self.hidden)
        from_state = np.empty((*x.shape[:3], 2 * self.hidden))
        from_candidate, before, candidate_rows, hidden = (np.empty(shape) for _ in range(4))
        h = np.broadcast_to(self.initial.astype(np.float64), (len(x), *self.initial.shape))
        for step in range(x.shape[1]):
            before[:, step] = h
            from_state[:, step] = h @ gates
            for_update, for_reset, for_candidate = np.split(from_input[:, step], 3, axis=-1)
            z = sigmoid(for_update + from_state[:, step, :, : self.hidden])
            r = sigmoid(for_reset + from_state[:, step, :, self.hidden :])
            candidate_rows[:, step] = h if self.resets_sum else r * h
            summed = candidate_rows[:, step] @ candidate + candidate_bias
            from_candidate[:, step] = summed
            n = np.tanh(for_candidate + (r * summed if self.resets_sum else summed))
            h = z * h + (1 - z) * n
            hidden[:, step] = h
        return _Trace(from_input, from_state, from_candidate, before, candidate_rows, hidden)

    def lower(self, lowering: Lowering) -> Lowered:
        """Choose steps that are powers of two and encode the matrices for them."""
        x = self.some_sequences(lowering.inputs[0])
        trace = self._trace(x)
        bits = lowering.activation_bits
        sum_fraction = sum_fraction_of((trace.from_input, trace.from_state, trace.from_candidate), bits)
        every_state = np.append(trace.hidden, self.initial)
        memory_fraction = memory_fraction_of(every_state, bits)
        memory = Format(16, True, 2.0**-memory_fraction)
        state, state_fraction = memory, memory_fraction
        if bits == 8:
            state, state_fraction = binary_format(every_state, bits, memory_fraction)
        sums = Format(16, True, 2.0**-sum_fraction)
        bias, candidate_bias = self._biases()
        gates = 2 * self.hidden
        input_ = lower_sums(lowering, self.source, lowering.formats[0], self.weight, bias, x, sums)
        recurrent = lower_sums(
            lowering, self.source, state, self.recurrent[:gates], np.zeros(gates), trace.before, sums
        )
        candidate = lower_sums(
            lowering, self.source, state, self.recurrent[gates:], candidate_bias, trace.candidate_rows, sums
        )
        format_, output_fraction = state, state_fraction
        if lowering.is_result:
            format_, output_fraction = Format(32, True, memory.scale), memory_fraction
        op = IntegerGru(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            similarity="dot",
            input_weights=input_.weights,
            input_requantize=input_.requantize,
            state_weights=recurrent.weights,
            state_requantize=recurrent.requantize,
            candidate_weights=candidate.weights,
            candidate_requantize=candidate.requantize,
            sum_fraction=sum_fraction,
            memory_fraction=memory_fraction,
            state=state,
            state_fraction=state_fraction,
            output_fraction=output_fraction,
            minimum=format_.minimum,
            maximum=format_.maximum,
            sigmoid=sigmoid_table(bits),
            initial_state=state.quantize(self.initial),
            initial_memory=memory.quantize(self.initial),
            reverse=self.reverse,
            last=self.last,
            resets_sum=self.resets_sum,
        )
        return Lowered(op, format_)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerGru(IntegerRecurrent):
    """The memory is the hidden state, with more bits than what is summed over.

    h = mix(h, z, n, 1 - z), state = clamp((h + half) >> s).

    Attributes:
        candidate_weights, candidate_requantize: sums over the state, reset before or after, (hidden, hidden).
        resets_sum: as of Gru.
    """

    kind: ClassVar[str] = "gru"
    candidate_weights: Weights
    candidate_requantize: Requantization
    resets_sum: bool

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        x = in_order(inputs[0].astype(np.int64), reverse=self.reverse)
        shape = (len(x), *self.initial_state.shape)
        state, memory = np.broadcast_to(self.initial_state, shape), np.broadcast_to(self.initial_memory, shape)
        outputs = []
        for step in range(x.shape[1]):
            from_input = self.part(x[:, step], self.input_weights, self.input_requantize)
            from_state = self.part(state, self.state_weights, self.state_requantize)
            update, reset, candidate = np.split(from_input, 3, axis=-1)
            z = self.gate(update + from_state[..., : self.hidden])
            r = self.gate(reset + from_state[..., self.hidden :])
            n = self.candidate(candidate + self._from_candidate(state, memory, r))
            memory = mixed(memory, z, n, (1 << SIGMOID_BITS) - z)
            state = self.as_state(memory, self.memory_fraction)
            outputs.append(self.as_output(memory, self.memory_fraction))
        y = np.stack(outputs[-1:] if self.last else outputs, axis=1)
        return y if self.last else in_order(y, reverse=self.reverse)

    def _from_candidate(self, state: Int, memory: Int, reset: Int) -> Int:
        """Return the candidate's sums over the state, reset."""
        if self.resets_sum:
            return rounded(reset * self.part(state, self.candidate_weights, self.candidate_requantize), SIGMOID_BITS)
        rows = self.as_state(reset * memory, SIGMOID_BITS + self.memory_fraction)
        return self.part(rows, self.candidate_weights, self.candidate_requantize)

    def weighted_sums(self) -> tuple[tuple[Weights, Requantization, str], ...]:
        """Over x, over the state for the gates, and over the state for the candidate."""
        return (
            (self.input_weights, self.input_requantize, "input"),
            (self.state_weights, self.state_requantize, "state"),
            (self.candidate_weights, self.candidate_requantize, "candidate"),
        )
