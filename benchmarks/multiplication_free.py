"""Networks of every similarity: torch, onnxruntime, the integer reference, and firmware on every device.

    python benchmarks/multiplication_free.py --data mnist.npz                        LeNet-5 on MNIST
    python benchmarks/multiplication_free.py --network resnet8 --data cifar10.npz    a small ResNet on CIFAR-10

Takes the networks that examples/multiplication_free/train.py trained. Nothing multiplies: every firmware is compiled
with --no-multiply and proven. All test images on the host, fewer on each emulated board, every layer compared. For
comparison the Cortex-M4 counts once more what may multiply.
Writes benchmarks/results/multiplication_free.json or multiplication_free_resnet8.json.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
from mcucompile.bench import bench_project
from mcucompile.driver import compile_model
from mcucompile.ir import Array
from mcucompile.project import Project, devices, load_project
from mcucompile.verify import classes, verify_devices
from mnist_data import DIGITS, RESULTS, ROOT, test_set

EXAMPLE = ROOT / "examples" / "multiplication_free"
sys.path.insert(0, str(EXAMPLE))

from cifar import load_cifar10  # noqa: E402 - the example's reader, found by the line above

# A board of 16 KB without fast multiplication and one with a Cortex-M4.
BOARDS = ("hifive1", "nucleo-f401re")
MULTIPLYING_BOARD = "nucleo-f401re"
BENCH_IMAGES = 2
HOST_PART = 1000
_BATCH = 100
FACTS = ("flash_bytes", "ram_bytes", "ram_limit_bytes", "arena_bytes", "stack_bytes")


def cifar10_test_set(data: Path) -> tuple[Array, Array]:
    """Return the test images (n, 3, 32, 32) and their classes (n,)."""
    cifar = load_cifar10(data)
    return np.ascontiguousarray(cifar.test_images.transpose(0, 3, 1, 2)), cifar.test_labels.astype(np.int64)


@dataclass(frozen=True, slots=True)
class Case:
    """One network of the example.

    Attributes:
        similarities: that it was trained with.
        test_set: path of the data -> test images (n, c, h, w) and classes (n,).
        calibration: file of images in the example folders.
        board_images: images on each emulated board.
        results: file to write.
    """

    similarities: tuple[str, ...]
    test_set: Callable[[Path], tuple[Array, Array]]
    calibration: Path
    board_images: int
    results: Path


CASES = {
    "lenet5": Case(
        ("dot", "adder", "euclid", "minconv", "trig", "mfo", "binary", "ternary"),
        test_set,
        DIGITS / "calibration.npy",
        500,
        RESULTS / "multiplication_free.json",
    ),
    "resnet8": Case(
        ("dot", "adder", "euclid", "minconv", "trig"),
        cifar10_test_set,
        EXAMPLE / "cifar10_calibration.npy",
        50,
        RESULTS / "multiplication_free_resnet8.json",
    ),
}


def run_onnxruntime(model: Path, images: Array) -> Array:
    """Return the outputs of stock onnxruntime, which knows nothing of the similarities."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    batches = np.split(images, range(_BATCH, len(images), _BATCH))
    return np.concatenate([session.run(None, {session.get_inputs()[0].name: batch})[0] for batch in batches])


def measure(network: str, name: str, images: Array, labels: Array, scratch: Path) -> dict[str, Any]:
    """Return the accuracies of a network with a similarity and its firmware on every device."""
    case = CASES[network]
    model = EXAMPLE / "models" / f"{network}_{name}.onnx"
    calibration = np.load(case.calibration).reshape(-1, *images.shape[1:])
    trained = json.loads((EXAMPLE / "metrics.json").read_text(encoding="utf-8"))
    result: dict[str, Any] = {
        "torch": trained[network]["accuracy"][name],
        "onnxruntime": percent(classes(run_onnxruntime(model, images)), labels),
        "boards": {},
    }
    for board in ("host", *BOARDS):
        compiled = compile_model(
            model, target=board, samples=calibration, output=scratch / f"{name}-{board}", no_multiply=True
        )
        if not compiled.fits:
            raise SystemExit(f"{name} on {board}: {compiled.budget.shortfalls}")
        project = load_project(scratch / f"{name}-{board}")
        codes = images.reshape(-1, *project.graph.input.shape).astype(np.int64)
        if board == "host":
            result["host"] = on_host(project, codes, labels)
            # The firmware's classes, which are the reference's: it is compared with the reference here.
            result["integer"] = round(100 * result["host"]["accuracy"], 2)
            continue
        some = slice(case.board_images)
        checked = verify_devices(
            project.graph, codes[some], devices(project, "unicorn"), model_hash=project.digest, labels=labels[some]
        )
        counted = bench_project(project, "unicorn", codes[:BENCH_IMAGES])
        result["boards"][board] = {
            "kernels": sorted({layer.kernel for layer in counted.layers if layer.ops}),
            "instructions": counted.instructions,
            "mismatches": checked.mismatches,
            "inputs": checked.inputs,
            **{key: compiled.facts()[key] for key in FACTS},
        }
    directory = scratch / f"{name}-multiplying"
    compile_model(model, target=MULTIPLYING_BOARD, samples=calibration, output=directory)
    project = load_project(directory)
    codes = images[:BENCH_IMAGES].reshape(-1, *project.graph.input.shape).astype(np.int64)
    counted = bench_project(project, "unicorn", codes)
    result["multiplying"] = {
        "board": MULTIPLYING_BOARD,
        "instructions": counted.instructions,
        "terms": sum(layer.ops for layer in counted.layers),
    }
    return result


def on_host(project: Project, codes: Array, labels: Array) -> dict[str, Any]:
    """Return how firmware on the host compares with the reference; a program is ended after ten minutes."""
    parts = [slice(start, start + HOST_PART) for start in range(0, len(codes), HOST_PART)]
    checks = [
        verify_devices(
            project.graph, codes[part], devices(project, "host"), model_hash=project.digest, labels=labels[part]
        )
        for part in parts
    ]
    return {
        "inputs": sum(check.inputs for check in checks),
        "layers": len(checks[0].layers),
        "mismatches": sum(check.mismatches for check in checks),
        "accuracy": sum((check.accuracy or 0) * check.inputs for check in checks) / len(codes),
    }


def percent(guesses: Array, labels: Array) -> float:
    """Return the share of right guesses in percent."""
    return round(100 * float(np.mean(guesses == labels)), 2)


@click.command(help=__doc__)
@click.option("--network", type=click.Choice([*CASES]), default="lenet5", show_default=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="Archive or folder of the images.")
@click.option("--images", "count", type=click.IntRange(min=1), help="Test images in onnxruntime and on the host.")
@click.option("--only", multiple=True, help="Measure these similarities again, keep the others.")
def main(network: str, data: Path | None, count: int | None, only: tuple[str, ...]) -> None:
    """Measure and write the results."""
    case = CASES[network]
    images, labels = case.test_set(data or (DIGITS if network == "lenet5" else EXAMPLE) / "data")
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in only or case.similarities:
            results[name] = measure(network, name, images[:count], labels[:count], Path(scratch))
            print(name, results[name], flush=True)
    RESULTS.mkdir(exist_ok=True)
    stored = json.loads(case.results.read_text(encoding="utf-8")) if only and case.results.is_file() else {}
    results = stored | results
    ordered = {name: results[name] for name in case.similarities if name in results}
    case.results.write_text(json.dumps(ordered, indent=1) + "\n")
    if any(run["mismatches"] for result in results.values() for run in (result["host"], *result["boards"].values())):
        raise SystemExit("a device differs from the reference")


if __name__ == "__main__":
    main()
