"""Torch modules that pool and reduce, each with the shape of its input."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Function(nn.Module):
    """A module that is a function of its input."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Call the function."""
        return self.function(x)


_IMAGE = (1, 3, 8, 7)
WINDOW_MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "max_pool": (lambda: nn.MaxPool2d(2), _IMAGE),
    "max_pool_padded": (lambda: nn.MaxPool2d((3, 2), stride=(2, 1), padding=(1, 1)), _IMAGE),
    "max_pool_ceil": (lambda: nn.MaxPool2d(3, stride=2, ceil_mode=True), _IMAGE),
    "max_pool_dilated": (lambda: nn.MaxPool2d(2, stride=1, dilation=3), _IMAGE),
    "max_pool_1d": (lambda: nn.MaxPool1d(3, stride=2, padding=1), (1, 3, 9)),
    "average_pool": (lambda: nn.AvgPool2d(2), _IMAGE),
    "average_pool_padded": (lambda: nn.AvgPool2d(3, stride=2, padding=1), _IMAGE),
    "average_pool_exclusive": (lambda: nn.AvgPool2d(3, padding=1, count_include_pad=False), _IMAGE),
    "average_pool_1d": (lambda: nn.AvgPool1d(3), (1, 3, 9)),
    "adaptive_pool": (lambda: nn.AdaptiveAvgPool2d(1), _IMAGE),
    "adaptive_pool_1d": (lambda: nn.AdaptiveAvgPool1d(1), (1, 3, 9)),
    "adaptive_pool_parts": (lambda: nn.AdaptiveAvgPool2d((4, 2)), (1, 3, 8, 6)),
    "mean": (lambda: Function(lambda x: x.mean((2, 3))), _IMAGE),
    "mean_of_all": (lambda: Function(lambda x: x.mean()[None]), _IMAGE),
    "sum": (lambda: Function(lambda x: x.sum(1, keepdim=True)), (1, 3, 5)),
    "largest": (lambda: Function(lambda x: torch.amax(x, 2)), (1, 3, 5)),
    "argmin": (lambda: Function(lambda x: torch.argmin(x, 1)), (1, 3, 5)),
    "smallest": (lambda: Function(lambda x: torch.amin(x, (1, 2))), (1, 3, 5)),
}
# Their decomposed forms have operators of their own.
WINDOW_DECOMPOSED = ("max_pool", "adaptive_pool_parts", "adaptive_pool")
