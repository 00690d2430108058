"""Train a network with each similarity and write models/<network>_<similarity>.onnx.

    python examples/multiplication_free/train.py --data mnist.npz       LeNet-5; an .npz or a folder of IDX files
    python examples/multiplication_free/train.py                        downloads MNIST through torchvision
    python examples/multiplication_free/train.py --network resnet8      a small ResNet, the same with CIFAR-10

The same data, seeds and torch version give the same files. Minutes for each network on one core. The ResNet's sums
are made by torch.compile, which needs a C++ compiler.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
import numpy as np
import torch
from mcucompile.errors import UserError
from mcucompile.nn import export_onnx
from recipes import NETWORKS, Network, Recipe, accuracy, fit, images_tensor, initial_network
from rich.progress import Progress as Bar
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
# The reader of MNIST is the digits example's; networks.py is found here first.
sys.path.append(str(HERE.parent / "digits"))

from cifar import download_cifar10, load_cifar10  # noqa: E402 - takes its types from mnist
from mnist import Bytes, ImageSet, download_mnist, load_mnist  # noqa: E402 - found by the line above

HELD_OUT_IMAGES = 5000
CALIBRATION_IMAGES = 100
SAMPLE_IMAGES = 32
# How a network's images are read from a path, and how they are downloaded to one.
READERS: dict[str, tuple[Callable[[Path], ImageSet], Callable[[Path], ImageSet]]] = {
    "lenet5": (load_mnist, download_mnist),
    "resnet8": (load_cifar10, download_cifar10),
}


def tensors(images: Bytes, labels: Bytes) -> tuple[Tensor, Tensor]:
    """Return images (n, c, h, w) as float bytes and labels (n,)."""
    return images_tensor(images), torch.from_numpy(labels.astype(np.int64))


def hold_out(data: ImageSet) -> ImageSet:
    """Return data whose test images are the last training images; those are not trained on."""
    images, labels, count = data.train_images, data.train_labels, HELD_OUT_IMAGES
    return ImageSet(images[:-count], labels[:-count], images[-count:], labels[-count:])


def train_each(
    network: Network, recipes: Iterable[Recipe], data: ImageSet, bar: Bar
) -> Iterator[tuple[Recipe, nn.Sequential, float]]:
    """Yield each recipe with its trained network and that network's accuracy (0..1) on the test images."""
    images, labels = tensors(data.train_images, data.train_labels)
    test = tensors(data.test_images, data.test_labels)
    dot = None
    for recipe in recipes:
        if recipe.from_dot and dot is None:
            first = dataclasses.replace(network.recipes["dot"], epochs=recipe.epochs)
            dot = initial_network(network, first, images, None)
            fit_shown(dot, images, labels, first, bar)
        model = initial_network(network, recipe, images, dot)
        fit_shown(model, images, labels, recipe, bar)
        dot = model if recipe.similarity == "dot" else dot
        yield recipe, model, accuracy(model, *test)


def fit_shown(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, bar: Bar) -> None:
    """Train a network and show its epochs as a progress bar."""
    task = bar.add_task(recipe.similarity)

    def update(epoch: int, epochs: int, loss: float) -> None:
        bar.update(task, completed=epoch, total=epochs, description=f"{recipe.similarity}: loss {loss:.4f}")

    fit(model, images, labels, recipe, update)


def write_samples(data: ImageSet, folder: Path) -> None:
    """Write the first images to calibrate with and to test, (n, c, h, w) as networks take them, and labels."""
    images = data.train_images[:CALIBRATION_IMAGES], data.test_images[:SAMPLE_IMAGES]
    calibration, test = (np.ascontiguousarray(some.transpose(0, 3, 1, 2)) for some in images)
    np.save(folder / "cifar10_calibration.npy", calibration)
    np.save(folder / "cifar10_test_images.npy", test)
    np.save(folder / "cifar10_test_labels.npy", data.test_labels[:SAMPLE_IMAGES].astype(np.int64))


def write_metrics(folder: Path, network: str, test_images: int, accuracies: dict[str, float]) -> None:
    """Write accuracies (0..1) by similarity to metrics.json, beside those measured on as many images before."""
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text()) if path.is_file() else {}
    known = metrics.get(network, {})
    before = known["accuracy"] if known.get("test_images") == test_images else {}
    metrics[network] = {"test_images": test_images, "accuracy": dict(sorted((before | accuracies).items()))}
    path.write_text(json.dumps(dict(sorted(metrics.items())), indent=2) + "\n")


@click.command(help=__doc__)
@click.option("--network", "name", type=click.Choice([*NETWORKS]), default="lenet5", show_default=True)
@click.option("--data", "path", type=click.Path(path_type=Path, exists=True), help="Archive or folder of the images.")
@click.option("--download-to", type=click.Path(path_type=Path), default=HERE / "data", help="Used without --data.")
@click.option("--output", type=click.Path(path_type=Path), default=HERE, help="Folder to write to.")
@click.option("--only", multiple=True, help="Only these similarities; repeatable.")
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of each recipe's own number of epochs.")
@click.option("--held-out", is_flag=True, help="Measure on held-out training images; to choose a recipe with.")
def main(
    name: str,
    path: Path | None,
    download_to: Path,
    output: Path,
    only: tuple[str, ...],
    epochs: int | None,
    held_out: bool,
) -> None:
    """Run the whole example."""
    # Sums are split over threads; a fixed number of them makes the result repeatable.
    torch.set_num_threads(1)
    network = NETWORKS[name]
    if unknown := sorted(set(only) - set(network.recipes)):
        raise click.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(network.recipes)}", param_hint="--only")
    recipes = [
        recipe if epochs is None else dataclasses.replace(recipe, epochs=epochs)
        for similarity, recipe in network.recipes.items()
        if not only or similarity in only
    ]
    load, download = READERS[name]
    try:
        data = load(path) if path is not None else download(download_to)
        data = hold_out(data) if held_out else data
        (output / "models").mkdir(parents=True, exist_ok=True)
        accuracies = {}
        with Bar(transient=True) as bar:
            for recipe, model, correct in train_each(network, recipes, data, bar):
                title = f"{name}_{recipe.similarity}"
                accuracies[recipe.similarity] = correct
                bar.console.print(f"{title}: {'held-out' if held_out else 'test'} {correct:.2%}", highlight=False)
                if not held_out:
                    export_onnx(model, output / "models" / f"{title}.onnx", network.image, title)
        if not held_out:
            # The digits example has samples of MNIST.
            if name == "resnet8":
                write_samples(data, output)
            write_metrics(output, name, len(data.test_images), accuracies)
    except UserError as error:
        click.echo(f"error: {error.where}\n  {error.problem}\n  fix: {error.fix}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
