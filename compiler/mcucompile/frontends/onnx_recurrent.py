"""LSTM and GRU of ONNX, all opsets.

Source: onnx.ai/onnx/operators/onnx__LSTM.html and onnx__GRU.html.
"""

from collections.abc import Sequence

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends import recurrent
from mcucompile.frontends.builder import Activation, Builder, Constant, Value
from mcucompile.frontends.movement import concat
from mcucompile.frontends.onnx_node import Node
from mcucompile.frontends.recurrent import Direction, States, in_blocks, refuse_activation
from mcucompile.frontends.refusals import RefusalError

# ONNX has an LSTM's gates in the order input, output, forget, cell candidate.
_LSTM_ORDER, _GRU_ORDER = (0, 2, 3, 1), (0, 1, 2)
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


def _lstm(node: Node, builder: Builder) -> tuple[Value, ...]:
    if node.integer("input_forget", 0):
        raise RefusalError("couples its input and forget gates (input_forget=1)", "train it with input_forget=0")
    peepholes = node.optional_constant(7)
    if peepholes is not None and peepholes.any():
        raise RefusalError("has peepholes", "train it without them")
    x, directions = _operands(node, builder, _LSTM_ORDER, ("Sigmoid", "Tanh", "Tanh"))
    return _outputs(node, builder, recurrent.lstm(builder, x, directions))


def _gru(node: Node, builder: Builder) -> tuple[Value, ...]:
    x, directions = _operands(node, builder, _GRU_ORDER, ("Sigmoid", "Tanh"))
    resets_sum = bool(node.integer("linear_before_reset", 0))
    return _outputs(node, builder, recurrent.gru(builder, x, directions, resets_sum=resets_sum))


def _operands(
    node: Node, builder: Builder, order: Sequence[int], functions: Sequence[str]
) -> tuple[Activation, list[Direction]]:
    """Return the sequence, steps first, and the parameters of each direction."""
    x = node.activation()
    direction = node.text("direction", "forward")
    if direction not in _DIRECTIONS:
        raise RefusalError(f"has the direction '{direction}'", f"use {', '.join(_DIRECTIONS)}")
    reverses = _DIRECTIONS[direction]
    if "activations" in node.attributes:
        given = [name.decode(errors="replace") for name in node.attributes["activations"]]
        refuse_activation(given, [*functions] * len(reverses))
    if float(node.attributes.get("clip", 0.0)) > 0:
        raise RefusalError(f"clips its gates' arguments at {node.attributes['clip']}", "train it without clip")
    if len(x.shape) != 3:
        raise ModelError(node.source, f"goes through an input of shape {x.shape}", "export the model again")
    batch_first = bool(node.integer("layout", 0))
    x = builder.transpose(x, (1, 0, 2), part="_steps_first") if batch_first else x
    _check_lengths(node, x.shape[0])
    weight, over_state = _stacked(node, 1, len(reverses), 3), _stacked(node, 2, len(reverses), 3)
    count = over_state.shape[1]
    if count % len(order):
        raise ModelError(node.source, f"has recurrence weights of shape {over_state.shape}", "export the model again")
    if node.integer("hidden_size", over_state.shape[2]) != over_state.shape[2]:
        raise ModelError(
            node.source,
            f"has hidden_size={node.integer('hidden_size')}, recurrence weights {over_state.shape}",
            "export the model again",
        )
    has_bias = len(node.inputs) > 3 and node.inputs[3] is not None
    bias = _stacked(node, 3, len(reverses), 2) if has_bias else np.zeros((len(reverses), 2 * count))
    if bias.shape[1] != 2 * count or weight.shape[1] != count:
        raise ModelError(
            node.source, f"has weights {weight.shape} and {over_state.shape}, biases {bias.shape}", "export it again"
        )
    states = [_initial(node, index, len(reverses), batch_first=batch_first) for index in (5, 6)]
    directions = []
    for i, reverse in enumerate(reverses):
        halves = [in_blocks(half, order) for half in np.split(bias[i], 2)]
        hidden, cell = (None if state is None else state[i] for state in states)
        matrices = (in_blocks(weight[i], order), in_blocks(over_state[i], order))
        directions.append(Direction(*matrices, (halves[0], halves[1]), hidden, cell, reverse))
    return x, directions


def _stacked(node: Node, index: int, directions: int, rank: int) -> Constant:
    """Return a parameter that has one part for each direction."""
    values = node.constant(index)
    if values.ndim != rank or len(values) != directions or not values.size:
        raise ModelError(
            node.source, f"has an input {index} of shape {values.shape} for {directions} directions", "export it again"
        )
    return values


def _initial(node: Node, index: int, directions: int, *, batch_first: bool) -> Constant | None:
    """Return an initial state, (directions, batch, hidden), if there is one."""
    if node.optional_constant(index) is None:
        return None
    if not batch_first:
        return _stacked(node, index, directions, 3)
    values = node.constant(index)
    if values.ndim != 3 or values.shape[1] != directions:
        raise ModelError(node.source, f"has an initial state of shape {values.shape}", "export the model again")
    return values.swapaxes(0, 1)


def _check_lengths(node: Node, steps: int) -> None:
    lengths = node.optional_constant(4)
    if lengths is not None and (lengths != steps).any():
        raise RefusalError(
            f"has sequences of {sorted({int(n) for n in lengths.reshape(-1)})} steps in an input of {steps}",
            "give all sequences the length of the input",
        )


def _outputs(node: Node, builder: Builder, states: States) -> tuple[Value, ...]:
    """Return Y, Y_h and, of an LSTM, Y_c."""
    joined = concat(builder, states.sequences, 2)
    steps, batch, hidden = states.sequences[0].shape
    split = builder.reshape(joined, (steps, batch, len(states.sequences), hidden))
    ends = [state for state in (states.hidden, states.cell) if state is not None]
    if not node.integer("layout", 0):
        # Models join the directions again: that transposition cancels this one.
        return (builder.transpose(split, (0, 2, 1, 3), part="_directions_first"), *ends)
    return (
        builder.transpose(split, (1, 0, 2, 3), part="_batch_first"),
        *(builder.transpose(state, (1, 0, 2), part="_batch_first") for state in ends),
    )


CONVERTERS = {("", "GRU"): _gru, ("", "LSTM"): _lstm}
