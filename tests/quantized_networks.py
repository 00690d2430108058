"""Small networks that tests quantize with onnxruntime: between them, all operators that it quantizes and this reads."""

from pathlib import Path

import numpy as np
import torch
from onnxruntime_models import WAYS, Array, quantized_by_onnxruntime

SAMPLES = 12


class Residual(torch.nn.Module):
    """Convolutions of all kinds, a residual sum, pools, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise = torch.nn.Conv2d(8, 8, 1)
        self.largest = torch.nn.MaxPool2d(2)
        self.strided = torch.nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.mean = torch.nn.AdaptiveAvgPool2d(1)
        self.classes = torch.nn.Linear(12, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (n, 3, 12, 12)."""
        x = torch.relu(self.first(x))
        y = self.pointwise(torch.relu(self.depthwise(x)))
        x = self.largest(torch.relu(x + y))
        x = torch.nn.functional.relu6(self.strided(x))
        return self.classes(self.mean(x).flatten(1))


class Branches(torch.nn.Module):
    """Branches that are joined, padded means, functions, a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.left = torch.nn.Conv2d(2, 4, 3, padding=1)
        self.right = torch.nn.Conv2d(2, 4, 5, padding=2)
        self.mean = torch.nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)
        self.last = torch.nn.Conv2d(8, 6, 1)
        self.classes = torch.nn.Linear(6 * 4 * 4, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (n, 2, 8, 8)."""
        joined = torch.cat([torch.sigmoid(self.left(x)), torch.nn.functional.leaky_relu(self.right(x))], 1)
        gated = self.last(self.mean(joined))
        gated = gated * torch.tanh(gated)
        return torch.softmax(self.classes(gated.flatten(1)), -1)


class Rows(torch.nn.Module):
    """Linear layers with an offset that is not 0 on average."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(40, 24)
        self.second = torch.nn.Linear(24, 24, bias=False)
        self.third = torch.nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (n, 40)."""
        return self.third(torch.relu(self.second(torch.relu(self.first(x)))))


NETWORKS: dict[str, tuple[type[torch.nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (3, 12, 12)),
    "branches": (Branches, (2, 8, 8)),
    "rows": (Rows, (40,)),
}


def float_model(network: str, folder: Path) -> tuple[Path, Array]:
    """Export a network and return it with samples."""
    kind, shape = NETWORKS[network]
    torch.manual_seed(5)
    module = kind().eval()
    samples = np.random.default_rng(5).normal(0.2, 1, (SAMPLES, *shape)).astype(np.float32)
    path = folder / f"{network}.onnx"
    torch.onnx.export(
        module, torch.zeros(1, *shape), path, input_names=["input"], output_names=["output"], dynamo=False
    )
    return path, samples


def quantized_model(network: str, way: str, folder: Path) -> tuple[Path, Array]:
    """Quantize a network with onnxruntime and return it with samples."""
    path, samples = float_model(network, folder)
    return quantized_by_onnxruntime(path, WAYS[way], samples, folder), samples
