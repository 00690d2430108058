"""How each similarity is trained: minutes on two cores, the papers' gradients, one cosine.

The float path of training multiplies; what it makes does not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from mcucompile.nn import (
    compile_training,
    convert,
    homotopy_at,
    rescale_gradients,
    set_batch_norm_gamma,
    set_homotopy,
    similarity_weights,
)
from networks import default_activation, lenet5, resnet8
from torch import Tensor, nn

Bytes = npt.NDArray[np.uint8]
# Called after each epoch with its number from 1, the number of epochs and the mean training loss.
Progress = Callable[[int, int, float], None]
# Images that say how large the inputs of each layer are (matched_init).
MATCHED_IMAGES = 512
# Pixels that an image may be shifted by (augmented).
BORDER = 4


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train one network.

    Attributes:
        similarity, gradient: of every layer.
        epochs, batch, seed: passes over the images, images per step, of the initial weights and the order.
        learning_rate: of biases and batch normalisation; warmed up over a tenth of the steps, then a cosine to 0.
        weight_rate: learning rate of the layers' weights, on the same curve.
        optimizer: "adam", or "sgd" with Nesterov momentum 0.9.
        weight_decay: on the layers' weights.
        eta: AdderNet's adaptive local learning rate (equation 13); None for none.
        from_dot: start from the trained network of dot products.
        matched: bring its weights to the size of the inputs first.
        homotopy: move lambda from 0 to 1 over the first half of the steps, then hold it.
        gamma: initial weight of batch normalisation.
        augment: train on images shifted by up to 4 pixels, half of them mirrored.
        compiled: train by sums that torch.compile makes.
    """

    similarity: str
    epochs: int
    gradient: str | None = None
    learning_rate: float = 3e-3
    weight_rate: float = 3e-3
    optimizer: str = "adam"
    weight_decay: float = 0.0
    eta: float | None = None
    from_dot: bool = False
    matched: bool = True
    homotopy: bool = False
    gamma: float = 1.0
    augment: bool = False
    compiled: bool = False
    batch: int = 128
    seed: int = 1


# Chosen on the last 5,000 training images, never on the test images.
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.similarity: recipe
        for recipe in (
            Recipe("dot", epochs=8),
            Recipe("adder", epochs=8, optimizer="sgd", learning_rate=0.1, weight_rate=0.1, weight_decay=5e-4, eta=0.1),
            Recipe("euclid", epochs=8, weight_rate=3e-2, from_dot=True, homotopy=True),
            Recipe("minconv", epochs=5, weight_rate=3e-2, from_dot=True),
            Recipe("mfo", epochs=8, weight_rate=3e-2, from_dot=True),
            Recipe("trig", epochs=8, weight_rate=1e-2, gamma=0.3),
            Recipe("binary", epochs=8, weight_rate=1e-2),
            Recipe("ternary", epochs=8, from_dot=True, matched=False),
        )
    }
)
# One schedule for all; rates and starts are LeNet-5's. Few steps want a larger eta than AdderNet's many.
_CIFAR = {"epochs": 8, "augment": True}
RESNET_RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.similarity: recipe
        for recipe in (
            Recipe("dot", **_CIFAR),
            replace(RECIPES["adder"], **_CIFAR, eta=0.2, compiled=True),
            Recipe("euclid", **_CIFAR, weight_rate=3e-2, from_dot=True, homotopy=True),
            Recipe("minconv", **_CIFAR, weight_rate=3e-2, from_dot=True, compiled=True),
            Recipe("trig", **_CIFAR, weight_rate=1e-2, gamma=0.3),
        )
    }
)


@dataclass(frozen=True, slots=True)
class Network:
    """A network that takes a similarity, and what it is trained on.

    Attributes:
        name: of the model files.
        image: shape (channels, height, width) of an image.
        build: similarity, gradient -> the network.
        recipes: by similarity.
        keep: layers that stay ordinary ones.
    """

    name: str
    image: tuple[int, int, int]
    build: Callable[[str, str | None], nn.Sequential]
    recipes: Mapping[str, Recipe]
    keep: tuple[str, ...] = ()


NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        "lenet5": Network("lenet5", (1, 28, 28), lenet5, RECIPES),
        "resnet8": Network("resnet8", (3, 32, 32), resnet8, RESNET_RECIPES, keep=("stem", "fc")),
    }
)


def images_tensor(images: Bytes) -> Tensor:
    """Return images (n, h, w) or (n, h, w, c) as networks take them: float bytes (n, c, h, w)."""
    tensor = torch.from_numpy(images).float()
    return tensor[:, None] if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2).contiguous()


def initial_network(network: Network, recipe: Recipe, images: Tensor, dot: nn.Sequential | None) -> nn.Sequential:
    """Return the network that a recipe's training starts from.

    Args:
        network, recipe: what to train, and how.
        images: training images (n, c, h, w), bytes.
        dot: the trained network of dot products, for recipes that start from one.
    """
    torch.manual_seed(recipe.seed)
    if not recipe.from_dot:
        model = network.build(recipe.similarity, recipe.gradient)
        set_batch_norm_gamma(model, recipe.gamma)
        return model
    assert dot is not None, f"the recipe of {recipe.similarity} starts from a trained dot network"
    batch = images[:MATCHED_IMAGES] if recipe.matched else None
    model = convert(dot, recipe.similarity, gradient=recipe.gradient, batch=batch, keep=network.keep)
    activate = default_activation(recipe.similarity)
    for parent in list(model.modules()):
        for name, _module in parent.named_children():
            if name.startswith("act"):
                setattr(parent, name, activate())
    return model.train()


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images (n, c, h, w), each shifted by up to 4 pixels over a border of zeros and mirrored or not.

    Source: He et al., arXiv:1512.03385, section 4.2.
    """
    n, channels, height, width = images.shape
    down, right = torch.randint(0, 2 * BORDER + 1, (2, n, 1), generator=generator)
    mirrored = torch.randint(0, 2, (n, 1), generator=generator).bool()
    columns = torch.arange(width)
    rows = down + torch.arange(height)
    columns = right + torch.where(mirrored, columns.flip(0), columns)
    padded = nn.functional.pad(images, (BORDER,) * 4)
    of_image, of_channel = torch.arange(n)[:, None, None, None], torch.arange(channels)[:, None, None]
    return padded[of_image, of_channel, rows[:, None, :, None], columns[:, None, None, :]]


def fit(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, progress: Progress | None = None) -> None:
    """Train a network in place on images (n, c, h, w) and labels (n,); leaves it in evaluation mode."""
    generator = torch.Generator().manual_seed(recipe.seed)
    weights = similarity_weights(model)
    known = {id(weight) for weight in weights}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups = [
        {"params": others, "lr": recipe.learning_rate},
        {"params": weights, "lr": recipe.weight_rate, "weight_decay": recipe.weight_decay},
    ]
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)
    else:
        optimizer = torch.optim.Adam(groups, lr=recipe.learning_rate)
    if recipe.compiled:
        compile_training(model)
    steps = recipe.epochs * -(-len(images) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [recipe.learning_rate, recipe.weight_rate],
        total_steps=max(steps, 2),
        pct_start=0.1,
        cycle_momentum=False,
    )
    model.train()
    step = 0
    for epoch in range(1, recipe.epochs + 1):
        total = 0.0
        for index in torch.split(torch.randperm(len(images), generator=generator), recipe.batch):
            if recipe.homotopy:
                set_homotopy(model, homotopy_at(step, steps))
            optimizer.zero_grad()
            batch = augmented(images[index], generator) if recipe.augment else images[index]
            loss = nn.functional.cross_entropy(model(batch), labels[index])
            torch.autograd.backward(loss)
            if recipe.eta is not None:
                rescale_gradients(weights, recipe.eta)
            optimizer.step()
            schedule.step()
            step += 1
            total += float(loss.detach()) * len(index)
        if progress is not None:
            progress(epoch, recipe.epochs, total / len(images))
    set_homotopy(model, 1.0)
    model.eval()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share (0..1) of images (n, c, h, w) whose largest logit is their label's."""
    with torch.no_grad():
        guesses = torch.cat([model(batch).argmax(1) for batch in torch.split(images, 1000)])
    return int((guesses == labels).sum()) / len(labels)
