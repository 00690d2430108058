"""Train the digit networks on MNIST and write their ONNX files, sample images and float accuracies.

    python examples/digits/train.py --data mnist.npz       an .npz or a folder of IDX files
    python examples/digits/train.py                        downloads MNIST through torchvision

The same data, seeds and torch version give the same files.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import NoReturn

import click
import numpy as np
import numpy.typing as npt
import torch
from mcucompile.errors import UserError
from mcucompile.nn import export_onnx
from mnist import Bytes, ImageSet, download_mnist, load_mnist
from networks import NETWORKS, Network, Progress, accuracy, train_network
from rich.progress import Progress as Bar

HERE = Path(__file__).resolve().parent
CALIBRATION_IMAGES = 256
TEST_IMAGES = 500
HELD_OUT_IMAGES = 5000


def even_choice(labels: Bytes, count: int) -> npt.NDArray[np.int64]:
    """Return positions, ascending, of the first count/10 samples of each digit (fewer if there are fewer)."""
    chosen = [np.flatnonzero(labels == digit)[: count // 10] for digit in range(10)]
    return np.sort(np.concatenate(chosen))


def write_samples(digits: ImageSet, folder: Path) -> None:
    """Write calibration.npy (the first training images) and test_images.npy, test_labels.npy (all digits alike)."""
    np.save(folder / "calibration.npy", digits.train_images[:CALIBRATION_IMAGES])
    test = even_choice(digits.test_labels, TEST_IMAGES)
    np.save(folder / "test_images.npy", digits.test_images[test])
    np.save(folder / "test_labels.npy", digits.test_labels[test])


def train_all(digits: ImageSet, networks: tuple[Network, ...], folder: Path, bar: Bar) -> dict[str, float]:
    """Train and export networks to folder/models; return each one's accuracy (0..1) on the test images."""
    (folder / "models").mkdir(parents=True, exist_ok=True)
    accuracies = {}
    for network in networks:
        model = train_network(
            network, digits.train_images, digits.train_labels, network.recipe, show_epochs(bar, network.name)
        )
        export_onnx(model, folder / "models" / f"{network.name}.onnx", (28, 28), network.name)
        accuracies[network.name] = accuracy(model, digits.test_images, digits.test_labels)
        bar.console.print(f"{network.name}: test accuracy {accuracies[network.name]:.2%}", highlight=False)
    return accuracies


def show_epochs(bar: Bar, name: str) -> Progress:
    """Return a callback that shows a network's epochs as a progress bar."""
    task = bar.add_task(name)

    def update(epoch: int, epochs: int, loss: float) -> None:
        bar.update(task, completed=epoch, total=epochs, description=f"{name}: loss {loss:.4f}")

    return update


def hold_out(digits: ImageSet, count: int) -> ImageSet:
    """Return data whose test images are the last `count` training images; those are not trained on."""
    return ImageSet(
        digits.train_images[:-count],
        digits.train_labels[:-count],
        digits.train_images[-count:],
        digits.train_labels[-count:],
    )


def write_metrics(folder: Path, test_images: int, accuracies: dict[str, float]) -> None:
    """Write metrics.json: accuracies (0..1) by network, beside those that were measured on as many images before."""
    path = folder / "metrics.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    before = known["accuracy"] if known.get("test_images") == test_images else {}
    metrics = {"test_images": test_images, "accuracy": dict(sorted((before | accuracies).items()))}
    path.write_text(json.dumps(metrics, indent=2) + "\n")


def stop(error: UserError) -> NoReturn:
    """Say what is wrong, and where, and end the program."""
    click.echo(f"error: {error.where}\n  {error.problem}\n  fix: {error.fix}", err=True)
    sys.exit(error.exit_code)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="mnist.npz or a folder of IDX files.")
@click.option("--download-to", type=click.Path(path_type=Path), default=HERE / "data", help="Used without --data.")
@click.option("--output", type=click.Path(path_type=Path), default=HERE, help="Folder to write to.")
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of each network's own number of epochs.")
@click.option("--held-out", is_flag=True, help="Measure on held-out training images; to choose a recipe with.")
def main(data: Path | None, download_to: Path, output: Path, epochs: int | None, held_out: bool) -> None:
    """Run the whole example."""
    # Sums are split over threads; a fixed number of them makes the result repeatable.
    torch.set_num_threads(1)
    try:
        digits = load_mnist(data) if data is not None else download_mnist(download_to)
        if held_out:
            digits = hold_out(digits, HELD_OUT_IMAGES)
        networks: tuple[Network, ...] = NETWORKS
        if epochs is not None:
            networks = tuple(
                dataclasses.replace(n, recipe=dataclasses.replace(n.recipe, epochs=epochs)) for n in NETWORKS
            )
        with Bar(transient=True) as bar:
            accuracies = train_all(digits, networks, output, bar)
        if not held_out:
            write_samples(digits, output)
            write_metrics(output, len(digits.test_images), accuracies)
    except UserError as error:
        stop(error)


if __name__ == "__main__":
    main()
