"""A fully connected network whose weights are mostly 0, the others 1 or 2 of either sign; and its teacher."""

import math
from collections import OrderedDict
from itertools import pairwise

import torch
from mcucompile.nn import Linear
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10
# Pixels of a pooled image, and neurons of the layers behind it.
SIZES = (196, 256, 64, CLASSES)
# The kernel takes indices four at a time.
GROUP = 4
# How fast the running means of how often a weight's level changes, and of the level, move.
_MOMENTUM = 0.05


class SparseLinear(nn.Module):
    """y[o] = unit * sum x q[o], q in {0, 1, -1}, or {0, 1, -1, 2, -2} with `twos`. No bias.

    x: (n, inputs) -> (n, outputs). Training begins with real weights of which ever more are 0; then each output gets
    its numbers of weights of each sign, multiples of four; then they move towards their levels as `share` goes to 1.
    Which weights have which level stays open, the gradient passes straight through, but a weight that keeps changing
    its level is fixed to the one it has most often.

    Attributes:
        weight: (outputs, inputs), trained.
        levels: (outputs, inputs) q; while weights are real, their signs.
        share: 0..1, how much of a level, and how little of the real weight, is summed.
    Sources: Zhu, Gupta, "To prune, or not to prune", arXiv:1710.01878; Nagel et al., "Overcoming Oscillations in
        Quantization-Aware Training", arXiv:2203.11086, section 4.
    """

    levels: Tensor
    mean_level: Tensor
    changes: Tensor
    fixed: Tensor
    is_fixed: Tensor

    def __init__(self, inputs: int, outputs: int, *, twos: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * 0.7 / math.sqrt(inputs))
        self.twos, self.share, self.unit = twos, 0.0, 1.0
        for name in ("levels", "mean_level", "changes", "fixed"):
            self.register_buffer(name, torch.zeros(outputs, inputs))
        self.register_buffer("is_fixed", torch.zeros(outputs, inputs, dtype=torch.bool))
        # Of each output: weights above 0, below 0, of level 2, of level -2.
        self.counts: list[Tensor] = []

    def prune(self, count: int) -> None:
        """Keep the `count` largest weights; others are 0 for now."""
        self.levels = torch.where(self._magnitudes() > self._smallest(count), self.weight.detach().sign(), 0.0)

    def divide(self, count: int) -> None:
        """Fix how many weights of each sign each output has, about `count` in all, and the size of level 1."""
        smallest, weight = self._smallest(count), self.weight.detach()
        self.counts = [_rounded((sign * weight > smallest).sum(1, keepdim=True)).clamp(min=GROUP) for sign in (1, -1)]
        kept = weight.abs()[weight.abs() > smallest]
        self.unit = float(kept.mean())
        for _ in range(20):
            # Lloyd's iteration: the levels that are nearest, then the unit that suits them best.
            near = torch.where(kept > 1.5 * self.unit, 2.0, 1.0) if self.twos else torch.ones_like(kept)
            self.unit = float((kept * near).sum() / near.square().sum())

    def level(self, share: float, limit: float | None) -> None:
        """Choose the levels.

        Args:
            share: see the class; until it is 1 the number of twos may change.
            limit: weights whose level changes more often than this share of the calls are fixed; None fixes none.
        """
        weight, self.share = self.weight.detach(), share
        if share < 1 or len(self.counts) == 2:
            self.counts[2:] = [self._twos(weight, sign, self.counts[sign < 0]) for sign in (1, -1)]
        above, below, twos, minus_twos = self.counts
        # A fixed weight stands before all others of its level.
        present = torch.where(self.is_fixed, 100 * self.fixed.sign(), weight)
        large = torch.where(
            self.is_fixed, torch.where(self.fixed.abs() == 2, 50.0, 0.01 * self.unit) * self.fixed, weight
        )
        levels = _first(present, above) - _first(-present, below)
        levels = (
            levels
            + _first(torch.where(levels > 0, large, -1e3), twos)
            - _first(torch.where(levels < 0, -large, -1e3), minus_twos)
        )
        self.changes.lerp_((levels != self.levels).float(), _MOMENTUM)
        self.mean_level.lerp_(levels, _MOMENTUM)
        self.levels = levels
        if limit is not None:
            new = (self.changes > limit) & ~self.is_fixed
            self.fixed = torch.where(new, self.mean_level.round(), self.fixed)
            self.is_fixed = self.is_fixed | new
            self.weight.data = torch.where(new, self.fixed * self.unit, weight)

    def release(self) -> None:
        """Let fixed weights change again."""
        self.is_fixed = torch.zeros_like(self.is_fixed)
        self.changes = torch.zeros_like(self.changes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sums."""
        real = self.weight * (self.levels != 0)
        effective = real + self.share * (self.unit * self.levels - real)
        return functional.linear(x, self.weight + (effective - self.weight).detach())

    def _magnitudes(self) -> Tensor:
        return self.weight.detach().abs()

    def _smallest(self, count: int) -> Tensor:
        """Return what the `count` largest magnitudes exceed."""
        return self._magnitudes().flatten().kthvalue(max(self.weight.numel() - count, 1)).values

    def _twos(self, weight: Tensor, sign: int, count: Tensor) -> Tensor:
        if not self.twos:
            return torch.zeros_like(count)
        return torch.minimum(_rounded((sign * weight > 1.5 * self.unit).sum(1, keepdim=True)), count - GROUP)


def _rounded(count: Tensor) -> Tensor:
    return (count + GROUP // 2) // GROUP * GROUP


def _first(values: Tensor, count: Tensor) -> Tensor:
    """Return 1 where a value is among the `count` largest of its row, else 0."""
    order = values.argsort(1, descending=True)
    places = torch.arange(values.shape[1]).expand_as(order)
    return (torch.empty_like(order).scatter_(1, order, places) < count).float()


class SharedNorm(nn.Module):
    """Batch normalisation that centres each output and scales all by one factor, so that one shift serves the layer.

    x: (n, outputs) -> the same shape.
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
        if not self.training:
            return (x - self.mean) * self.scale() + self.bias
        mean = x.mean(0)
        centred = x - mean
        variance = centred.square().mean().reshape(1)
        with torch.no_grad():
            self.mean.lerp_(mean, 0.05)
            self.variance.lerp_(variance, 0.05)
        return centred * (self.gain * (variance + 1e-5).rsqrt()) + self.bias

    def scale(self) -> Tensor:
        """Return the factor of inference, (1,)."""
        return self.gain * (self.variance + 1e-5).rsqrt()


def student(sizes: tuple[int, ...] = SIZES) -> nn.Sequential:
    """Return the network: pooled images (n, 196) -> logits (n, 10); the last layer has no weights of 2."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        is_last = number == len(sizes) - 1
        layers |= {f"fc{number}": SparseLinear(inputs, outputs, twos=not is_last), f"norm{number}": SharedNorm(outputs)}
        if not is_last:
            layers[f"act{number}"] = nn.ReLU()
    return nn.Sequential(layers)


def sparse_layers(model: nn.Module) -> list[SparseLinear]:
    """Return the layers with sparse weights, in order."""
    return [module for module in model.modules() if isinstance(module, SparseLinear)]


def deployed(model: nn.Sequential, pixel_scale: float) -> nn.Sequential:
    """Return a trained network as the device runs it: images (n, 1, 28, 28) of bytes -> logits times a factor.

    ReLU lets positive factors pass, so each layer's factors go into the biases behind it: sum x q + bias is left.

    Args:
        model: as `student` makes it, all levels chosen.
        pixel_scale: what bytes were multiplied by in training.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(pool=nn.AvgPool2d(2), flatten=nn.Flatten())
    factor = pixel_scale
    for name, module in model.named_children():
        if isinstance(module, SparseLinear):
            outputs, inputs = module.weight.shape
            layer = Linear(inputs, outputs, similarity="dot" if module.twos else "ternary")
            layer.weight.data = module.levels.clone()
            layers[name], unit = layer, module.unit
        elif isinstance(module, SharedNorm):
            scale = float(module.scale().detach())
            layer.bias.data = (module.bias.detach() / scale - module.mean) / (unit * factor)
            factor *= scale * unit
        else:
            layers[name] = module
    return nn.Sequential(layers).eval()


def teacher(channels: tuple[int, int] = (24, 48)) -> nn.Sequential:
    """Return a convolutional network for the same pooled images: (n, 196) -> logits (n, 10), 3.4 M products."""
    first, second = channels

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        nn.Unflatten(1, (1, 14, 14)),
        *block(1, first),
        *block(first, first),
        nn.MaxPool2d(2),
        *block(first, second),
        *block(second, second),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(second * 9, 128, bias=False),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(128, CLASSES),
    ).to(memory_format=torch.channels_last)
