"""Fully connected networks 784-h-h-10 trained the plain way, to see what weight encodings do to them.

The set-up of the thesis "Log or Trig", Table 3.5 (Chainer's MNIST example: Adam, batches of 100, 20 epochs,
ReLU; here the usual rate 1e-3 ends in a cosine), with nothing that would shape the weights: no augmentation,
no weight decay.

    python examples/digits/mlp.py --data mnist.npz --output benchmarks/cache/mlp
"""

import json
import sys
import time
from collections import OrderedDict
from pathlib import Path

import click
import numpy as np
import torch
from mcucompile.errors import UserError
from mcucompile.nn import Standardize, export_onnx, fold_standardize
from mnist import Bytes, load_mnist
from networks import CLASSES, PIXELS, Progress, Recipe, accuracy, dense_layers, fit
from torch import nn

HIDDEN_SIZES = (1000, 600, 200, 100, 80, 60, 40, 20, 10)
SEED = 1


def train_mlp(hidden: int, seed: int, images: Bytes, labels: Bytes, progress: Progress | None = None) -> nn.Sequential:
    """Train 784-h-h-10 on images (n, 28, 28); return it ready for raw bytes (n, 28, 28) -> logits (n, 10).

    Pixels are scaled to [0, 1) by 1/256, not 1/255: a power of two folds into the first layer's weights
    without a rounding and leaves their distribution over powers of two as it was trained.
    """
    torch.manual_seed(seed)
    standardize = Standardize(torch.tensor(0.0), torch.tensor(256.0))
    layers = dense_layers((PIXELS, hidden, hidden, CLASSES))
    inputs = standardize(torch.from_numpy(images).flatten(1))
    recipe = Recipe(epochs=20, learning_rate=1e-3, batch=100, weight_decay=0.0, seed=seed)
    fit(nn.Sequential(layers), inputs, torch.from_numpy(labels.astype(np.int64)), recipe, progress)
    first = layers["fc1"]
    assert isinstance(first, nn.Linear)
    layers["fc1"] = fold_standardize(standardize, first)
    return nn.Sequential(OrderedDict([("flatten", nn.Flatten()), *layers.items()])).eval()


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="mnist.npz or IDX folder.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for mlp_<h>.onnx.")
@click.option("--hidden", type=click.IntRange(min=1), multiple=True, default=HIDDEN_SIZES, help="Hidden size h.")
@click.option("--seed", type=int, default=SEED, show_default=True)
def main(data: Path, output: Path, hidden: tuple[int, ...], seed: int) -> None:
    """Train and export the networks; smallest first, each result is printed and kept in accuracy.json."""
    try:
        digits = load_mnist(data)
        output.mkdir(parents=True, exist_ok=True)
        accuracies: dict[str, float] = {}
        for size in sorted(hidden):
            start = time.monotonic()
            model = train_mlp(size, seed, digits.train_images, digits.train_labels)
            export_onnx(model, output / f"mlp_{size}.onnx", (28, 28), f"mlp_{size}")
            accuracies[str(size)] = accuracy(model, digits.test_images, digits.test_labels)
            click.echo(f"h = {size}: test accuracy {accuracies[str(size)]:.2%}, {time.monotonic() - start:.0f} s")
            (output / "accuracy.json").write_text(json.dumps(accuracies, indent=2) + "\n")
    except UserError as error:
        click.echo(f"error: {error.where}\n  {error.problem}\n  fix: {error.fix}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
