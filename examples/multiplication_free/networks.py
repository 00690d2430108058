"""LeNet-5 with batch normalisation, every layer of one similarity."""

from collections import OrderedDict
from collections.abc import Callable

from mcucompile.nn import Conv2d, Linear, RectifiedAngle, Scale
from torch import nn

CLASSES = 10


def lenet5(
    similarity: str,
    gradient: str | None = None,
    activation: Callable[[], nn.Module] | None = None,
    scale: Scale | None = None,
) -> nn.Sequential:
    """Return LeNet-5-BN for images (n, 1, 28, 28) of bytes 0..255 -> logits (n, 10): 415,800 terms per image.

    Batch normalisation after every layer, the last one too: distances are far from 0, and differ between outputs.

    Args:
        similarity, gradient: of every layer.
        activation: makes what follows each batch normalisation but the last; None for the similarity's own.
        scale: of the bytes; None for the similarity's own.
    Source: LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998; batch normalisation as in
        AdderNet (arXiv:1912.13200), section 3.3.
    """
    activate = activation or default_activation(similarity)
    options = {"bias": False, "similarity": similarity, "gradient": gradient}
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["scale"] = scale or input_scale(similarity)
    layers["conv1"] = Conv2d(1, 6, 5, padding=2, **options)
    layers |= {"norm1": nn.BatchNorm2d(6), "act1": activate(), "pool1": nn.MaxPool2d(2)}
    layers["conv2"] = Conv2d(6, 16, 5, **options)
    layers |= {"norm2": nn.BatchNorm2d(16), "act2": activate(), "pool2": nn.MaxPool2d(2), "flatten": nn.Flatten()}
    layers |= {"fc1": Linear(400, 120, **options), "norm3": nn.BatchNorm1d(120), "act3": activate()}
    layers |= {"fc2": Linear(120, 84, **options), "norm4": nn.BatchNorm1d(84), "act4": activate()}
    layers |= {"fc3": Linear(84, CLASSES, **options), "norm5": nn.BatchNorm1d(CLASSES)}
    return nn.Sequential(layers)


def default_activation(similarity: str) -> Callable[[], nn.Module]:
    """Return what makes the activation: angles for trig, none for binary, which takes signs, else ReLU."""
    if similarity == "trig":
        return RectifiedAngle
    return nn.Identity if similarity == "binary" else nn.ReLU


def input_scale(similarity: str) -> Scale:
    """Return what brings bytes to the range of the first layer: 0..1; 0..4 for adder, whose weights are N(0, 1).

    Binary takes signs: from 128 on a pixel is ink.
    """
    if similarity == "binary":
        return Scale(2**-7, -1.0)
    return Scale(2**-6 if similarity == "adder" else 2**-8)
