"""MNIST within 16 KB of flash and 2 KB of RAM, without a multiplier: examples/shift_digits on the CH32V003.

    python benchmarks/shift_digits.py --data mnist.npz

The network that examples/shift_digits/train.py trained, compiled with --no-multiply and proven. All 10,000 test images
on the host, 500 on the emulated chip, every layer compared. Writes benchmarks/results/shift_digits.json.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from mcucompile.bench import bench_project
from mcucompile.driver import compile_model
from mcucompile.ir import Array
from mcucompile.project import devices, load_project
from mcucompile.verify import classes, verify_devices
from mnist_data import DIGITS, RESULTS, ROOT, test_set

MODEL = ROOT / "examples" / "shift_digits" / "models" / "shift_digits.onnx"
BOARD = "ch32v003"
BOARD_IMAGES = 500
BENCH_IMAGES = 16
# Weights of 1 and 2 are powers of two; with one term a requantization is one shift.
OPTIONS: dict[str, Any] = {"weights": "log3", "csd_terms": 1, "optimize": "speed"}
FACTS = ("flash_bytes", "ram_bytes", "ram_limit_bytes", "arena_bytes", "stack_bytes")


def halved(images: Array) -> Array:
    """Return means of 2x2 pixels, halves rounded up, as the network takes them: (n, 28, 28) -> (n, 1, 14, 14)."""
    sums = images.astype(np.int64).reshape(-1, 1, 14, 2, 14, 2).sum(axis=(3, 5))
    return (sums + 2) // 4


def measure(images: Array, labels: Array, scratch: Path) -> dict[str, Any]:
    """Return accuracy, sizes, instructions and mismatches."""
    calibration = halved(np.load(DIGITS / "calibration.npy"))
    codes = halved(images)
    trained = json.loads((MODEL.parents[1] / "metrics.json").read_text(encoding="utf-8"))
    result: dict[str, Any] = {"float": round(100 * trained["accuracy"], 2), "weights": sum(trained["nonzero_weights"])}
    for board in ("host", BOARD):
        compiled = compile_model(
            MODEL, target=board, samples=calibration, output=scratch / board, no_multiply=True, **OPTIONS
        )
        if not compiled.fits:
            raise SystemExit(f"{board}: {compiled.budget.shortfalls}")
        project = load_project(scratch / board)
        some = slice(None) if board == "host" else slice(BOARD_IMAGES)
        where = "host" if board == "host" else "unicorn"
        checked = verify_devices(
            project.graph, codes[some], devices(project, where), model_hash=project.digest, labels=labels[some]
        )
        result[board] = {"inputs": checked.inputs, "mismatches": checked.mismatches}
        if board == "host":
            guesses = classes(project.graph.run(codes))
            result["accuracy"] = round(100 * float(np.mean(guesses == labels)), 2)
            continue
        counted = bench_project(project, "unicorn", codes[:BENCH_IMAGES])
        result["layers"] = [[layer.name, layer.kernel, layer.ops, layer.instructions] for layer in counted.layers]
        result |= {"instructions": counted.instructions, "most_instructions": counted.most}
        result |= {key: compiled.facts()[key] for key in FACTS}
    return result


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=DIGITS / "data", show_default=True)
def main(data: Path) -> None:
    """Measure and write the results."""
    images, labels = test_set(data)
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(images, labels, Path(scratch))
    print(result)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "shift_digits.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if any(result[board]["mismatches"] for board in ("host", BOARD)):
        raise SystemExit("a device differs from the reference")


if __name__ == "__main__":
    main()
