"""Instructions for each weight operation on a core with DSP instructions: tiles beside the best other kernel.

    python benchmarks/dsp_kernels.py

Whole layers on the Cortex-M4, requantization included, counted in unicorn; each firmware's outputs are compared with
the reference. Writes benchmarks/results/dsp_kernels.json.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from mcucompile.calibrate import calibrate
from mcucompile.emit import Model, emit_model, headers, layer_names
from mcucompile.ir import Graph, Source, Tensor, build_graph
from mcucompile.kernels import Core
from mcucompile.ops import Conv, Dense
from mcucompile.ops.window import Window
from mcucompile.plan import PlannedLayer, plan_arena, select_kernels
from mcucompile.quantize import parse_weights, quantize
from mcucompile.resources import resource_dir
from mcucompile.targets.boards import load_board
from mcucompile.targets.firmware import firmware_files
from mcucompile.targets.toolchain import build_firmware
from mcucompile.targets.unicorn_emulator import open_unicorn

RESULTS = Path(__file__).parent / "results" / "dsp_kernels.json"
BOARD = "nucleo-f401re"
SOURCE = Source("benchmark", "layer", "Layer")
SAME = Window((3, 3), before=(1, 1), after=(1, 1))
IMAGE = (1, 16, 16, 32)
# Window, input, outputs, groups; no window: a dense layer.
SHAPES: dict[str, tuple[Window | None, tuple[int, ...], int, int]] = {
    "conv 3x3 16x16x32->32": (SAME, IMAGE, 32, 1),
    "conv 1x1 16x16x32->32": (Window((1, 1)), IMAGE, 32, 1),
    "conv 3x3 16x16x3->16": (SAME, (1, 16, 16, 3), 16, 1),
    "depthwise 3x3 16x16x32": (SAME, IMAGE, 32, 32),
    "fc 64->16": (None, (1, 64), 16, 1),
    "fc 256->64": (None, (1, 256), 64, 1),
}
# Similarity, weights.
SUMS = (
    ("adder", "int8"),
    ("binary", "int8"),
    ("ternary", "int4"),
    ("minconv", "int8"),
    ("dot", "int8"),
    ("dot", "int4"),
    ("dot", "log4"),
    ("dot", "dlq4"),
)


def layer_graph(shape: str, similarity: str, weights: str) -> Graph:
    """Return a graph of integers with one layer; its input has 0..255, or -127..127 where only signs count."""
    random = np.random.default_rng(20)
    window, size, n_out, groups = SHAPES[shape]
    n_in = size[-1] // groups * (window.taps if window else 1)
    weight = random.normal(0, 0.2, (n_out, n_in))
    if similarity == "ternary":
        weight = random.integers(-1, 2, weight.shape).astype(np.float64)
    bias = random.normal(0, 0.1, n_out).astype(np.float32)
    fields: dict[str, Any] = {"name": "y", "inputs": ("x",), "output": "y", "source": SOURCE, "relu": True}
    fields |= {"similarity": similarity, "bias": bias}
    op: Conv | Dense
    if window is None:
        op = Dense(weight=weight.astype(np.float32), **fields)
    else:
        shaped = weight.reshape(n_out, *window.size, size[-1] // groups).astype(np.float32)
        op = Conv(weight=shaped, window=window, groups=groups, **fields)
    real = build_graph("net", (Tensor("x", size),), ("y",), (op,), SOURCE)
    samples = random.uniform(-1 if similarity == "binary" else 0, 1, (8, *size)).astype(np.float32)
    return quantize(real, calibrate(real, samples), parse_weights(weights, real), 2)


def measure(
    graph: Graph, kernel: str | None, *, toolchain: str = "gcc", optimize: str = "2"
) -> tuple[PlannedLayer, int]:
    """Build, run and compare one layer by a kernel, None for the best without DSP instructions; count instructions."""
    board = load_board(BOARD)
    planned = select_kernels(graph, Core(True, board.core if kernel else "host"), {"y": kernel} if kernel else {})
    model = Model(graph, planned, plan_arena(graph), bytes(16), no_multiply=False)
    runtime = resource_dir("runtime_c")
    files = {**emit_model(model), **firmware_files(board, 1 << 14)}
    files |= {f"include/{header}": (runtime / header).read_text(encoding="utf-8") for header in headers(model)}
    source = graph.input.stored
    code = np.random.default_rng(21).integers(source.minimum, source.maximum + 1, (1, *graph.input.shape))
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in files.items():
            path = Path(scratch) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elf = build_firmware(Path(scratch), board, toolchain=toolchain, observe_layers=False, optimize=optimize)
        with open_unicorn(elf, board, layers=layer_names(graph)) as link:
            done = link.infer(code.astype(source.dtype).tobytes(), digests=False)
            found = np.frombuffer(done.output, graph.result.stored.dtype)
            if not np.array_equal(found, graph.run(code).reshape(-1)):
                raise SystemExit(f"{kernel}: differs from the reference")
            return planned[-1], link.counts().layers[-1]


@click.command(help=__doc__.splitlines()[0] if __doc__ else "")
@click.option("--toolchain", default="gcc", help="gcc or zig")
@click.option("--optimize", default="2", help="the compiler's level, as of -O")
@click.option("--only", default="", help="shapes and similarities with this text")
@click.option("--keep/--print-only", default=True, help="write the results")
def main(toolchain: str, optimize: str, only: str, keep: bool) -> None:
    """Measure every shape and similarity."""
    rows = []
    for shape in SHAPES:
        for similarity, weights in SUMS:
            if only and only not in f"{shape} {similarity} {weights}":
                continue
            graph = layer_graph(shape, similarity, weights)
            best, _ = select_kernels(graph, Core(True, "cortex-m4"))[-1], None
            row: dict[str, Any] = {"layer": shape, "similarity": similarity, "weights": weights}
            for name, kernel in (("plain", None), ("tiles", best.kernel.name)):
                step, counted = measure(graph, kernel, toolchain=toolchain, optimize=optimize)
                operations = step.layer.op.operations(*step.layer.shapes)
                row[name] = {
                    "kernel": step.kernel.name,
                    "per_operation": round(counted / operations, 3),
                    "declared_of_counted": round(step.cost.instructions / counted, 3),
                    "flash_bytes": step.cost.flash_bytes,
                }
            rows.append(row)
            click.echo(json.dumps(row))
    if keep:
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
