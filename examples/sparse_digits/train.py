"""Train a network whose weights are nearly all 0 on MNIST and write models/sparse_digits.onnx.

    python examples/sparse_digits/train.py --data mnist.npz       an .npz or a folder of IDX files
    python examples/sparse_digits/train.py                        downloads MNIST through torchvision

The same data, seed and torch version give the same file. Half an hour on one core.
"""

import dataclasses
import json
import sys
from pathlib import Path

import click
import numpy as np
import torch
from augmentation import LIGHT, STRONG, pooled
from mcucompile.errors import UserError
from mcucompile.nn import export_onnx
from networks import deployed, sparse_layers
from recipes import PIXEL_SCALE, Bytes, Recipe, accuracy, answers, fit_student, fit_teacher, pool
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


def train(digits: ImageSet, recipe: Recipe, bar: Bar) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the trained teacher and the sparse network, and show their epochs as progress bars."""
    tasks = {
        "teacher": bar.add_task("teacher", total=recipe.teacher_epochs),
        "student": bar.add_task("student"),
    }

    def update(name: str, epoch: int, epochs: int, loss: float) -> None:
        bar.update(tasks[name], completed=epoch, total=epochs, description=f"{name}: loss {loss:.4f}")

    labels = labels_tensor(digits.train_labels)
    strong = pool(digits.train_images, STRONG, recipe.teacher_epochs, recipe.seed)
    teacher = fit_teacher(strong, labels, recipe, update)
    variants = pool(digits.train_images, LIGHT, recipe.variants, recipe.seed + 1)
    return teacher, fit_student(variants, answers(teacher, variants, recipe), labels, recipe, update)


def with_lengths(recipe: Recipe, epochs: int | None, variants: int | None) -> Recipe:
    """Return the recipe with other lengths, where they are given."""
    if epochs is not None:
        phases = tuple(dataclasses.replace(phase, epochs=min(epochs, phase.epochs)) for phase in recipe.phases)
        recipe = dataclasses.replace(recipe, phases=phases, teacher_epochs=min(epochs, recipe.teacher_epochs))
    return recipe if variants is None else dataclasses.replace(recipe, variants=variants)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="mnist.npz or a folder of IDX files.")
@click.option("--download-to", type=click.Path(path_type=Path), default=HERE / "data", help="Used without --data.")
@click.option("--output", type=click.Path(path_type=Path), default=HERE, help="Folder to write to.")
@click.option("--epochs", type=click.IntRange(min=1), help="At most, of each part of the training.")
@click.option("--variants", type=click.IntRange(min=1), help="Of each image, instead of the recipe's own number.")
@click.option("--held-out", is_flag=True, help="Measure on held-out training images; to choose a recipe with.")
def main(
    data: Path | None, download_to: Path, output: Path, epochs: int | None, variants: int | None, held_out: bool
) -> None:
    """Run the whole example."""
    # Sums are split over threads; a fixed number of them makes the result repeatable.
    torch.set_num_threads(1)
    recipe = with_lengths(Recipe(), epochs, variants)
    try:
        digits = load_mnist(data) if data is not None else download_mnist(download_to)
        digits = hold_out(digits) if held_out else digits
        (output / "models").mkdir(parents=True, exist_ok=True)
        with Bar(transient=True) as bar:
            teacher, student = train(digits, recipe, bar)
        images, labels = pooled(torch.from_numpy(digits.test_images)), labels_tensor(digits.test_labels)
        share = accuracy(student, images, labels)
        counts = [int(layer.levels.count_nonzero()) for layer in sparse_layers(student)]
        where = "held-out" if held_out else "test"
        print(f"teacher: {where} {accuracy(teacher, images, labels):.2%}")
        print(f"sparse_digits: {where} {share:.2%}, {sum(counts)} weights that are not 0")
        if held_out:
            return
        export_onnx(
            deployed(student, PIXEL_SCALE), output / "models" / "sparse_digits.onnx", (1, 28, 28), "sparse_digits"
        )
        metrics = {"test_images": len(labels), "accuracy": share, "nonzero_weights": counts}
        (output / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    except UserError as error:
        click.echo(f"error: {error.where}\n  {error.problem}\n  fix: {error.fix}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
