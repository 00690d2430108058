"""Train LeNet-5 with each similarity on MNIST and write models/lenet5_<similarity>.onnx.

    python examples/multiplication_free/train.py --data mnist.npz       an .npz or a folder of IDX files
    python examples/multiplication_free/train.py                        downloads MNIST through torchvision

The same data, seeds and torch version give the same files. Minutes for each network on one core.
"""

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import numpy as np
import torch
from mcucompile.errors import UserError
from mcucompile.nn import export_onnx
from recipes import RECIPES, Recipe, accuracy, fit, images_tensor, initial_network
from rich.progress import Progress as Bar
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
# The reader of MNIST is the digits example's; networks.py is found here first.
sys.path.append(str(HERE.parent / "digits"))

from mnist import Bytes, Digits, download_mnist, load_mnist  # noqa: E402 - found by the line above

HELD_OUT_IMAGES = 5000


def tensors(images: Bytes, labels: Bytes) -> tuple[Tensor, Tensor]:
    """Return images (n, 1, 28, 28) as float bytes and labels (n,)."""
    return images_tensor(images), torch.from_numpy(labels.astype(np.int64))


def hold_out(digits: Digits) -> Digits:
    """Return data whose test images are the last training images; those are not trained on."""
    images, labels, count = digits.train_images, digits.train_labels, HELD_OUT_IMAGES
    return Digits(images[:-count], labels[:-count], images[-count:], labels[-count:])


def train_each(recipes: Iterable[Recipe], digits: Digits, bar: Bar) -> Iterator[tuple[Recipe, nn.Sequential, float]]:
    """Yield each recipe with its trained network and that network's accuracy (0..1) on the test images."""
    images, labels = tensors(digits.train_images, digits.train_labels)
    test = tensors(digits.test_images, digits.test_labels)
    dot = None
    for recipe in recipes:
        if recipe.from_dot and dot is None:
            dot = initial_network(RECIPES["dot"], images, None)
            fit_shown(dot, images, labels, dataclasses.replace(RECIPES["dot"], epochs=recipe.epochs), bar)
        model = initial_network(recipe, images, dot)
        fit_shown(model, images, labels, recipe, bar)
        dot = model if recipe.similarity == "dot" else dot
        yield recipe, model, accuracy(model, *test)


def fit_shown(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, bar: Bar) -> None:
    """Train a network and show its epochs as a progress bar."""
    task = bar.add_task(recipe.similarity)

    def update(epoch: int, epochs: int, loss: float) -> None:
        bar.update(task, completed=epoch, total=epochs, description=f"{recipe.similarity}: loss {loss:.4f}")

    fit(model, images, labels, recipe, update)


def write_metrics(folder: Path, test_images: int, accuracies: dict[str, float]) -> None:
    """Write metrics.json: accuracies (0..1) by similarity, beside those measured on as many images before."""
    path = folder / "metrics.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    before = known["accuracy"] if known.get("test_images") == test_images else {}
    metrics = {"test_images": test_images, "accuracy": dict(sorted((before | accuracies).items()))}
    path.write_text(json.dumps(metrics, indent=2) + "\n")


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="mnist.npz or a folder of IDX files.")
@click.option("--download-to", type=click.Path(path_type=Path), default=HERE / "data", help="Used without --data.")
@click.option("--output", type=click.Path(path_type=Path), default=HERE, help="Folder to write to.")
@click.option("--only", multiple=True, type=click.Choice([*RECIPES]), help="Only these similarities; repeatable.")
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of each recipe's own number of epochs.")
@click.option("--held-out", is_flag=True, help="Measure on held-out training images; to choose a recipe with.")
def main(
    data: Path | None, download_to: Path, output: Path, only: tuple[str, ...], epochs: int | None, held_out: bool
) -> None:
    """Run the whole example."""
    # Sums are split over threads; a fixed number of them makes the result repeatable.
    torch.set_num_threads(1)
    recipes = [
        recipe if epochs is None else dataclasses.replace(recipe, epochs=epochs)
        for name, recipe in RECIPES.items()
        if not only or name in only
    ]
    try:
        digits = load_mnist(data) if data is not None else download_mnist(download_to)
        digits = hold_out(digits) if held_out else digits
        (output / "models").mkdir(parents=True, exist_ok=True)
        accuracies = {}
        with Bar(transient=True) as bar:
            for recipe, model, correct in train_each(recipes, digits, bar):
                name = f"lenet5_{recipe.similarity}"
                accuracies[recipe.similarity] = correct
                bar.console.print(f"{name}: {'held-out' if held_out else 'test'} {correct:.2%}", highlight=False)
                if not held_out:
                    export_onnx(model, output / "models" / f"{name}.onnx", (1, 28, 28), name)
        if not held_out:
            write_metrics(output, len(digits.test_images), accuracies)
    except UserError as error:
        click.echo(f"error: {error.where}\n  {error.problem}\n  fix: {error.fix}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
