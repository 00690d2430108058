"""Train the convolutional digit network on MNIST and write models/cnn.onnx.

    python examples/digits/train_cnn.py --data mnist.npz   an .npz or a folder of IDX files
    python examples/digits/train_cnn.py                    downloads MNIST through torchvision

First in real numbers, then a few epochs with 4-bit weights, rounded in the forward pass only (the
straight-through estimator: Bengio et al., arXiv:1308.3432). What is exported are the real weights behind
them: they round to 4 bits without loss, and to 8 bits all the more.
"""

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from mcucompile.errors import UserError
from mcucompile.nn import export_onnx
from mnist import Bytes, download_mnist, load_mnist
from networks import CLASSES, Progress, Recipe, accuracy, fit
from rich.progress import Progress as Bar
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval
from train import HELD_OUT_IMAGES, HERE, hold_out, show_epochs, stop, write_metrics

NAME = "cnn"
# A byte of ink is scaled by a power of two; zero padding stays paper.
SCALE = 1 / 256
# Chosen on the last 5,000 training images, never on the test images.
RECIPE = Recipe(epochs=40, learning_rate=5e-3, batch=128, weight_decay=0.0)
FINE_TUNING = Recipe(epochs=12, learning_rate=1.5e-3, batch=128, weight_decay=0.0, seed=2)
# Pixels of shift, share of size, degrees of rotation and of shear that a training image is moved by at most.
SHIFT, ZOOM, DEGREES = 1.5, 0.08, 8.0


def convolutions() -> nn.Sequential:
    """Return the network on images (n, 28, 28) in [0, 1): three convolutions, 79,776 multiplications."""
    layers: OrderedDict[str, nn.Module] = OrderedDict([("planes", nn.Unflatten(1, (1, 28)))])
    sizes = ((1, 8, 5, 2), (8, 16, 3, 2), (16, 16, 3, 1))
    for i, (inputs, outputs, kernel, stride) in enumerate(sizes, start=1):
        layers[f"conv{i}"] = nn.Conv2d(inputs, outputs, kernel, stride, bias=False)
        layers[f"norm{i}"] = nn.BatchNorm2d(outputs)
        layers[f"relu{i}"] = nn.ReLU()
    layers |= {"flatten": nn.Flatten(), "fc": nn.Linear(144, CLASSES)}
    return nn.Sequential(layers)


def moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images (n, 28, 28), each shifted, zoomed, rotated and sheared a little at random."""
    shift, zoom, angle, shear = (
        (torch.rand(len(images), 2, generator=generator) * 2 - 1) * limit
        for limit in (SHIFT * 2 / images.shape[-1], ZOOM, np.deg2rad(DEGREES), np.deg2rad(DEGREES))
    )
    cosine, sine = torch.cos(angle[:, 0]), torch.sin(angle[:, 0])
    rows = torch.stack([cosine, shear[:, 0] - sine, sine, cosine], dim=1).reshape(-1, 2, 2)
    matrix = torch.cat([rows * (1 + zoom[:, None, :]), shift[:, :, None]], dim=2)
    grid = nn.functional.affine_grid(matrix, [len(images), 1, *images.shape[1:]], align_corners=False)
    return nn.functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]


class RoundedWeights(nn.Module):
    """Weights (n_out, ...) as they are in 4 bits, one scale for each output; gradients pass as if they were real."""

    def forward(self, weight: Tensor) -> Tensor:
        """Return the nearest of the 15 multiples -7..7 of each output's largest weight / 7."""
        scale = weight.detach().abs().flatten(1).amax(1).clamp_min(1e-8) / 7
        scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
        return weight + ((weight / scale).round() * scale - weight).detach()


def train_cnn(
    images: Bytes,
    labels: Bytes,
    recipes: tuple[Recipe, Recipe] = (RECIPE, FINE_TUNING),
    progress: Progress | None = None,
) -> nn.Sequential:
    """Train on images (n, 28, 28) and return the network for raw bytes (n, 28, 28) -> logits (n, 10)."""
    torch.manual_seed(recipes[0].seed)
    model = convolutions()
    inputs, classes = torch.from_numpy(images).float() * SCALE, torch.from_numpy(labels.astype(np.int64))
    fit(model, inputs, classes, recipes[0], progress, moved)
    model = folded(model)
    weighted = [layer for layer in model if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in weighted:
        parametrize.register_parametrization(layer, "weight", RoundedWeights())
    fit(model, inputs, classes, recipes[1], progress, moved)
    for layer in weighted:
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    first = weighted[0]
    with torch.no_grad():
        first.weight.mul_(SCALE)
    return model


def folded(model: nn.Sequential) -> nn.Sequential:
    """Return the network with each batch normalisation inside the convolution before it."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in model.named_children():
        if isinstance(layer, nn.BatchNorm2d):
            before, convolution = layers.popitem()
            layers[before] = fuse_conv_bn_eval(convolution, layer)
        else:
            layers[name] = layer
    return nn.Sequential(layers)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="mnist.npz or a folder of IDX files.")
@click.option("--download-to", type=click.Path(path_type=Path), default=HERE / "data", help="Used without --data.")
@click.option("--output", type=click.Path(path_type=Path), default=HERE, help="Folder to write to.")
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the number of epochs of each of the two parts.")
@click.option("--held-out", is_flag=True, help="Measure on held-out training images; to choose a recipe with.")
def main(data: Path | None, download_to: Path, output: Path, epochs: int | None, held_out: bool) -> None:
    """Train, export and measure."""
    # Sums are split over threads; a fixed number of them makes the result repeatable.
    torch.set_num_threads(1)
    recipes = [recipe if epochs is None else replace(recipe, epochs=epochs) for recipe in (RECIPE, FINE_TUNING)]
    try:
        digits = load_mnist(data) if data is not None else download_mnist(download_to)
        if held_out:
            digits = hold_out(digits, HELD_OUT_IMAGES)
        with Bar(transient=True) as bar:
            progress = show_epochs(bar, NAME)
            model = train_cnn(digits.train_images, digits.train_labels, (recipes[0], recipes[1]), progress)
        (output / "models").mkdir(parents=True, exist_ok=True)
        export_onnx(model, output / "models" / f"{NAME}.onnx", (28, 28), NAME)
        accuracies = {NAME: accuracy(model, digits.test_images, digits.test_labels)}
        click.echo(f"{NAME}: {'held-out' if held_out else 'test'} accuracy {accuracies[NAME]:.2%}")
        if not held_out:
            write_metrics(output, len(digits.test_images), accuracies)
    except UserError as error:
        stop(error)


if __name__ == "__main__":
    main()
