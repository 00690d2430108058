"""Torch face of the ternary similarity S = x t(w), t(w) in {-1, 0, 1}, trained straight through.

Source: Li, Zhang, Liu, "Ternary Weight Networks", arXiv:1605.04711, equation 6.
"""

import torch
from torch import Tensor

from mcucompile.similarities.torch_face import TorchSimilarity, Window

# Equation 6: the threshold as a share of the filter's mean |w|.
THRESHOLD = 0.7


class TernarySimilarity(TorchSimilarity):
    """S = x t(w), t(w) = sign(w) where |w| > 0.7 mean|w| of the filter, else 0.

    The paper's scale of each filter is left to the batch normalisation that follows. Gradient: dX is exact,
    dW passes straight through t.
    """

    name = "ternary"
    gradients = ("straight_through",)

    def forward(self, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        """Return sum x t(w)."""
        return window.convolve(x, weight + (self.deployed(weight) - weight).detach())

    def deployed(self, weight: Tensor) -> Tensor:
        """Return t(w)."""
        limit = THRESHOLD * weight.abs().flatten(1).mean(1).reshape(-1, *[1] * (weight.ndim - 1))
        return torch.where(weight.abs() > limit, weight.sign(), 0.0)
