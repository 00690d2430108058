"""LSTM and GRU of torch: aten::lstm and aten::gru of whole sequences.

Source: pytorch.org/docs/stable/generated/torch.nn.LSTM.html and torch.nn.GRU.html.
"""

from collections.abc import Sequence

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends import recurrent
from mcucompile.frontends.builder import Activation, Builder, Constant, Value
from mcucompile.frontends.movement import concat
from mcucompile.frontends.recurrent import Direction, States
from mcucompile.frontends.refusals import RefusalError
from mcucompile.frontends.torch_call import Call


def _lstm(call: Call, builder: Builder) -> tuple[Value, ...]:
    hidden, cell = _constants(call, "hx")
    return _layers(call, builder, hidden, cell)


def _gru(call: Call, builder: Builder) -> tuple[Value, ...]:
    return _layers(call, builder, call.constant("hx"), None)


def _layers(call: Call, builder: Builder, hidden: Constant, cell: Constant | None) -> tuple[Value, ...]:
    """Append the layers one after another; return the output, and the last states of all layers."""
    if call.arguments["train"] and call.arguments["dropout"]:
        raise RefusalError("is in training mode", "call module.eval()")
    batch_first = bool(call.arguments["batch_first"])
    x = call.activation("input")
    if len(x.shape) != 3:
        raise ModelError(call.source, f"goes through an input of shape {x.shape}", "give it a batch of sequences")
    x = builder.transpose(x, (1, 0, 2), part="_steps_first") if batch_first else x
    parameters = _constants(call, "params")
    directions = 2 if call.arguments["bidirectional"] else 1
    (layers,) = call.integers("num_layers")
    each = 4 if call.arguments["has_biases"] else 2
    if layers < 1 or len(parameters) != layers * directions * each or len(hidden) != layers * directions:
        raise RefusalError("projects its state", "use a layer without proj_size")
    made: list[States] = []
    for layer in range(layers):
        rows = range(layer * directions, (layer + 1) * directions)
        given = [
            _direction(parameters[row * each : (row + 1) * each], hidden[row], None if cell is None else cell[row], i)
            for i, row in enumerate(rows)
        ]
        part = f"_layer_{layer}" if layers > 1 else ""
        if cell is None:
            made.append(recurrent.gru(builder, x, given, resets_sum=True, part=part))
        else:
            made.append(recurrent.lstm(builder, x, given, part=part))
        x = concat(builder, made[-1].sequences, 2)
    y = builder.transpose(x, (1, 0, 2), part="_batch_first") if batch_first else x
    ends = [concat(builder, [states.hidden for states in made], 0)]
    cells = [states.cell for states in made if states.cell is not None]
    return (y, *ends, *([concat(builder, cells, 0)] if cells else []))


def _direction(parameters: Sequence[Constant], hidden: Constant, cell: Constant | None, index: int) -> Direction:
    """Return the parameters of a layer's direction; torch's gates are in the operators' own order."""
    weight, over_state, *biases = parameters
    if cell is None:
        # A GRU's gates: torch has reset before update.
        weight, over_state, *biases = (recurrent.in_blocks(values, (1, 0, 2)) for values in parameters)
    if not biases:
        biases = [np.zeros(len(weight)), np.zeros(len(weight))]
    return Direction(weight, over_state, (biases[0], biases[1]), hidden, cell, reverse=index == 1)


def _constants(call: Call, name: str) -> list[Constant]:
    """Return a list of constant tensors."""
    values = call.arguments[name]
    if any(isinstance(value, Activation) for value in values):
        raise RefusalError(f"its '{name}' is computed while the model runs", "make it a parameter or a buffer")
    return [np.asarray(value) for value in values]


CONVERTERS = {"aten::gru": _gru, "aten::lstm": _lstm}
