"""Models that come quantized: how many values of every tensor equal onnxruntime's, and how far the others are off.

    python benchmarks/quantized_models.py --models DIR --data DIR

DIR holds resnet8.onnx and cifar10_jpeg.npz as for benchmarks/real_networks.py; the digits examples are at hand.
onnxruntime quantizes them, activations by weights as the rows say, calibrated on training images; a network with
QONNX's Quant nodes of 2 to 8 bits (tests/qonnx_models.py) is compared with the operators that the nodes stand for.
Every tensor of codes is compared with what onnxruntime computes by its default, optimized kernels on test images:
each layer alone (it is given onnxruntime's inputs) and in the whole network.
Writes benchmarks/results/quantized_models.json.
"""

import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from mcucompile.ir import Array
from mnist_data import DIGITS, RESULTS, ROOT
from real_networks import images

sys.path.insert(0, str(ROOT / "tests"))

from onnxruntime_models import WAYS, computed, differences, quantized_by_onnxruntime, taken
from qonnx_models import SHAPE, qonnx_codes, qonnx_model

FORMS = {
    "QDQ, uint8 by int8": "qdq_u8_s8",
    "QDQ, int8 by int8 per channel": "qdq_s8_s8_channels",
    "QOperator, uint8 by uint8": "qoperator_u8_u8",
    "QOperator, int8 by int8 per channel": "qoperator_s8_s8_channels",
}
EXAMPLES = ("dense_784_100_100_10", "cnn")
CALIBRATION_SAMPLES = 100
TEST_SAMPLES = 200


def comparison(path: Path, samples: Array, expected: dict[str, Array]) -> dict[str, Any]:
    """Return how many values were compared, percent of equal ones, the largest difference in codes, and where."""
    _, graph, _ = taken(path)
    row: dict[str, Any] = {}
    for name, each_alone in (("alone", True), ("whole", False)):
        tensors = differences(graph, samples, expected, each_alone=each_alone)
        found = np.concatenate([difference.reshape(-1) for difference in tensors.values()])
        row |= {"tensors": len(tensors), "values": found.size}
        row[name] = {
            "equal": round(100 * float(np.mean(found == 0)), 5),
            "largest": int(found.max()),
            "different": {tensor: int(np.count_nonzero(d)) for tensor, d in tensors.items() if d.any()},
        }
    return row


def quantized_rows(path: Path, calibration: Array, test: Array) -> list[dict[str, Any]]:
    """Quantize a model with onnxruntime in all ways and compare each."""
    rows = []
    for form, way in FORMS.items():
        with tempfile.TemporaryDirectory() as folder:
            quantized = quantized_by_onnxruntime(path, WAYS[way], calibration, Path(folder))
            found = comparison(quantized, test, computed(quantized, test, optimized=True))
        rows.append({"model": path.stem, "form": form} | found)
        print(rows[-1], flush=True)
    return rows


def qonnx_row() -> dict[str, Any]:
    """Compare the network with Quant nodes."""
    samples = np.random.default_rng(4).normal(0, 1.5, (TEST_SAMPLES, *SHAPE)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantized.onnx"
        onnx.save(qonnx_model("ROUND", expanded=False), path)
        found = comparison(path, samples, qonnx_codes("ROUND", samples, Path(folder)))
    return {"model": "qonnx", "form": "QONNX, 2 to 8 bits"} | found


@click.command(help=__doc__)
@click.option("--models", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
def main(models: Path, data: Path) -> None:
    """Compare all and write the result."""
    logging.disable(logging.WARNING)  # onnxruntime recommends preprocessing, once for each model
    archive = np.load(data / "cifar10_jpeg.npz")
    parts = (("train", CALIBRATION_SAMPLES), ("test", TEST_SAMPLES))
    rows = quantized_rows(models / "resnet8.onnx", *(images(archive, part, count) for part, count in parts))
    calibration, test = (np.load(DIGITS / f"{part}.npy") for part in ("calibration", "test_images"))
    for name in EXAMPLES:
        rows += quantized_rows(
            DIGITS / "models" / f"{name}.onnx", calibration[:CALIBRATION_SAMPLES], test[:TEST_SAMPLES]
        )
    rows.append(qonnx_row())
    text = json.dumps({"test_samples": TEST_SAMPLES, "rows": rows}, indent=2)
    (RESULTS / "quantized_models.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
