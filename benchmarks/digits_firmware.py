"""The digit networks as firmware: bytes, instructions, and bit-exactness on every emulated board.

    python benchmarks/digits_firmware.py --data mnist.npz

Instructions and bytes are deterministic for a tool chain; its version is in the results. Verifies all 10,000
test images on the host and 500 on each board, every layer, and writes benchmarks/results/digits_firmware.json.
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
from mcucompile.project import Project, devices, load_project
from mcucompile.targets.boards import list_boards
from mcucompile.verify import verify_devices
from mnist_data import DIGITS, RESULTS, test_set

MODEL = "four_view_64_16_10"
BOARD_IMAGES = 500
BENCH_IMAGES = 16
ENCODINGS = ("int8", "int4", "log4", "dlq4")
# Every firmware runs in unicorn; those of this encoding also in QEMU, which is slower over its socket.
QEMU_ENCODING = "dlq4"
FACTS = ("flash_bytes", "flash_limit_bytes", "ram_bytes", "ram_limit_bytes", "arena_bytes", "stack_bytes")


def compile_digits(
    directory: Path, model: str, board: str, weights: str, *, no_multiply: bool
) -> tuple[Project, dict[str, Any]]:
    """Compile one of the example models and return its project and facts; fail if it does not fit."""
    compiled = compile_model(
        DIGITS / "models" / f"{model}.onnx",
        target=board,
        samples=DIGITS / "calibration.npy",
        output=directory,
        weights=weights,
        no_multiply=no_multiply,
    )
    if not compiled.fits:
        raise SystemExit(f"{model} {weights} on {board}: {compiled.budget.shortfalls}")
    return load_project(directory), compiled.facts()


def measure(project: Project, facts: dict[str, Any], images: Array, labels: Array) -> dict[str, Any]:
    """Return bytes, instructions and the verification of a project in its emulators, which must count alike."""
    board, weights = project.board, project.manifest["options"]["weights"]
    emulators = ["unicorn"]
    if weights == QEMU_ENCODING and board.qemu is not None:
        emulators.append("qemu")
    counts = {emulator: bench_project(project, emulator, images[:BENCH_IMAGES]) for emulator in emulators}
    counted = counts["unicorn"]
    for emulator, other in counts.items():
        if (other.instructions, other.layers) != (counted.instructions, counted.layers):
            raise SystemExit(f"{board.name}: {emulator} counts {other.instructions}, unicorn {counted.instructions}")
    opened = [device for emulator in emulators for device in devices(project, emulator)]
    checked = verify_devices(project.graph, images, opened, model_hash=project.digest, labels=labels)
    return {
        "board": board.name,
        "weights": weights,
        "no_multiply": project.no_multiply,
        "compiler": project.manifest["compiler"],
        "emulators": emulators,
        **{key: facts[key] for key in FACTS},
        "instructions": counted.instructions,
        "layers": {layer.name: [layer.kernel, layer.ops, layer.instructions] for layer in counted.layers},
        "inputs": checked.inputs,
        "layers_compared": len(checked.layers),
        "mismatches": checked.mismatches,
    }


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=DIGITS / "data", show_default=True)
@click.option("--only", multiple=True, help="Measure these boards again, keep everything else.")
def main(data: Path, only: tuple[str, ...]) -> None:
    """Measure and write the results."""
    images, labels = test_set(data)
    first = images[:BOARD_IMAGES].astype(np.int64), labels[:BOARD_IMAGES]
    results: dict[str, Any] = {"model": MODEL, "runs": [], "host": []}
    kept: dict[str, Any] = results
    if only:
        kept = json.loads((RESULTS / "digits_firmware.json").read_text(encoding="utf-8"))
        results["host"] = kept["host"]
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "project"
        for board in list_boards():
            if only and board.name not in only:
                results["runs"] += [run for run in kept["runs"] if run["board"] == board.name]
                continue
            for weights in ENCODINGS:
                for no_multiply in (True,) if not board.has_multiplier else (False, True):
                    if board.is_host:
                        continue
                    project, facts = compile_digits(directory, MODEL, board.name, weights, no_multiply=no_multiply)
                    results["runs"].append(measure(project, facts, *first))
                    print(results["runs"][-1], flush=True)
        for model in () if only else ("dense_784_16_10", MODEL, "dense_784_100_100_10"):
            for weights in ENCODINGS:
                project, _ = compile_digits(directory, model, "host", weights, no_multiply=False)
                checked = verify_devices(
                    project.graph,
                    images.astype(np.int64),
                    devices(project, "host"),
                    model_hash=project.digest,
                    labels=labels,
                )
                results["host"].append({"model": model, "weights": weights, **checked.facts()})
                print(results["host"][-1], flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "digits_firmware.json").write_text(json.dumps(results, indent=1) + "\n")
    if any(run["mismatches"] for run in results["runs"] + results["host"]):
        raise SystemExit("a board differs from the reference")


if __name__ == "__main__":
    main()
