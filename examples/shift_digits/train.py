"""Train a network whose weights are 0, 1 or 2 of either sign on MNIST and write models/shift_digits.onnx.

    python examples/shift_digits/train.py --data mnist.npz       an .npz or a folder of IDX files
    python examples/shift_digits/train.py                        downloads MNIST through torchvision

The same data, seed and torch version give the same file. Ten minutes on one core.
"""

import dataclasses
import json
import sys
from pathlib import Path

import click
import numpy as np
import torch
from augmentation import halved
from mcucompile.errors import UserError
from mcucompile.nn import export_onnx
from networks import deployed, level_layers
from recipes import PIXEL_SCALE, Bytes, Recipe, accuracy, fit
from rich.progress import Progress as Bar
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
# The reader of MNIST is the digits example's; networks.py is found here first.
sys.path.append(str(HERE.parent / "digits"))

from mnist import ImageSet, download_mnist, load_mnist  # noqa: E402 - found by the line above

HELD_OUT_IMAGES = 5000


def hold_out(digits: ImageSet) -> ImageSet:
    """Return data whose test images are the last training images; those are not trained on."""
    images, labels, count = digits.train_images, digits.train_labels, HELD_OUT_IMAGES
    return ImageSet(images[:-count], labels[:-count], images[-count:], labels[-count:])


def labels_tensor(labels: Bytes) -> Tensor:
    """Return labels as torch indexes with them."""
    return torch.from_numpy(labels.astype(np.int64))


def train(digits: ImageSet, recipe: Recipe, bar: Bar) -> nn.Sequential:
    """Return the trained network, and show its epochs as a progress bar."""
    task = bar.add_task("making variants", total=recipe.epochs)

    def update(epoch: int, count: int, loss: float) -> None:
        bar.update(task, completed=epoch, total=count, description=f"loss {loss:.4f}")

    return fit(digits.train_images, labels_tensor(digits.train_labels), recipe, update)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="mnist.npz or a folder of IDX files.")
@click.option("--download-to", type=click.Path(path_type=Path), default=HERE / "data", help="Used without --data.")
@click.option("--output", type=click.Path(path_type=Path), default=HERE, help="Folder to write to.")
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the recipe's own number.")
@click.option("--variants", type=click.IntRange(min=1), help="Of each image, instead of the recipe's own number.")
@click.option("--held-out", is_flag=True, help="Measure on held-out training images; to choose a recipe with.")
def main(
    data: Path | None, download_to: Path, output: Path, epochs: int | None, variants: int | None, held_out: bool
) -> None:
    """Run the whole example."""
    # Sums are split over threads; a fixed number of them makes the result repeatable.
    torch.set_num_threads(1)
    given = {"epochs": epochs, "variants": variants}
    recipe = dataclasses.replace(Recipe(), **{name: count for name, count in given.items() if count is not None})
    try:
        digits = load_mnist(data) if data is not None else download_mnist(download_to)
        digits = hold_out(digits) if held_out else digits
        (output / "models").mkdir(parents=True, exist_ok=True)
        with Bar(transient=True) as bar:
            model = train(digits, recipe, bar)
        images, labels = halved(torch.from_numpy(digits.test_images)), labels_tensor(digits.test_labels)
        share = accuracy(model, images, labels)
        counts = [int(layer.levels().count_nonzero()) for layer in level_layers(model)]
        where = "held-out" if held_out else "test"
        print(f"shift_digits: {where} {share:.2%}, {sum(counts)} weights that are not 0")
        if held_out:
            return
        export_onnx(deployed(model, PIXEL_SCALE), output / "models" / "shift_digits.onnx", (1, 14, 14), "shift_digits")
        metrics = {"test_images": len(labels), "accuracy": share, "nonzero_weights": counts}
        (output / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    except UserError as error:
        click.echo(f"error: {error.where}\n  {error.problem}\n  fix: {error.fix}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
