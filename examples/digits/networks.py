"""The digit networks and how they are trained: plain Adam with one cosine, on two cores in seconds."""

import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from mcucompile.nn import FourView, Standardize, fold_standardize
from mnist import Bytes
from torch import Tensor, nn

CLASSES = 10
PIXELS = 28 * 28
# Called after each epoch with its number from 1, the number of epochs and the mean training loss.
Progress = Callable[[int, int, float], None]
# Makes another batch (n, ...) from a batch, at random.
Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train: Adam, learning rate warmed up over a tenth of the steps, then a cosine to zero."""

    epochs: int
    learning_rate: float
    batch: int
    weight_decay: float
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Network:
    """A network of one example: its features, its layer sizes from input to output, its recipe."""

    name: str
    four_view: bool
    sizes: tuple[int, ...]
    recipe: Recipe


# Epochs, rates, weight decay and seeds were chosen on the last 5,000 training images, never on the test
# images. The little weight decay costs nothing in float and halves what 4-bit weights lose.
NETWORKS = (
    Network("dense_784_16_10", False, (PIXELS, 16, CLASSES), Recipe(30, 5e-3, 256, 1e-3)),
    Network("four_view_64_16_10", True, (64, 16, CLASSES), Recipe(100, 2e-2, 512, 1e-4, seed=3)),
    Network("dense_784_100_100_10", False, (PIXELS, 100, 100, CLASSES), Recipe(20, 2e-3, 128, 1e-5)),
)


def dense_layers(sizes: tuple[int, ...]) -> OrderedDict[str, nn.Module]:
    """Return fully connected layers fc1, relu1, fc2, ... of the given sizes, with torch's initial weights."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes), start=1):
        layers[f"fc{i}"] = nn.Linear(inputs, outputs)
        if i < len(sizes) - 1:
            layers[f"relu{i}"] = nn.ReLU()
    return layers


def fit(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    recipe: Recipe,
    progress: Progress | None = None,
    augment: Augment = lambda batch, _generator: batch,
) -> None:
    """Train a model in place on inputs (n, ...) and labels (n,).

    The order of the samples, and what `augment` does to a batch, follow the seed. Leaves the model in
    evaluation mode.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * -(-len(inputs) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=max(steps, 2), pct_start=0.1, cycle_momentum=False
    )
    model.train()
    for epoch in range(1, recipe.epochs + 1):
        total = 0.0
        order = torch.randperm(len(inputs), generator=generator)
        for index in torch.split(order, recipe.batch):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(augment(inputs[index], generator)), labels[index])
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(index)
        if progress is not None:
            progress(epoch, recipe.epochs, total / len(inputs))
    model.eval()


def train_network(
    network: Network, images: Bytes, labels: Bytes, recipe: Recipe, progress: Progress | None = None
) -> nn.Sequential:
    """Train a network on images (n, 28, 28) and return it ready for raw bytes (n, 28, 28) -> logits (n, 10).

    Inputs are standardised while training, each feature for itself with four-view features, all pixels
    alike without; the returned module has that folded into its first dense layer.
    """
    torch.manual_seed(recipe.seed)
    head: nn.Module = FourView() if network.four_view else nn.Flatten()
    features = head(torch.from_numpy(images)).float()
    standardize = Standardize.fitted(features, per_feature=network.four_view)
    layers = dense_layers(network.sizes)
    body = nn.Sequential(layers)
    fit(body, standardize(features), torch.from_numpy(labels.astype(np.int64)), recipe, progress)
    first = layers["fc1"]
    assert isinstance(first, nn.Linear)
    layers["fc1"] = fold_standardize(standardize, first)
    name = "four_view" if network.four_view else "flatten"
    return nn.Sequential(OrderedDict([(name, head), *layers.items()])).eval()


def accuracy(model: nn.Module, images: Bytes, labels: Bytes) -> float:
    """Return the share (0..1) of images (n, 28, 28) whose largest logit is their label's."""
    with torch.no_grad():
        batches = torch.split(torch.from_numpy(images), 1000)
        guesses = torch.cat([model(batch.float()).argmax(1) for batch in batches])
    return float((guesses.numpy() == labels).mean())
