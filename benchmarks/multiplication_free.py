"""LeNet-5 of every similarity on full MNIST: torch, onnxruntime, the integer reference, and firmware on every device.

    python benchmarks/multiplication_free.py --data mnist.npz

Takes the networks that examples/multiplication_free/train.py trained. Nothing multiplies: every firmware is compiled
with --no-multiply and proven. All 10,000 test images on the host, 500 on each emulated board, every layer compared.
Writes benchmarks/results/multiplication_free.json.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
from mcucompile.bench import bench_project
from mcucompile.driver import compile_model
from mcucompile.ir import Array
from mcucompile.project import devices, load_project
from mcucompile.verify import classes, verify_devices
from mnist_data import DIGITS, RESULTS, ROOT, test_set

EXAMPLE = ROOT / "examples" / "multiplication_free"
SIMILARITIES = ("dot", "adder", "euclid", "minconv", "trig", "mfo", "binary", "ternary")
# A board of 16 KB without fast multiplication and one with a Cortex-M4.
BOARDS = ("hifive1", "nucleo-f401re")
BOARD_IMAGES = 500
BENCH_IMAGES = 2
_BATCH = 100
FACTS = ("flash_bytes", "ram_bytes", "ram_limit_bytes", "arena_bytes", "stack_bytes")


def run_onnxruntime(model: Path, images: Array) -> Array:
    """Return the outputs of stock onnxruntime, which knows nothing of the similarities."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    batches = np.split(images, range(_BATCH, len(images), _BATCH))
    return np.concatenate([session.run(None, {session.get_inputs()[0].name: batch})[0] for batch in batches])


def measure(name: str, images: Array, labels: Array, scratch: Path) -> dict[str, Any]:
    """Return the accuracies of a network and its firmware on every device."""
    model = EXAMPLE / "models" / f"lenet5_{name}.onnx"
    calibration = np.load(DIGITS / "calibration.npy").reshape(-1, 1, 28, 28)
    trained = json.loads((EXAMPLE / "metrics.json").read_text(encoding="utf-8"))
    result: dict[str, Any] = {
        "torch": trained["accuracy"][name],
        "onnxruntime": percent(classes(run_onnxruntime(model, images)), labels),
        "boards": {},
    }
    codes = images.astype(np.int64)
    for board in ("host", *BOARDS):
        compiled = compile_model(
            model, target=board, samples=calibration, output=scratch / f"{name}-{board}", no_multiply=True
        )
        if not compiled.fits:
            raise SystemExit(f"{name} on {board}: {compiled.budget.shortfalls}")
        project = load_project(scratch / f"{name}-{board}")
        some = slice(None) if board == "host" else slice(BOARD_IMAGES)
        where = "host" if board == "host" else "unicorn"
        checked = verify_devices(
            project.graph, codes[some], devices(project, where), model_hash=project.digest, labels=labels[some]
        )
        if board == "host":
            result["integer"] = percent(classes(project.graph.run(codes)), labels)
            result["host"] = checked.facts()
            continue
        counted = bench_project(project, "unicorn", codes[:BENCH_IMAGES])
        result["boards"][board] = {
            "kernels": sorted({layer.kernel for layer in counted.layers if layer.ops}),
            "instructions": counted.instructions,
            "mismatches": checked.mismatches,
            "inputs": checked.inputs,
            **{key: compiled.facts()[key] for key in FACTS},
        }
    return result


def percent(guesses: Array, labels: Array) -> float:
    """Return the share of right guesses in percent."""
    return round(100 * float(np.mean(guesses == labels)), 2)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=DIGITS / "data", show_default=True)
@click.option("--only", multiple=True, type=click.Choice(SIMILARITIES), help="Measure these again, keep the others.")
def main(data: Path, only: tuple[str, ...]) -> None:
    """Measure and write the results."""
    images, labels = test_set(data)
    file = RESULTS / "multiplication_free.json"
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if only and file.is_file() else {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in only or SIMILARITIES:
            results[name] = measure(name, images, labels, Path(scratch))
            print(name, results[name], flush=True)
    RESULTS.mkdir(exist_ok=True)
    file.write_text(json.dumps({name: results[name] for name in SIMILARITIES if name in results}, indent=1) + "\n")
    if any(run["mismatches"] for result in results.values() for run in (result["host"], *result["boards"].values())):
        raise SystemExit("a device differs from the reference")


if __name__ == "__main__":
    main()
