"""The digits example: its committed models, its data readers, and its training scripts on a tiny data set."""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from mcucompile.driver import Options, quantize_model
from mcucompile.errors import SamplesError

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "digits"
sys.path.insert(0, str(EXAMPLE))

import mlp  # noqa: E402 - the example's scripts import each other as a user's do
import mnist  # noqa: E402
import train  # noqa: E402
import train_cnn  # noqa: E402

# Share of the 500 committed test images: about a point below what each model reaches.
BOUNDS = {"dense_784_16_10": 0.955, "four_view_64_16_10": 0.965, "dense_784_100_100_10": 0.98, "cnn": 0.985}
IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def logits(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": images})[0]


@pytest.fixture(scope="module")
def arrays():
    """Drawn digits: a bar whose place is the label, with noise; easy to learn, nothing like real digits."""
    rng = np.random.default_rng(17)
    parts = []
    for count in (400, 120):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 40, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[:, 2 * label + 3 : 2 * label + 6] = 220
        parts += [images, labels]
    return parts


@pytest.fixture
def archive(arrays, tmp_path):
    path = tmp_path / "mnist.npz"
    np.savez(path, **dict(zip(("x_train", "y_train", "x_test", "y_test"), arrays, strict=True)))
    return path


def idx_bytes(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


@pytest.mark.parametrize("name", BOUNDS)
def test_committed_model_recognises_the_committed_images(name):
    images, labels = np.load(EXAMPLE / "test_images.npy"), np.load(EXAMPLE / "test_labels.npy")
    assert images.shape == (500, 28, 28)
    assert images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [50] * 10
    path = EXAMPLE / "models" / f"{name}.onnx"
    assert path.stat().st_size < 1_000_000
    assert (logits(path, images).argmax(1) == labels).mean() >= BOUNDS[name]


def test_metrics_name_every_committed_model():
    metrics = json.loads((EXAMPLE / "metrics.json").read_text())
    assert metrics["test_images"] == 10_000
    assert metrics["accuracy"].keys() == {path.stem for path in (EXAMPLE / "models").glob("*.onnx")} == BOUNDS.keys()
    assert min(metrics["accuracy"].values()) >= 0.95


def test_calibration_images_are_not_test_images():
    calibration = np.load(EXAMPLE / "calibration.npy")
    assert calibration.shape == (256, 28, 28)
    test = {image.tobytes() for image in np.load(EXAMPLE / "test_images.npy")}
    assert not test & {image.tobytes() for image in calibration}


def test_training_writes_models_samples_and_metrics(archive, arrays, tmp_path):
    output = tmp_path / "out"
    result = CliRunner().invoke(
        train.main, ["--data", str(archive), "--output", str(output), "--epochs", "2"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["test_images"] == 120
    for name, accuracy in metrics["accuracy"].items():
        found = logits(output / "models" / f"{name}.onnx", arrays[2]).argmax(1)
        assert (found == arrays[3]).mean() == pytest.approx(accuracy)
    assert np.load(output / "calibration.npy").shape == (256, 28, 28)
    assert np.bincount(np.load(output / "test_labels.npy")).tolist() == [12] * 10


def test_training_twice_gives_the_same_files(archive, tmp_path):
    for folder in ("a", "b"):
        arguments = ["--data", str(archive), "--output", str(tmp_path / folder), "--epochs", "1"]
        CliRunner().invoke(train.main, arguments, catch_exceptions=False)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 7
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_held_out_run_measures_on_training_images_only(arrays):
    digits = train.hold_out(mnist.ImageSet(*arrays), 100)
    assert len(digits.train_images) == 300
    np.testing.assert_array_equal(digits.test_images, arrays[0][300:])


def test_plain_network_learns_and_is_exported(archive, tmp_path):
    arguments = ["--data", str(archive), "--output", str(tmp_path / "mlp"), "--hidden", "30"]
    result = CliRunner().invoke(mlp.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "mlp" / "accuracy.json").read_text())["30"] > 0.9
    layers = [node.op_type for node in onnx.load(tmp_path / "mlp" / "mlp_30.onnx").graph.node]
    assert layers == ["Cast", "Flatten", "Gemm", "Relu", "Gemm", "Relu", "Gemm"]


def test_convolutional_network_learns_is_exported_and_repeats(archive, arrays, tmp_path):
    for folder in ("a", "b"):
        arguments = ["--data", str(archive), "--output", str(tmp_path / folder), "--epochs", "15"]
        result = CliRunner().invoke(train_cnn.main, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    for file in ("metrics.json", "models/cnn.onnx"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    path = tmp_path / "a" / "models" / "cnn.onnx"
    accuracy = json.loads((tmp_path / "a" / "metrics.json").read_text())["accuracy"]["cnn"]
    assert (logits(path, arrays[2]).argmax(1) == arrays[3]).mean() == pytest.approx(accuracy)
    assert accuracy > 0.5
    layers = [node.op_type for node in onnx.load(path).graph.node]
    assert layers == ["Cast", "Unsqueeze", *["Conv", "Relu"] * 3, "Flatten", "Gemm"]


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_committed_convolutional_network_keeps_its_accuracy_in_integers(weights):
    images, labels = np.load(EXAMPLE / "test_images.npy"), np.load(EXAMPLE / "test_labels.npy")
    options = Options(weights=weights)
    graph = quantize_model(EXAMPLE / "models" / "cnn.onnx", EXAMPLE / "calibration.npy", options).graph
    assert sum(op.operations(*graph.shapes_of(op)) for op in graph.layers) <= 80_000
    guesses = graph.run(images.reshape(-1, *graph.input.shape).astype(np.int64)).reshape(500, -1).argmax(1)
    assert (guesses == labels).mean() >= BOUNDS["cnn"]


@pytest.mark.parametrize("folder", ["", "MNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_give_the_same_arrays_as_the_archive(arrays, archive, tmp_path, folder, suffix):
    place = tmp_path / "idx" / folder
    place.mkdir(parents=True)
    for name, array in zip(IDX_NAMES, arrays, strict=True):
        data = idx_bytes(array)
        (place / (name + suffix)).write_bytes(gzip.compress(data) if suffix else data)
    found, expected = mnist.load_mnist(tmp_path / "idx"), mnist.load_mnist(archive)
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), strict=True)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"not an archive", "is not an .npz archive"),
        (b"", "is not an .npz archive"),
        ({name: np.array([None]) for name in ("x_train", "y_train", "x_test", "y_test")}, "cannot be read as .npz"),
        ({"x_train": np.zeros(3)}, "lacks x_test, y_test, y_train"),
        ({name: np.zeros((5, 9, 9), np.uint8) for name in ("x_train", "y_train", "x_test", "y_test")}, "of shape"),
    ],
)
def test_unusable_archive_is_a_clear_error(tmp_path, data, problem):
    path = tmp_path / "mnist.npz"
    if isinstance(data, bytes):
        path.write_bytes(data)
    else:
        np.savez(path, **data)
    result = CliRunner().invoke(train.main, ["--data", str(path), "--output", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert problem in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("data", [b"", b"\0\0\x0d\x01\0\0\0\0", b"\0\0\x08\x01\0\0\0\x09123"])
def test_damaged_idx_file_is_a_clear_error(tmp_path, data):
    path = tmp_path / "images"
    path.write_bytes(data)
    with pytest.raises(SamplesError, match="download the file again"):
        mnist.read_idx(path)


def test_metrics_keep_what_was_measured_on_as_many_images(tmp_path):
    train.write_metrics(tmp_path, 100, {"b": 0.5})
    train.write_metrics(tmp_path, 100, {"a": 0.25})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "test_images": 100,
        "accuracy": {"a": 0.25, "b": 0.5},
    }
    train.write_metrics(tmp_path, 200, {"a": 0.75})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"test_images": 200, "accuracy": {"a": 0.75}}


def test_damaged_gzip_and_missing_files_are_clear_errors(tmp_path):
    path = tmp_path / "images.gz"
    whole = gzip.compress(idx_bytes(np.arange(200, dtype=np.uint8)))
    for damaged in (whole[:60], whole[:40] + bytes(20) + whole[60:], b"no gzip"):
        path.write_bytes(damaged)
        with pytest.raises(SamplesError, match="cannot be read"):
            mnist.read_idx(path)
    with pytest.raises(SamplesError, match="train-images-idx3-ubyte"):
        mnist.load_mnist(tmp_path)
