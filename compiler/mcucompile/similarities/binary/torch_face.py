"""Torch face of the binary similarity S = sgn(x) sgn(w) with sgn(0) = +1, trained straight through.

Source: Hubara et al., "Binarized Neural Networks", NIPS 2016, section 1.
"""

from typing import Any

import torch
from torch import Tensor

from mcucompile.similarities.torch_face import TorchSimilarity, Window


class BinarySimilarity(TorchSimilarity):
    """S = sgn(x) sgn(w) with sgn(0) = +1; a padded 0 counts as +1.

    Gradient: straight through both signs, cancelled for inputs outside [-1, 1] (BNN, equation 4). Real weights
    are not clipped: their sign is all that inference sees.
    """

    name = "binary"
    gradients = ("straight_through",)

    def forward(self, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        """Return sum sgn(x) sgn(w)."""
        x, window = window.padded(x)
        return window.convolve(_Sign.apply(x, 1.0), _Sign.apply(weight, torch.inf))  # type: ignore[no-untyped-call]

    def deployed(self, weight: Tensor) -> Tensor:
        """Return sgn(w)."""
        return _signs(weight)


class _Sign(torch.autograd.Function):
    """y = sgn(x), sgn(0) = +1; backward, the gradient where |x| <= limit, else 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limit = limit
        return _signs(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * (x.abs() <= ctx.limit), None


def _signs(x: Tensor) -> Tensor:
    return torch.where(x < 0, -1.0, 1.0).to(x.dtype)
