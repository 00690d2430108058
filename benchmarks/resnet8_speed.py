"""Instructions of MLPerf Tiny's ResNet-8 on every core, by weights: the fastest kernels, CMSIS-NN's int8 beside them.

    python benchmarks/resnet8_speed.py --resnet8 resnet8.onnx --images cifar10_jpeg.npz

One inference of the whole network, counted in unicorn, its result compared with the reference, and percent correct of
2,000 test images by the reference. Memories are taken as
large: benchmarks/memory.py has the network on a board of 16 KB. Writes benchmarks/results/resnet8_speed.json.
"""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from mcucompile.driver import Options, quantize_model
from mcucompile.emit import Model
from mcucompile.measure import measure
from mcucompile.plan import plan_arena, select_kernels
from mcucompile.project import core_of
from mcucompile.targets.boards import load_board
from memory import images

RESULTS = Path(__file__).resolve().parent / "results" / "resnet8_speed.json"
BOARDS = ("ch32v003", "hifive1", "microbit", "nucleo-f401re")
WEIGHTS = ("int8", "int4")
CALIBRATION, TEST_IMAGES = 256, 2000
# Scratch that kernels may have on the stack: less than CMSIS-NN's 52 KB of RAM leaves beside the arena.
SCRATCH_BYTES = 18_000


@click.command(help=__doc__)
@click.option("--resnet8", type=click.Path(exists=True, path_type=Path), required=True, help="MLPerf Tiny's, float.")
@click.option("--images", "data", type=click.Path(exists=True, path_type=Path), required=True, help="CIFAR-10, JPEG.")
def main(resnet8: Path, data: Path) -> None:
    """Compile, count, print, write the results."""
    samples = images(data, "train", CALIBRATION)
    test = images(data, "test", TEST_IMAGES)[:, None].astype(np.int64)
    with np.load(data) as archive:
        labels = archive["y_test"][:TEST_IMAGES].astype(np.int64)
    runs: list[dict[str, Any]] = []
    for weights in WEIGHTS:
        quantized = quantize_model(resnet8, samples, Options(weights=weights))
        arena = plan_arena(quantized.graph)
        found = quantized.graph.run(test, batch=100).reshape(TEST_IMAGES, -1).argmax(axis=1)
        accuracy = round(100 * float(np.mean(found == labels)), 2)
        for name in BOARDS:
            board = load_board(name)
            no_multiply = not board.has_multiplier
            core = core_of(board, no_multiply=no_multiply)
            planned = select_kernels(quantized.graph, core, None, "speed", SCRATCH_BYTES)
            model = Model(quantized.graph, planned, arena, bytes(16), no_multiply)
            measured = measure(model, board, test[:1], toolchain="gcc")
            flash = [max(code, each.cost.flash_bytes) for code, each in zip(measured.code_bytes, planned, strict=True)]
            runs.append(
                {
                    "weights": weights,
                    "accuracy": accuracy,
                    "core": board.core,
                    "instructions": sum(measured.instructions),
                    "cycles": sum(measured.cycles),
                    "flash_bytes": sum(flash),
                    "ram_bytes": arena.bytes + max(each.cost.stack_bytes for each in planned),
                    "kernels": sorted({each.kernel.name for each in planned}),
                }
            )
            print(*runs[-1].values(), sep=" | ", flush=True)
    RESULTS.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
