"""Layers of mcucompile.nn that compare instead of multiplying, for test_torch_frontend."""

import itertools
from collections.abc import Callable

from mcucompile.nn import TORCH_SIMILARITIES, Conv1d, Conv2d, Linear
from torch import nn


def _linear(similarity: str) -> nn.Module:
    return Linear(9, 4, similarity=similarity)


def _conv2d(similarity: str) -> nn.Module:
    return Conv2d(4, 6, (3, 2), (2, 1), (1, 0), groups=2, bias=similarity != "adder", similarity=similarity)


def _conv1d(similarity: str) -> nn.Module:
    return Conv1d(3, 4, 3, padding=2, dilation=2, similarity=similarity)


SIMILARITY_MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    f"{name}_{similarity}": (lambda make=make, similarity=similarity: make(similarity), shape)
    for (name, make, shape), similarity in itertools.product(
        (
            ("compared", _linear, (1, 9)),
            ("compared_images", _conv2d, (1, 4, 7, 6)),
            ("compared_series", _conv1d, (1, 3, 8)),
        ),
        TORCH_SIMILARITIES,
    )
}
