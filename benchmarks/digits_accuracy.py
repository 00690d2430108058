"""Full MNIST: the thesis' Tables 3.1 and 3.5 beside ours, by the integer reference, which the firmware equals.

    python benchmarks/digits_accuracy.py --data mnist.npz

Trains what is not yet in benchmarks/cache/mlp (minutes), calibrates on the committed training images, and writes
benchmarks/results/digits_accuracy.json.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
from mcucompile.driver import Options, quantize_model
from mcucompile.ir import Array
from mcucompile.verify import classes
from mnist_data import DIGITS, RESULTS, ROOT, test_set

EXAMPLES = ("dense_784_16_10", "four_view_64_16_10", "dense_784_100_100_10", "cnn")
ENCODINGS = ("int8", "int4", "log4", "dlq4", "dlq4half")
HIDDEN_SIZES = (1000, 600, 200, 100, 80, 60, 40, 20, 10)


def accuracies(model: Path, images: Array, labels: Array, encodings: tuple[str, ...]) -> dict[str, Any]:
    """Return percent correct in float, and in integers for each encoding with and without bias correction."""
    calibration = np.load(DIGITS / "calibration.npy")
    result: dict[str, Any] = {}
    for encoding in encodings:
        for corrected in (True, False):
            quantized = quantize_model(model, calibration, Options(weights=encoding, bias_correction=corrected))
            if "float" not in result:
                result["float"] = _percent(quantized.real.run(images.astype(np.float32)), labels)
            name = encoding if corrected else f"{encoding} uncorrected"
            result[name] = _percent(quantized.graph.run(images.astype(np.int64)), labels)
    return result


def _percent(results: Array, labels: Array) -> float:
    return round(100 * float(np.mean(classes(results) == labels)), 2)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=DIGITS / "data", show_default=True)
def main(data: Path) -> None:
    """Measure and write the results."""
    images, labels = test_set(data)
    folder = ROOT / "benchmarks" / "cache" / "mlp"
    missing = [str(h) for h in HIDDEN_SIZES if not (folder / f"mlp_{h}.onnx").is_file()]
    if missing:
        sizes = [argument for h in missing for argument in ("--hidden", h)]
        train = [sys.executable, str(DIGITS / "mlp.py"), "--data", str(data), "--output", str(folder), *sizes]
        subprocess.run(train, check=True)
    results: dict[str, Any] = {"test_images": len(labels), "examples": {}, "mlp": {}}
    for name in EXAMPLES:
        results["examples"][name] = accuracies(DIGITS / "models" / f"{name}.onnx", images, labels, ENCODINGS)
        print(name, results["examples"][name], flush=True)
    for hidden in HIDDEN_SIZES:
        results["mlp"][str(hidden)] = accuracies(folder / f"mlp_{hidden}.onnx", images, labels, ("log4", "dlq4"))
        print(hidden, results["mlp"][str(hidden)], flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "digits_accuracy.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
