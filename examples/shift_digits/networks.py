"""A small convolutional network whose weights are 0, 1 or 2 of either sign: its products are shifts, or nothing."""

import math
from collections import OrderedDict

import torch
from mcucompile.nn import Linear
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10
# How fast the running means of how often a weight's level changes, and of the level, move.
_MOMENTUM = 0.05


class LevelWeights(nn.Module):
    """Real weights that become unit * q in training, q in {0, 1, -1, 2, -2}.

    They begin real; as `share` goes to 1 they move towards their levels, the gradient passes straight through; then a
    weight that keeps changing its level is fixed to the one it has most often.

    Attributes:
        weight: trained; outputs first.
        spread: the unit is so many standard deviations of the weights, until they all have levels.
        share: 0..1, how much of a level, and how little of the real weight, takes part.
    Source of the last step: Nagel et al., "Overcoming Oscillations in Quantization-Aware Training", arXiv:2203.11086,
        section 4.
    """

    mean_level: Tensor
    last_level: Tensor
    changes: Tensor
    is_fixed: Tensor
    fixed: Tensor

    def __init__(self, shape: tuple[int, ...], spread: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape) / math.sqrt(math.prod(shape[1:])))
        self.spread, self.share = spread, 0.0
        self._unit: float | None = None
        for name in ("mean_level", "last_level", "changes", "fixed"):
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("is_fixed", torch.zeros(shape, dtype=torch.bool))

    @property
    def unit(self) -> float:
        """The real value of level 1."""
        return self.spread * float(self.weight.detach().std()) if self._unit is None else self._unit

    def levels(self) -> Tensor:
        """Return the nearest level of each weight."""
        ratio = self.weight.detach() / self.unit
        magnitude = ratio.abs()
        return ((magnitude > 0.5).float() + (magnitude > 1.5).float()) * ratio.sign()

    def effective(self) -> Tensor:
        """Return the weights that take part."""
        if not self.share:
            return self.weight
        real = self.weight.detach()
        return self.weight + self.share * (self.unit * self.levels() - real)

    def choose(self, share: float, limit: float) -> None:
        """Set the share; once it is 1, fix weights whose level changed in more than `limit` (0..1) of the calls."""
        self.share = share
        if share >= 1 and self._unit is None:
            self._unit = self.unit
        levels = self.levels()
        self.changes.lerp_((levels != self.last_level).float(), _MOMENTUM)
        self.mean_level.lerp_(levels, _MOMENTUM)
        self.last_level = levels
        if share >= 1:
            new = (self.changes > limit) & ~self.is_fixed
            self.fixed = torch.where(new, self.mean_level.round(), self.fixed)
            self.is_fixed = self.is_fixed | new
            self.keep_fixed()

    def keep_fixed(self) -> None:
        """Put fixed weights back where they were before a step."""
        self.weight.data = torch.where(self.is_fixed, self.fixed * self.unit, self.weight.data)


class LevelConv(LevelWeights):
    """A convolution without padding and bias: (n, inputs, h, w) -> (n, outputs, h', w')."""

    def __init__(self, inputs: int, outputs: int, size: int, spread: float, stride: int = 1) -> None:
        super().__init__((outputs, inputs, size, size), spread)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Return the sums."""
        return functional.conv2d(x, self.effective(), stride=self.stride)


class LevelLinear(LevelWeights):
    """A fully connected layer without bias: (n, inputs) -> (n, outputs)."""

    def __init__(self, inputs: int, outputs: int, spread: float) -> None:
        super().__init__((outputs, inputs), spread)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sums."""
        return functional.linear(x, self.effective())


class SharedNorm(nn.Module):
    """Batch normalisation that centres each output and scales all by one factor, so that one shift serves the layer.

    x: (n, outputs) or (n, outputs, h, w) -> the same shape.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("mean", torch.zeros(outputs))
        self.register_buffer("variance", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised values; in training by the batch's statistics, of which it keeps a running mean."""
        shape = (1, -1) + (1,) * (x.dim() - 2)
        bias = self.bias.view(shape)
        if not self.training:
            return (x - self.mean.view(shape)) * self.scale() + bias
        mean = x.mean([0, *range(2, x.dim())])
        centred = x - mean.view(shape)
        variance = centred.square().mean().reshape(1)
        with torch.no_grad():
            self.mean.lerp_(mean, 0.05)
            self.variance.lerp_(variance, 0.05)
        return centred * (self.gain * (variance + 1e-5).rsqrt()) + bias

    def scale(self) -> Tensor:
        """Return the factor of inference, (1,)."""
        return self.gain * (self.variance + 1e-5).rsqrt()


def network() -> nn.Sequential:
    """Return the network: halved images (n, 1, 14, 14) -> logits (n, 10); sides of 14, 6, 4 and 2 pixels."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=LevelConv(1, 16, 4, 0.6, stride=2),
        norm1=SharedNorm(16),
        act1=nn.ReLU(),
        conv2=LevelConv(16, 16, 3, 1.0),
        norm2=SharedNorm(16),
        act2=nn.ReLU(),
        conv3=LevelConv(16, 24, 3, 2.0),
        norm3=SharedNorm(24),
        act3=nn.ReLU(),
        flatten=nn.Flatten(),
        fc4=LevelLinear(96, CLASSES, 1.0),
        norm4=SharedNorm(CLASSES),
    )
    return nn.Sequential(layers)


def level_layers(model: nn.Module) -> list[LevelWeights]:
    """Return the layers with weights, in order."""
    return [module for module in model.modules() if isinstance(module, LevelWeights)]


def deployed(model: nn.Sequential, pixel_scale: float) -> nn.Sequential:
    """Return a trained network as the device runs it: halved images (n, 1, 14, 14) of bytes -> logits times a factor.

    ReLU lets positive factors pass, so each layer's factors go into the biases behind it: sum x q + bias is left.

    Args:
        model: as `network` makes it, trained.
        pixel_scale: what bytes were multiplied by in training.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    factor, unit = pixel_scale, 1.0
    layer: nn.Conv2d | Linear
    for name, module in model.named_children():
        if isinstance(module, LevelWeights):
            levels, unit = module.levels(), module.unit
            if isinstance(module, LevelConv):
                layer = nn.Conv2d(levels.shape[1], levels.shape[0], levels.shape[2], stride=module.stride)
            else:
                layer = Linear(levels.shape[1], levels.shape[0])
            layer.weight.data = levels
            layers[name] = layer
        elif isinstance(module, SharedNorm):
            scale = float(module.scale().detach())
            layer.bias = nn.Parameter((module.bias.detach() / scale - module.mean) / (unit * factor))
            factor *= scale * unit
        else:
            layers[name] = module
    return nn.Sequential(layers).eval()
