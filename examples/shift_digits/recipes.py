"""How the network of few levels is trained: on variants of each digit, with weights that slowly become their levels.

Training multiplies, in float; the network that it makes only shifts, adds and subtracts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from augmentation import LIGHT, halved, varied
from networks import level_layers, network
from torch import Tensor, nn
from torch.nn import functional

Bytes = npt.NDArray[np.uint8]
# Called after each epoch with its number from 1, the number of epochs and the mean training loss.
Progress = Callable[[int, int, float], None]
# What bytes are multiplied by.
PIXEL_SCALE = 1 / 256
# Steps between choices of levels.
_CHOICE_STEPS = 10
# How often a weight may change its level: at first, and at the end.
_LIMITS = (0.3, 0.01)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train: AdamW, one cycle. Chosen on the last 5,000 training images, never on the test images.

    Attributes:
        epochs: each sees one variant of each image.
        variants: of each image; later epochs see them again.
        batch, rate: the largest learning rate.
        real: the share of the steps in which weights are real.
        levelled: after this share all weights have levels, and those that keep changing become fixed.
        seed: of the variants, the initial weights and the order.
    """

    epochs: int = 160
    variants: int = 32
    batch: int = 256
    rate: float = 8e-3
    real: float = 0.3
    levelled: float = 0.55
    seed: int = 1


def variants_of(images: Bytes, recipe: Recipe) -> Tensor:
    """Return variants of images (n, 28, 28) as the network sees them: (variants, n, 1, 14, 14) bytes."""
    generator = torch.Generator().manual_seed(recipe.seed)
    batches = torch.from_numpy(images).split(1000)
    return torch.stack(
        [torch.cat([halved(varied(batch, LIGHT, generator)) for batch in batches]) for _ in range(recipe.variants)]
    )


def scaled(images: Tensor) -> Tensor:
    """Return bytes as the network takes them in training."""
    return images.float() * PIXEL_SCALE


def fit(images: Bytes, labels: Tensor, recipe: Recipe, progress: Progress) -> nn.Sequential:
    """Return the network, trained on images (n, 28, 28) with labels (n,); in evaluation mode."""
    variants = variants_of(images, recipe)
    torch.manual_seed(recipe.seed)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=0.0, fused=True)
    steps = recipe.epochs * -(-len(labels) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=max(steps, 2), pct_start=0.1)
    step = 0
    for epoch in range(recipe.epochs):
        of_epoch, total = variants[epoch % len(variants)], 0.0
        for index in torch.randperm(len(labels)).split(recipe.batch):
            if step % _CHOICE_STEPS == 0:
                choose(model, recipe, step / steps)
            loss = functional.cross_entropy(model(scaled(of_epoch[index])), labels[index])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            for layer in level_layers(model):
                layer.keep_fixed()
            total += float(loss.detach()) * len(index)
            step += 1
        progress(epoch + 1, recipe.epochs, total / len(labels))
    choose(model, recipe, 1.0)
    return model.eval()


def choose(model: nn.Module, recipe: Recipe, done: float) -> None:
    """Choose levels after a share (0..1) of the steps."""
    share = min(1.0, max(0.0, (done - recipe.real) / (recipe.levelled - recipe.real)))
    turned = (1 + math.cos(math.pi * (done - recipe.levelled) / (1 - recipe.levelled))) / 2
    for layer in level_layers(model):
        layer.choose(share, _LIMITS[1] + (_LIMITS[0] - _LIMITS[1]) * turned)


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share (0..1) of halved images (n, 1, 14, 14) whose largest logit is their label's."""
    with torch.no_grad():
        guesses = torch.cat([model(scaled(batch)).argmax(1) for batch in images.split(1000)])
    return int((guesses == labels).sum()) / len(labels)
