"""The digits example of shifts: its committed model in onnxruntime and on the chip, its training on a tiny data set."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from firmware_builds import require_emulator, require_toolchain
from mcucompile.bench import bench_project
from mcucompile.driver import compile_model
from mcucompile.project import devices, load_project
from mcucompile.targets.boards import load_board
from mcucompile.verify import verify_devices
from onnx import numpy_helper

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
EXAMPLE, DIGITS = EXAMPLES / "shift_digits", EXAMPLES / "digits"
MODEL = EXAMPLE / "models" / "shift_digits.onnx"
# About half a point below what the model reaches on the digits example's 500 test images.
BOUND = 0.975
LARGEST_BUDGET = 60_000


def halved(images):
    """Return means of 2x2 pixels as bytes, halves rounded up: (n, 28, 28) -> (n, 1, 14, 14)."""
    sums = images.astype(np.int64).reshape(-1, 1, 14, 2, 14, 2).sum(axis=(3, 5))
    return (sums + 2) // 4


def logits(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": halved(images).astype(np.uint8)})[0]


def test_the_committed_model_recognises_digits():
    images, labels = np.load(DIGITS / "test_images.npy"), np.load(DIGITS / "test_labels.npy")
    assert np.mean(logits(MODEL, images).argmax(1) == labels) >= BOUND


def test_its_weights_are_0_1_or_2():
    metrics = json.loads((EXAMPLE / "metrics.json").read_text())
    assert metrics["test_images"] == 10_000
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(MODEL).graph.initializer}
    weights = [tensors[f"{name}.weight"] for name in ("conv1", "conv2", "conv3", "fc4")]
    assert [np.count_nonzero(weight) for weight in weights] == metrics["nonzero_weights"]
    assert all(set(np.unique(weight)) == {-2, -1, 0, 1, 2} for weight in weights)


def test_it_fits_the_chip_and_its_budget(tmp_path):
    board = load_board("ch32v003")
    require_toolchain(board, "gcc")
    require_emulator(board, "unicorn")
    compiled = compile_model(
        MODEL,
        target="ch32v003",
        weights="log3",
        csd_terms=1,
        optimize="speed",
        no_multiply=True,
        toolchain="gcc",
        samples=halved(np.load(DIGITS / "calibration.npy")),
        output=tmp_path / "project",
    )
    assert compiled.fits
    project = load_project(tmp_path / "project")
    codes = halved(np.load(DIGITS / "test_images.npy")[:5])
    checked = verify_devices(project.graph, codes, devices(project, "unicorn"), model_hash=project.digest)
    assert checked.mismatches == 0
    assert bench_project(project, "unicorn", codes[:2]).most <= LARGEST_BUDGET


@pytest.fixture
def archive(tmp_path):
    """Bars whose place is the label, with noise; easy to learn, nothing like real digits."""
    rng = np.random.default_rng(17)
    arrays = {}
    for part, count in (("train", 640), ("test", 60)):
        labels = (np.arange(count) % 10).astype(np.uint8)
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
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        outcome = train("--data", archive, "--output", folder, "--epochs", 60, "--variants", 2)
        assert outcome.returncode == 0, outcome.stderr
    first, second = (folder / "models" / "shift_digits.onnx" for folder in folders)
    assert first.read_bytes() == second.read_bytes()
    with np.load(archive) as arrays:
        share = np.mean(logits(first, arrays["x_test"]).argmax(1) == arrays["y_test"])
    assert share == pytest.approx(json.loads((folders[0] / "metrics.json").read_text())["accuracy"])
    assert share > 0.5


def test_bad_data_is_named(tmp_path):
    missing = tmp_path / "text.npz"
    missing.write_text("no archive")
    outcome = train("--data", missing, "--output", tmp_path / "none")
    assert outcome.returncode == 2
    assert f"error: {missing}\n" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not (tmp_path / "none").exists()
