"""Graphs of recurrent layers for the tests of every operator."""

from collections.abc import Callable

import numpy as np
from mcucompile.ir import Graph, Source, Tensor, build_graph
from mcucompile.ops import Affine, Gru, Lstm, Recurrent

_SOURCE = Source("test", "node", "Test")
Random = np.random.Generator


def recurrent(
    random: Random, kind: type[Recurrent], x: str, y: str, shape: tuple[int, int, int], **fields: object
) -> Recurrent:
    """Return a layer as training leaves it. shape: batch, n_in, hidden."""
    batch, n_in, hidden = shape
    count = kind.gates * hidden
    initial = {"initial": fields.pop("initial", np.zeros((batch, hidden), np.float32))}
    if kind is Lstm:
        initial["initial_cell"] = fields.pop("initial_cell", np.zeros((batch, hidden), np.float32))
    return kind(
        name=y,
        inputs=(x,),
        output=y,
        source=_SOURCE,
        weight=random.normal(0, 1 / np.sqrt(n_in), (count, n_in)).astype(np.float32),
        recurrent=random.normal(0, 1 / np.sqrt(hidden), (count, hidden)).astype(np.float32),
        bias=random.normal(0, 0.3, count).astype(np.float32),
        recurrent_bias=random.normal(0, 0.3, count).astype(np.float32),
        **initial,  # type: ignore[arg-type]
        **fields,  # type: ignore[arg-type]
    )


def _graph(
    kind: type[Recurrent], steps: int, shape: tuple[int, int, int], *, scaled: bool = False, **fields: object
) -> Callable[[Random], Graph]:
    """Return a layer alone, or, scaled, one with another after it."""

    def make(random: Random) -> Graph:
        batch, n_in, hidden = shape
        given = dict(fields)
        for name in ("initial", "initial_cell"):
            if name in given:
                given[name] = random.normal(0, float(str(given[name])), (batch, hidden)).astype(np.float32)
        layer = recurrent(random, kind, "x", "r", shape, **given)
        scale = random.uniform(0.5, 2, 1).astype(np.float32)
        after = Affine(name="y", inputs=("r",), output="y", source=_SOURCE, scale=scale, offset=scale, axis=0)
        ops = (layer, after) if scaled else (layer,)
        return build_graph("net", (Tensor("x", (steps, batch, n_in)),), (ops[-1].output,), ops, _SOURCE)

    return make


def stacked(random: Random) -> Graph:
    """Return two layers, the second in the other direction, of which the last step is given."""
    first = recurrent(random, Lstm, "x", "a", (1, 3, 6))
    second = recurrent(random, Gru, "a", "y", (1, 6, 5), reverse=True, last=True, resets_sum=True)
    return build_graph("net", (Tensor("x", (7, 1, 3)),), ("y",), (first, second), _SOURCE)


RECURRENT_GRAPHS: dict[str, Callable[[Random], Graph]] = {
    "lstm": _graph(Lstm, 9, (1, 5, 8)),
    "lstm_scaled": _graph(Lstm, 5, (1, 4, 3), scaled=True, initial=0.5, initial_cell=2.0),
    "lstm_reverse_batch": _graph(Lstm, 4, (3, 2, 5), reverse=True, initial=0.5),
    "lstm_last_cell": _graph(Lstm, 6, (2, 3, 4), last=True, gives_cell=True, initial_cell=1.0),
    "lstm_cell_scaled": _graph(Lstm, 6, (1, 3, 4), gives_cell=True, scaled=True),
    "lstm_one_step": _graph(Lstm, 1, (1, 3, 1)),
    "gru": _graph(Gru, 9, (1, 5, 8)),
    "gru_resets_sum": _graph(Gru, 9, (1, 5, 8), resets_sum=True, scaled=True),
    "gru_reverse_batch": _graph(Gru, 4, (3, 2, 5), reverse=True, initial=3.0, resets_sum=True),
    "gru_last": _graph(Gru, 6, (2, 3, 4), last=True, scaled=True, initial=0.5),
    "recurrent_stacked": stacked,
}
