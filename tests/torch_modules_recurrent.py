"""Torch modules that go through sequences, each with the shape of its input."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Sequences(nn.Module):
    """A recurrent layer and what is read of its outputs."""

    def __init__(self, layer: nn.RNNBase, read: Callable[[Tensor, Tensor], Tensor], *, cell: bool = False) -> None:
        super().__init__()
        self.layer = layer
        self.read = read
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        """Return what is read of the sequence and of the last state."""
        y, states = self.layer(x)
        if isinstance(states, tuple):
            return self.read(y, states[int(self.cell)])
        return self.read(y, states)


class Started(nn.Module):
    """A recurrent layer with a constant state before the first step."""

    def __init__(self, layer: nn.RNNBase, *shape: int) -> None:
        super().__init__()
        self.layer = layer
        self.start = nn.Parameter(torch.randn(shape))
        self.cell = nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return the sequence."""
        is_lstm = isinstance(self.layer, nn.LSTM)
        y: Tensor = self.layer(x, (self.start, self.cell) if is_lstm else self.start)[0]
        return y


RECURRENT_MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lstm": (lambda: Sequences(nn.LSTM(3, 4), lambda y, _: y), (6, 1, 3)),
    "lstm_batch_first": (lambda: Sequences(nn.LSTM(3, 4, batch_first=True), lambda y, _: y[:, -1]), (1, 6, 3)),
    "lstm_layers": (lambda: Sequences(nn.LSTM(3, 4, num_layers=2, dropout=0.5), lambda y, _: y), (5, 2, 3)),
    "lstm_both": (
        lambda: Sequences(nn.LSTM(3, 4, num_layers=2, bidirectional=True), lambda _, h: h[-1]),
        (5, 2, 3),
    ),
    "lstm_cell": (lambda: Sequences(nn.LSTM(3, 4, bias=False), lambda _, c: c, cell=True), (5, 1, 3)),
    "lstm_started": (lambda: Started(nn.LSTM(3, 4), 1, 2, 4), (5, 2, 3)),
    "gru": (lambda: Sequences(nn.GRU(3, 4), lambda y, _: y), (6, 1, 3)),
    "gru_batch_first": (lambda: Sequences(nn.GRU(3, 4, batch_first=True), lambda y, _: y[:, -1]), (2, 6, 3)),
    "gru_layers": (
        lambda: Sequences(nn.GRU(3, 4, num_layers=2, bidirectional=True, batch_first=True), lambda y, _: y),
        (1, 5, 3),
    ),
    "gru_last": (lambda: Sequences(nn.GRU(3, 4, bias=False), lambda _, h: h[0]), (5, 1, 3)),
    "gru_started": (lambda: Started(nn.GRU(3, 4), 1, 1, 4), (5, 1, 3)),
}
