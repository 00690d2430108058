"""How much slower a training step is than with ordinary convolutions: LeNet-5-BN, forward and backward, one CPU thread.

    python benchmarks/training_speed.py

Medians of the processor time of one step on 128 random images, all in one run. AdderNet's and EuclidNets' papers
report 20 times and up to 2 times on a GPU. Writes benchmarks/results/training_speed.json.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable

import click
import torch
from mcucompile.nn import TORCH_SIMILARITIES, Conv2d, Linear
from mnist_data import RESULTS, ROOT
from torch import nn

sys.path.insert(0, str(ROOT / "examples" / "multiplication_free"))

from networks import lenet5

BATCH, ROUNDS = 128, 9


def training_step(model: nn.Module) -> Callable[[], None]:
    """Return a function that runs one forward and backward pass on the same random images."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (BATCH, 1, 28, 28), generator=generator).float()
    labels = torch.randint(0, 10, (BATCH,), generator=generator)

    def step() -> None:
        model.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()

    return step


def ordinary() -> nn.Module:
    """Return the network of torch's own layers."""
    model = lenet5("dot")
    for name, layer in list(model.named_children()):
        if isinstance(layer, Conv2d):
            plain: nn.Module = nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding, bias=False
            )
        elif isinstance(layer, Linear):
            plain = nn.Linear(layer.in_features, layer.out_features, bias=False)
        else:
            continue
        setattr(model, name, plain)
    return model


@click.command(help=__doc__)
def main() -> None:
    """Measure every similarity with every gradient."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    steps = {("torch", ""): training_step(ordinary())}
    for name, face in TORCH_SIMILARITIES.items():
        if name == face.name:
            steps |= {(name, gradient): training_step(lenet5(name, gradient)) for gradient in face.gradients}
    times: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    for _ in range(ROUNDS):
        for key, step in steps.items():
            start = time.thread_time()
            step()
            times[key].append(1000 * (time.thread_time() - start))
    base = statistics.median(times["torch", ""])
    runs = []
    for (similarity, gradient), values in times.items():
        middle = statistics.median(values)
        runs.append(
            {
                "similarity": similarity,
                "gradient": gradient,
                "milliseconds": round(middle, 1),
                "ratio": round(middle / base, 2),
            }
        )
        print(f"{similarity:8} {gradient:16} {middle:7.1f} ms  x {middle / base:.2f}", flush=True)
    results = {"batch": BATCH, "torch": torch.__version__, "runs": runs}
    (RESULTS / "training_speed.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
