"""LeNet-5 with batch normalisation, every layer of one similarity, and a small ResNet, all but its ends of one."""

from collections import OrderedDict
from collections.abc import Callable

from mcucompile.nn import Conv2d, Linear, RectifiedAngle, Scale
from torch import Tensor, nn

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


class ResidualBlock(nn.Module):
    """act2(norm2(conv2(act1(norm1(conv1(x))))) + shortcut(x)), (n, inputs, h, w) -> (n, outputs, h', w').

    The shortcut is x itself, or a 1x1 layer of the same similarity where the shape changes.

    Args:
        inputs, outputs, stride: channels, and the stride of the first layer.
        similarity, gradient: of every layer.
    Source: He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385, Figure 2.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, similarity: str, gradient: str | None) -> None:
        super().__init__()
        activate = default_activation(similarity)
        options = {"bias": False, "similarity": similarity, "gradient": gradient}
        self.conv1 = Conv2d(inputs, outputs, 3, stride, 1, **options)
        self.norm1, self.act1 = nn.BatchNorm2d(outputs), activate()
        self.conv2 = Conv2d(outputs, outputs, 3, 1, 1, **options)
        self.norm2, self.act2 = nn.BatchNorm2d(outputs), activate()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            projection = Conv2d(inputs, outputs, 1, stride, **options)
            self.shortcut = nn.Sequential(OrderedDict(conv=projection, norm=nn.BatchNorm2d(outputs)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        y: Tensor = self.act1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y)) + self.shortcut(x)
        result: Tensor = self.act2(y)
        return result


def resnet8(similarity: str, gradient: str | None = None) -> nn.Sequential:
    """Return a ResNet for images (n, 3, 32, 32) of bytes 0..255 -> logits (n, 10): 1.78 million terms per image.

    ResNet-20 for CIFAR-10 made small: one block a stage instead of three, 12, 24 and 48 channels instead of 16, 32
    and 64, a first layer of stride 2. As in AdderNet the first and the last layer are ordinary ones.

    Args:
        similarity, gradient: of all layers but the first and the last.
    Source: He et al., arXiv:1512.03385, section 4.2; AdderNet (arXiv:1912.13200), section 4.2.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["scale"] = Scale(2**-7, -1.0)
    layers |= {"stem": Conv2d(3, 12, 3, 2, 1, bias=False), "norm": nn.BatchNorm2d(12)}
    layers["act"] = default_activation(similarity)()
    for place, (inputs, outputs, stride) in enumerate(((12, 12, 1), (12, 24, 2), (24, 48, 2)), start=1):
        layers[f"block{place}"] = ResidualBlock(inputs, outputs, stride, similarity, gradient)
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": Linear(48, CLASSES)}
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
