"""Torch face of the multiplication-free operator S = sign(x) sign(w) (|x| + |w|), sign(0) = 0.

Source: Akbas et al., "Multiplication-free neural networks", SIU 2015; EuclidNets (arXiv:2212.11803), equation 5.
"""

from torch import Tensor

from mcucompile.similarities.torch_face import TorchSimilarity, Window


class MfoSimilarity(TorchSimilarity):
    """S = sign(x) sign(w) (|x| + |w|) = x sign(w) + sign(x) w: two ordinary convolutions.

    The gradient is exact away from the jumps at 0: dX = G sign(w), dW = G sign(x).
    """

    name = "mfo"

    def forward(self, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        """Return sum sign(x) sign(w) (|x| + |w|)."""
        return window.convolve(x, weight.sign()) + window.convolve(x.sign(), weight)
