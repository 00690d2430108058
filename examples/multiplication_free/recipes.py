"""How each similarity is trained: minutes on two cores, the papers' gradients, one cosine.

The float path of training multiplies; what it makes does not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from mcucompile.nn import (
    convert,
    homotopy_at,
    rescale_gradients,
    set_batch_norm_gamma,
    set_homotopy,
    similarity_weights,
)
from networks import default_activation, lenet5
from torch import Tensor, nn

Bytes = npt.NDArray[np.uint8]
# Called after each epoch with its number from 1, the number of epochs and the mean training loss.
Progress = Callable[[int, int, float], None]
# Images that say how large the inputs of each layer are (matched_init).
MATCHED_IMAGES = 512


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


def images_tensor(images: Bytes) -> Tensor:
    """Return images (n, 28, 28) as the network takes them: float bytes (n, 1, 28, 28)."""
    return torch.from_numpy(images)[:, None].float()


def initial_network(recipe: Recipe, images: Tensor, dot: nn.Sequential | None) -> nn.Sequential:
    """Return the network that a recipe's training starts from.

    Args:
        recipe: of the network.
        images: training images (n, 1, 28, 28), bytes.
        dot: the trained network of dot products, for recipes that start from one.
    """
    torch.manual_seed(recipe.seed)
    if not recipe.from_dot:
        model = lenet5(recipe.similarity, recipe.gradient)
        set_batch_norm_gamma(model, recipe.gamma)
        return model
    assert dot is not None, f"the recipe of {recipe.similarity} starts from a trained dot network"
    batch = images[:MATCHED_IMAGES] if recipe.matched else None
    model = convert(dot, recipe.similarity, gradient=recipe.gradient, batch=batch)
    activate = default_activation(recipe.similarity)
    for name, _module in model.named_children():
        if name.startswith("act"):
            setattr(model, name, activate())
    return model.train()


def fit(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, progress: Progress | None = None) -> None:
    """Train a network in place on images (n, 1, 28, 28) and labels (n,); leaves it in evaluation mode."""
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
            loss = nn.functional.cross_entropy(model(images[index]), labels[index])
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
    """Return the share (0..1) of images (n, 1, 28, 28) whose largest logit is their label's."""
    with torch.no_grad():
        guesses = torch.cat([model(batch).argmax(1) for batch in torch.split(images, 1000)])
    return int((guesses == labels).sum()) / len(labels)
