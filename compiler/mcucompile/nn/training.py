"""What training needs beside an optimiser: AdderNet's local learning rate, EuclidNets' homotopy."""

import math
from collections.abc import Iterable

from torch import Tensor, nn

from mcucompile.similarities.euclid.torch_face import EuclidSimilarity


def similarity_weights(model: nn.Module) -> list[Tensor]:
    """Return the weights of all layers of a network; they want a learning rate of their own."""
    return [module.weight for module in model.modules() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)]


def rescale_gradients(weights: Iterable[Tensor], eta: float) -> None:
    """Give each gradient the norm eta sqrt(k), k its number of elements; call it between backward and step.

    Then every layer's weights move by the same root mean square step: the adaptive local learning rate. A gradient
    of zeros stays.

    Source: AdderNet (arXiv:1912.13200), equations 12 and 13.
    """
    for weight in weights:
        if weight.grad is not None:
            norm = float(weight.grad.norm())
            if norm:
                weight.grad.mul_(eta * math.sqrt(weight.numel()) / norm)


def homotopy_at(step: int, steps: int, start: float = 0.0, reached_after: float = 0.5) -> float:
    """Return lambda for a step: from `start` in a straight line to 1 at the share `reached_after`, 1 from then on.

    Source: EuclidNets (arXiv:2212.11803), equation 14; holding 1 for the second half is this project's.
    """
    progress = step / (steps * reached_after) if steps * reached_after > 0 else 1.0
    return start + (1 - start) * min(progress, 1.0)


def set_homotopy(model: nn.Module, homotopy: float) -> None:
    """Set lambda in every layer of similarity "euclid": 0 is the dot product, 1 is -(x - w)^2 / 2."""
    for module in model.modules():
        if isinstance(module, EuclidSimilarity):
            module.homotopy = homotopy
