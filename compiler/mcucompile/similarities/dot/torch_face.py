"""Torch face of the dot product: torch's own layers."""

from torch import Tensor

from mcucompile.similarities.torch_face import TorchSimilarity, Window


class DotSimilarity(TorchSimilarity):
    """S = x * w; the ordinary convolution."""

    name = "dot"

    def forward(self, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        """Return sum x * w."""
        return window.convolve(x, weight)
