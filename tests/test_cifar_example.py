"""The multiplication-free example on CIFAR-10: reading the images, its ResNets compiled, its training script."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from mcucompile.driver import Options, compile_model, quantize_model
from mcucompile.errors import SamplesError
from mcucompile.project import devices, load_project
from mcucompile.verify import verify_devices
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
EXAMPLE = EXAMPLES / "multiplication_free"
sys.path[:0] = [str(EXAMPLE), str(EXAMPLES / "digits")]

from cifar import load_cifar10  # noqa: E402 - the example's, found by the line above
from recipes import BORDER, NETWORKS, augmented  # noqa: E402

# Other examples have modules of these names.
for module in ("cifar", "recipes", "networks", "mnist"):
    del sys.modules[module]
del sys.path[:2]

SIMILARITIES = ("dot", "adder", "euclid", "minconv", "trig")
# Largest error of a logit of eight bits, as a share of the largest logit of all.
TOLERANCE = 0.1


def samples(name):
    return np.load(EXAMPLE / f"cifar10_{name}.npy")


def logits(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": images})[0]


def test_every_similarity_has_a_model_and_an_accuracy():
    metrics = json.loads((EXAMPLE / "metrics.json").read_text())["resnet8"]
    models = {path.stem.removeprefix("resnet8_") for path in (EXAMPLE / "models").glob("resnet8_*.onnx")}
    assert models == set(SIMILARITIES) == set(metrics["accuracy"]) == set(NETWORKS["resnet8"].recipes)
    assert metrics["test_images"] == 10_000


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_integers_stay_near_onnxruntime(similarity):
    model = EXAMPLE / "models" / f"resnet8_{similarity}.onnx"
    images, labels = samples("test_images"), samples("test_labels")
    expected = logits(model, images)
    quantized = quantize_model(model, samples("calibration"), Options(no_multiply=True))
    codes = images.astype(np.int64).reshape(-1, *quantized.graph.input.shape)
    result = quantized.graph.result.stored.dequantize(quantized.graph.run(codes)).reshape(expected.shape)
    assert np.abs(result - expected).max() <= TOLERANCE * np.abs(expected).max()
    assert np.mean(result.argmax(1) == expected.argmax(1)) >= 0.9
    assert np.mean(expected.argmax(1) == labels) >= 0.4


def test_the_firmware_adds_residuals_as_the_reference_does(tmp_path):
    """Distances have offsets and zero points of their own; blocks add them."""
    model = EXAMPLE / "models" / "resnet8_adder.onnx"
    compile_model(model, target="host", samples=samples("calibration"), output=tmp_path / "adder", no_multiply=True)
    project = load_project(tmp_path / "adder")
    codes = samples("test_images")[:4].astype(np.int64).reshape(4, *project.graph.input.shape)
    checked = verify_devices(project.graph, codes, devices(project, "host"), model_hash=project.digest)
    assert checked.ok
    assert [layer.op for layer in checked.layers].count("add") == 3


def test_augmented_images_are_shifted_and_mirrored():
    torch.manual_seed(5)
    images = torch.rand(40, 2, 6, 5)
    results = augmented(images, torch.Generator().manual_seed(3))
    found = set()
    for image, result in zip(images, results, strict=True):
        padded = torch.nn.functional.pad(image, (BORDER,) * 4)
        places = [
            (down, right, mirrored)
            for down in range(2 * BORDER + 1)
            for right in range(2 * BORDER + 1)
            for mirrored in (False, True)
            if torch.equal(result.flip(2) if mirrored else result, padded[:, down : down + 6, right : right + 5])
        ]
        assert places
        found.add(places[0])
    assert len(found) > 20
    assert {mirrored for _, _, mirrored in found} == {False, True}


@pytest.fixture
def arrays():
    """Images whose colour is the label, with noise; easy to learn, nothing like photographs."""
    rng = np.random.default_rng(29)
    result = {}
    for part, count in (("train", 320), ("test", 40)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 40, (count, 32, 32, 3), dtype=np.uint8)
        images += (200 * (labels[:, None] + 1 >> np.arange(3) & 1)).astype(np.uint8)[:, None, None]
        result |= {f"x_{part}": images, f"y_{part}": labels}
    return result


def assert_read(found, arrays, exact=True):
    for part, images, labels in (
        ("train", found.train_images, found.train_labels),
        ("test", found.test_images, found.test_labels),
    ):
        np.testing.assert_array_equal(labels, arrays[f"y_{part}"])
        difference = np.abs(images.astype(int) - arrays[f"x_{part}"])
        assert difference.mean() <= (0 if exact else 20)


def test_every_form_of_the_images_is_read(arrays, tmp_path):
    np.savez(tmp_path / "plain.npz", **arrays)
    assert_read(load_cifar10(tmp_path / "plain.npz"), arrays)
    packed = {}
    for part in ("train", "test"):
        files = []
        for image in arrays[f"x_{part}"]:
            memory = io.BytesIO()
            Image.fromarray(image).save(memory, "JPEG", quality=95)
            files.append(np.frombuffer(memory.getvalue(), np.uint8))
        offsets = np.cumsum([0, *(len(file) for file in files)])
        packed |= {f"jpeg_{part}": np.concatenate(files), f"off_{part}": offsets, f"y_{part}": arrays[f"y_{part}"]}
    np.savez(tmp_path / "jpeg.npz", **packed)
    assert_read(load_cifar10(tmp_path / "jpeg.npz"), arrays, exact=False)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for part, names in (("train", [f"data_batch_{i}.bin" for i in range(1, 6)]), ("test", ["test_batch.bin"])):
        planes = arrays[f"x_{part}"].transpose(0, 3, 1, 2).reshape(len(arrays[f"x_{part}"]), -1)
        records = np.concatenate([arrays[f"y_{part}"][:, None], planes], axis=1)
        for name, some in zip(names, np.split(records, len(names)), strict=True):
            some.tofile(folder / name)
    assert_read(load_cifar10(tmp_path), arrays)
    assert_read(load_cifar10(folder), arrays)
    (folder / "test_batch.bin").write_bytes(b"short")
    with pytest.raises(SamplesError, match="holds 5 bytes, not records of 3073"):
        load_cifar10(folder)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"x_train": None}, "lacks an array: .*x_train"),
        ({"y_test": np.zeros((40, 1))}, r"test images of shape \(40, 32, 32, 3\) and labels of shape \(40, 1\)"),
    ],
)
def test_archives_that_are_not_cifar10_are_named(arrays, tmp_path, changes, problem):
    path = tmp_path / "odd.npz"
    np.savez(path, **{name: array for name, array in (arrays | changes).items() if array is not None})
    with pytest.raises(SamplesError, match=problem):
        load_cifar10(path)
    with pytest.raises(SamplesError, match=r"holds no data_batch_1\.bin"):
        load_cifar10(tmp_path)


def train(*arguments):
    command = [sys.executable, str(EXAMPLE / "train.py"), "--network", "resnet8", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_training_learns_and_exports(arrays, tmp_path):
    path = tmp_path / "cifar10.npz"
    np.savez(path, **arrays)
    outcome = train("--data", path, "--output", tmp_path / "out", "--only", "trig", "--epochs", 12)
    assert outcome.returncode == 0, outcome.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["resnet8"]
    assert metrics["test_images"] == 40
    images = np.ascontiguousarray(arrays["x_test"].transpose(0, 3, 1, 2))
    share = np.mean(logits(tmp_path / "out" / "models" / "resnet8_trig.onnx", images).argmax(1) == arrays["y_test"])
    assert share == pytest.approx(metrics["accuracy"]["trig"])
    assert share > 0.5
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "cifar10_test_images.npy"), images[:32])


def test_similarities_without_a_recipe_are_refused():
    outcome = train("--only", "mfo")
    assert outcome.returncode == 2
    assert "mfo: choose from dot, adder, euclid, minconv, trig" in outcome.stderr
