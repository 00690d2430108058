"""The full MNIST for benchmarks, found as the digits example finds it."""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits"
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(DIGITS))

from mnist import load_mnist  # noqa: E402 - the example's reader, found by the line above


def test_set(data: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the 10,000 test images (n, 1, 28, 28) and their classes (n,)."""
    mnist = load_mnist(data)
    return mnist.test_images.reshape(-1, 1, 28, 28), mnist.test_labels.astype(np.int64)
