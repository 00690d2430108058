"""Torch face of the Euclidean similarity S = -(x - w)^2 / 2, with the homotopy that leads to it from the dot product.

Source: Li, Parazin, Razani et al., "EuclidNets: An Alternative Operation for Efficient Inference of Deep Learning
Models", arXiv:2212.11803.
"""

from torch import Tensor

from mcucompile.similarities.torch_face import TorchSimilarity, Window


class EuclidSimilarity(TorchSimilarity):
    """S = x w - homotopy (x^2 + w^2) / 2, equations 13 and 14: an ordinary convolution and two sums of squares.

    Attributes:
        homotopy: 0 for the dot product to 1 for -(x - w)^2 / 2. Training moves it (`homotopy_at`); a network
            is a EuclidNet only at 1.
    The gradient is exact.
    """

    name = "euclid"

    def __init__(self, gradient: str | None = None) -> None:
        super().__init__(gradient)
        self.homotopy = 1.0

    def forward(self, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        """Return sum x w - homotopy (x^2 + w^2) / 2."""
        dot = window.convolve(x, weight)
        ones = weight.new_ones(window.groups, *weight.shape[1:])
        inputs = window.repeated(window.convolve(x.square(), ones), len(weight))
        weights = weight.square().flatten(1).sum(1).reshape(-1, *[1] * len(window.stride))
        return dot - self.homotopy / 2 * (inputs + weights)
