"""What training needs beside an optimiser: AdderNet's local learning rate, EuclidNets' homotopy, speed."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mcucompile.errors import UnsupportedError
from mcucompile.frontends.names import first_line
from mcucompile.similarities.euclid.torch_face import EuclidSimilarity
from mcucompile.similarities.torch_face import TorchSimilarity, fused


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


def compile_training(model: nn.Module) -> None:
    """Let layers of similarity "adder" and "minconv" train by sums that torch.compile makes, in place.

    Several times faster than the tiles they use otherwise; the sums are the same up to rounding in float. The first
    steps take half a minute.

    Raises:
        UnsupportedError: torch.compile does not work here.
    """
    try:
        fused(torch.neg)(torch.ones(8))
    except RuntimeError as error:
        raise UnsupportedError(
            "torch.compile", f"fails: {first_line(error)}", "install a C++ compiler, or train without compilation"
        ) from error
    for module in model.modules():
        if isinstance(module, TorchSimilarity):
            module.compiled = True
