"""The multiplication-free example: its committed models in onnxruntime, and its training script on a tiny data set."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
EXAMPLE, DIGITS = EXAMPLES / "multiplication_free", EXAMPLES / "digits"
# Share of the digits example's 500 test images: about a point below what each model reaches.
BOUNDS = {
    "dot": 0.985,
    "adder": 0.98,
    "euclid": 0.98,
    "minconv": 0.98,
    "mfo": 0.965,
    "trig": 0.98,
    "binary": 0.94,
    "ternary": 0.98,
}
LABELS = 10


def logits(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": images})[0]


@pytest.mark.parametrize("similarity", BOUNDS)
def test_committed_models_recognise_digits(similarity):
    images, labels = np.load(DIGITS / "test_images.npy"), np.load(DIGITS / "test_labels.npy")
    guesses = logits(EXAMPLE / "models" / f"lenet5_{similarity}.onnx", images[:, None]).argmax(1)
    assert np.mean(guesses == labels) >= BOUNDS[similarity]


def test_every_model_has_a_bound_and_an_accuracy():
    models = {path.stem.removeprefix("lenet5_") for path in (EXAMPLE / "models").glob("lenet5_*.onnx")}
    metrics = json.loads((EXAMPLE / "metrics.json").read_text())["lenet5"]
    assert models == set(BOUNDS) == set(metrics["accuracy"])
    assert metrics["test_images"] == 10_000


@pytest.fixture
def archive(tmp_path):
    """Bars whose place is the label, with noise; easy to learn, nothing like real digits."""
    rng = np.random.default_rng(17)
    arrays = {}
    for part, count in (("train", 640), ("test", 60)):
        labels = (np.arange(count) % LABELS).astype(np.uint8)
        images = rng.integers(0, 40, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[:, 2 * label + 3 : 2 * label + 6] = 220
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    path = tmp_path / "mnist.npz"
    np.savez(path, **arrays)
    return path


def train(*arguments):
    command = [sys.executable, str(EXAMPLE / "train.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_training_learns_exports_and_repeats(archive, tmp_path):
    """A similarity from scratch with the adaptive rate, and one that starts from the dot network by homotopy."""
    chosen = ["--only", "adder", "--only", "euclid", "--epochs", 10]
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        outcome = train("--data", archive, "--output", folder, *chosen)
        assert outcome.returncode == 0, outcome.stderr
    metrics = json.loads((folders[0] / "metrics.json").read_text())["lenet5"]
    assert metrics["test_images"] == 60
    with np.load(archive) as arrays:
        images, labels = arrays["x_test"][:, None], arrays["y_test"]
    for similarity in ("adder", "euclid"):
        first, second = (folder / "models" / f"lenet5_{similarity}.onnx" for folder in folders)
        assert first.read_bytes() == second.read_bytes()
        share = np.mean(logits(first, images).argmax(1) == labels)
        assert share == pytest.approx(metrics["accuracy"][similarity])
        assert share > 0.5


def test_bad_data_is_named(tmp_path):
    missing = tmp_path / "text.npz"
    missing.write_text("no archive")
    outcome = train("--data", missing, "--output", tmp_path / "none", "--only", "trig")
    assert outcome.returncode == 2
    assert f"error: {missing}\n" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not (tmp_path / "none").exists()
