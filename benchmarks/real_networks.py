"""MLPerf Tiny's ResNet-8 and autoencoder: what integers lose against float, by the integer reference.

    python benchmarks/real_networks.py --models DIR --data DIR

DIR holds resnet8.onnx and ad_autoencoder.onnx, and cifar10_jpeg.npz (CIFAR-10 as JPEG files: jpeg_train, off_train,
y_train, jpeg_test, ...). Calibrates on training images, measures on test images, writes
benchmarks/results/real_networks.json.

There is no data set for the autoencoder here. Its inputs are made by the model itself: noise around its last bias
goes through it three times, which gives spectra as it has learnt them, and gets noise of 3 dB, about the error that
such networks leave on machines in good order (Koizumi et al., DCASE 2020 task 2: mean squared error 8 to 12).
"""

import io
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from mcucompile.driver import Options, Quantized, quantize_model
from mcucompile.ir import Array
from mcucompile.ops import IntegerConv, IntegerDense
from mnist_data import RESULTS
from PIL import Image

CALIBRATION_IMAGES = 256
TEST_IMAGES = 2000
RESNET_CHOICES = (("int8", "int8"), ("int4", "int8"), ("dlq4", "int8"), ("int8", "int16"), ("int4", "int16"))
AUTOENCODER_CHOICES = (("int8", "int8"), ("int8", "int16"), ("int4", "int8"), ("dlq4", "int8"))
AUTOENCODER_SAMPLES = 1000


def images(archive: Any, part: str, count: int) -> Array:
    """Return the first images (count, 32, 32, 3) of a part, bytes as floats."""
    data, offsets = archive[f"jpeg_{part}"], archive[f"off_{part}"]
    files = [data[offsets[i] : offsets[i + 1]].tobytes() for i in range(count)]
    return np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]).astype(np.float32)


def weight_bytes(quantized: Quantized) -> int:
    """Return the bytes of flash that packed weights take."""
    layers = [op for op in quantized.graph.layers if isinstance(op, IntegerConv | IntegerDense)]
    return sum(op.weights.packed_bytes for op in layers)


def codes_of(quantized: Quantized, samples: Array) -> Array:
    """Return samples as input codes."""
    source = quantized.graph.input
    return source.stored.quantize(samples.reshape(-1, *source.shape))


def classes(results: Array) -> Array:
    """Return the class of each result."""
    return np.asarray(results.reshape(len(results), -1).argmax(axis=1))


def resnet(model: Path, archive: Any) -> dict[str, Any]:
    """Return percent correct in float and for each choice of weights and activations."""
    calibration = images(archive, "train", CALIBRATION_IMAGES)
    test, labels = images(archive, "test", TEST_IMAGES), archive["y_test"][:TEST_IMAGES].astype(np.int64)
    runs: list[dict[str, Any]] = []
    rows: dict[str, Any] = {"test_images": TEST_IMAGES, "runs": runs}
    exact = np.empty(0)
    rows["layers_alone_in_4_bits"] = layers_alone(model, calibration)
    choices = [*RESNET_CHOICES, (mixed_weights(rows["layers_alone_in_4_bits"]), "int8")]
    for weights, activations in choices:
        quantized = quantize_model(model, calibration, Options(weights=weights, activations=activations))
        if not runs:
            exact = classes(quantized.real.run(test.reshape(-1, *quantized.real.input.shape), batch=100))
            rows["float"] = percent(exact == labels)
        found = classes(quantized.graph.run(codes_of(quantized, test), batch=100))
        runs.append(
            {
                "weights": weights,
                "activations": activations,
                "weight_bytes": weight_bytes(quantized),
                "accuracy": percent(found == labels),
                "same_class_as_float": percent(found == exact),
                "layers": {layer.name: layer.sqnr_db for layer in quantized.statistics.layers},
            }
        )
        print(runs[-1], flush=True)
    return rows


def layers_alone(model: Path, calibration: Array) -> list[dict[str, Any]]:
    """Return for each layer the bytes of its weights and the noise of the result if it alone has 4 bits."""
    whole = quantize_model(model, calibration, Options())
    rows = []
    for op in whole.graph.layers:
        if isinstance(op, IntegerConv | IntegerDense):
            quantized = quantize_model(model, calibration, Options(weights=f"int8,{op.name}=int4"))
            scores = quantized.statistics.layers[-2].sqnr_db
            rows.append({"layer": op.name, "bytes_in_8_bits": op.weights.packed_bytes, "sqnr_db": scores})
            print(rows[-1], flush=True)
    return rows


def mixed_weights(alone: list[dict[str, Any]]) -> str:
    """Return 8 bits, and 4 for the layers that add least noise for a byte saved, until a third of all is saved."""
    wanted = sum(row["bytes_in_8_bits"] for row in alone) / 3
    chosen, saved = [], 0.0
    for row in sorted(alone, key=lambda row: 10 ** (-row["sqnr_db"] / 10) / row["bytes_in_8_bits"]):
        if saved < wanted:
            chosen.append(row["layer"])
            saved += row["bytes_in_8_bits"] / 2
    return ",".join(["int8", *(f"{name}=int4" for name in chosen)])


def percent(right: Array) -> float:
    """Return the share of true values in percent."""
    return round(100 * float(np.mean(right)), 2)


def spectra(real: Any) -> Array:
    """Return inputs that the autoencoder's own weights suggest: see above."""
    random = np.random.default_rng(20240501)
    bias = real.ops[-1].bias
    samples = (bias + random.normal(0, 20, (2 * AUTOENCODER_SAMPLES, *real.input.shape))).astype(np.float32)
    for _ in range(3):
        samples = real.run(samples)
    return np.asarray(samples + random.normal(0, 3, samples.shape), dtype=np.float32)


def autoencoder(model: Path) -> dict[str, Any]:
    """Return the mean squared error of reconstruction in float and for each choice of weights and activations."""
    made = spectra(quantize_model(model, None, Options()).real)
    calibration, test = made[:CALIBRATION_IMAGES], made[AUTOENCODER_SAMPLES:]
    runs: list[dict[str, Any]] = []
    rows: dict[str, Any] = {"samples": len(test), "runs": runs}
    for weights, activations in AUTOENCODER_CHOICES:
        quantized = quantize_model(model, calibration, Options(weights=weights, activations=activations))
        if not runs:
            rows["float"] = round(float(np.mean(np.square(quantized.real.run(test) - test))), 4)
        found = quantized.graph.result.stored.dequantize(quantized.graph.run(codes_of(quantized, test)))
        runs.append(
            {
                "weights": weights,
                "activations": activations,
                "weight_bytes": weight_bytes(quantized),
                "error": round(float(np.mean(np.square(found - test))), 4),
                "sqnr_db": quantized.statistics.layers[-1].sqnr_db,
            }
        )
        print(rows["float"], runs[-1], flush=True)
    return rows


@click.command(help=__doc__)
@click.option("--models", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
def main(models: Path, data: Path) -> None:
    """Measure and write the results."""
    with np.load(data / "cifar10_jpeg.npz") as archive:
        arrays = {name: archive[name] for name in ("jpeg_train", "off_train", "jpeg_test", "off_test", "y_test")}
    results = {"autoencoder": autoencoder(models / "ad_autoencoder.onnx")}
    results["resnet8"] = resnet(models / "resnet8.onnx", arrays)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "real_networks.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
