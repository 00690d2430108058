"""Recurrent layers as both front-ends' operators mean them: (steps, batch, n_in), one or two directions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends.builder import Activation, Builder, Constant
from mcucompile.frontends.movement import concat, take
from mcucompile.frontends.refusals import RefusalError
from mcucompile.ops import Gru, Lstm, Recurrent


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """The parameters of one direction, gates in the order of the operator.

    Attributes:
        weight: (gates * hidden, n_in).
        recurrent: (gates * hidden, hidden).
        biases: (gates * hidden,) beside each of the two.
        initial: (batch, hidden), None for zeros.
        initial_cell: the same of an LSTM's cell.
        reverse: from the last step to the first.
    """

    weight: Constant
    recurrent: Constant
    biases: tuple[Constant, Constant]
    initial: Constant | None
    initial_cell: Constant | None
    reverse: bool


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """What a layer gives.

    Attributes:
        sequences: (steps, batch, hidden) of each direction.
        hidden: (directions, batch, hidden) after the last step made.
        cell: the same of an LSTM's cell, None for a GRU.
    """

    sequences: tuple[Activation, ...]
    hidden: Activation
    cell: Activation | None


def lstm(builder: Builder, x: Activation, directions: Sequence[Direction], *, part: str = "") -> States:
    """Append an LSTM; part: suffix of the operators' names. The cell, if it is read, is computed a second time."""
    sequences, cells = [], []
    for direction in directions:
        fields = _fields(builder, x, direction, Lstm)
        cell = _initial(builder, x, direction.initial_cell, fields["recurrent"].shape[1])
        fields["initial_cell"] = builder.single(cell, "initial cell")
        name = _part(part, direction)
        sequences.append(builder.emit(Lstm, (x,), part=name, **fields))
        cells.append(builder.emit(Lstm, (x,), part=f"{name}_cell", gives_cell=True, **fields))
    return States(tuple(sequences), _last(builder, sequences, directions), _last(builder, cells, directions))


def gru(
    builder: Builder, x: Activation, directions: Sequence[Direction], *, resets_sum: bool, part: str = ""
) -> States:
    """Append a GRU; resets_sum: as of Gru."""
    sequences = []
    for direction in directions:
        fields = _fields(builder, x, direction, Gru)
        sequences.append(builder.emit(Gru, (x,), part=_part(part, direction), resets_sum=resets_sum, **fields))
    return States(tuple(sequences), _last(builder, sequences, directions), None)


def in_blocks(values: Constant, order: Sequence[int]) -> Constant:
    """Return the gates of a parameter, (gates * hidden, ...), in another order."""
    blocks = values.reshape(len(order), -1, *values.shape[1:])
    return np.ascontiguousarray(blocks[list(order)]).reshape(values.shape)


def _fields(builder: Builder, x: Activation, direction: Direction, operator: type[Recurrent]) -> dict[str, Any]:
    builder.require_real(x)
    weight, recurrent = direction.weight, direction.recurrent
    count = operator.gates * recurrent.shape[-1]
    fits = recurrent.ndim == 2 and len(recurrent) == count and recurrent.shape[1] > 0
    if len(x.shape) != 3 or not fits or weight.shape != (count, x.shape[2]):
        raise ModelError(
            builder.source,
            f"has weights of shape {weight.shape} and {recurrent.shape} for an input of shape {x.shape}",
            "export the model again",
        )
    if any(bias.shape != (count,) for bias in direction.biases):
        raise ModelError(
            builder.source, f"has {direction.biases[0].size} biases for {count} sums", "export the model again"
        )
    return {
        "weight": builder.single(weight, "weight"),
        "recurrent": builder.single(recurrent, "recurrence weight"),
        "bias": builder.single(direction.biases[0], "bias"),
        "recurrent_bias": builder.single(direction.biases[1], "bias"),
        "initial": builder.single(_initial(builder, x, direction.initial, recurrent.shape[1]), "initial state"),
        "reverse": direction.reverse,
    }


def _initial(builder: Builder, x: Activation, given: Constant | None, hidden: int) -> Constant:
    shape = (x.shape[1], hidden)
    if given is None:
        return np.zeros(shape)
    if given.shape != shape:
        raise ModelError(
            builder.source, f"has an initial state of shape {given.shape}, needs {shape}", "export the model again"
        )
    return given


def _part(part: str, direction: Direction) -> str:
    return f"{part}_reverse" if direction.reverse else part


def _last(builder: Builder, sequences: Sequence[Activation], directions: Sequence[Direction]) -> Activation:
    """Return (directions, batch, hidden) of what each direction gave last."""
    ends = []
    for sequence, direction in zip(sequences, directions, strict=True):
        ends.append(take(builder, sequence, {0: (0 if direction.reverse else sequence.shape[0] - 1,)}))
    return concat(builder, ends, 0)


def refuse_activation(functions: Sequence[str], usual: Sequence[str]) -> None:
    """Refuse gates of other functions than the usual ones, whatever their case."""
    if [name.lower() for name in functions] != [name.lower() for name in usual]:
        raise RefusalError(f"has the gates {', '.join(functions)}", f"use {', '.join(usual)}")
