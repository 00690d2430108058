"""Instructions for each weight operation of kernels that do not multiply, on every core.

    python benchmarks/multiplication_free_kernels.py

Whole layers, requantization included, counted in unicorn; each firmware's outputs are compared with the reference.
A board's RAM is taken as large, since the convolutions need more than the smallest have. Writes
benchmarks/results/multiplication_free_kernels.json.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
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
from mcucompile.plan import plan_arena, select_kernels
from mcucompile.quantize import parse_weights, quantize
from mcucompile.resources import resource_dir
from mcucompile.targets.boards import Board, load_board
from mcucompile.targets.firmware import firmware_files
from mcucompile.targets.symbols import load_image
from mcucompile.targets.toolchain import build_firmware
from mcucompile.targets.unicorn_emulator import open_unicorn

RESULTS = Path(__file__).parent / "results"
BOARDS = ("ch32v003", "hifive1", "microbit", "nucleo-f401re")
MEMORY_BYTES = 1 << 19
SOURCE = Source("benchmark", "layer", "Layer")
SAME = Window((3, 3), before=(1, 1), after=(1, 1))
INPUTS = 2

# Layer, weights, similarity, kernel.
CASES = (
    ("fc 64->16", "log3", "dot", "column code"),
    ("fc 64->16", "log4", "dot", "column code"),
    ("fc 64->16", "dlq3", "dot", "row code"),
    ("fc 64->16", "dlq4", "dot", "row code"),
    ("fc 64->16", "int4", "dot", "row code"),
    ("conv 3x3 16x16x32->32", "int4", "dot", "planes"),
    ("conv 3x3 16x16x32->32", "int8", "ternary", "planes"),
    ("conv 3x3 16x16x32->32", "int8", "dot", "planes"),
)


def layer_graph(shape: str, weights: str, similarity: str) -> Graph:
    """Return a graph of integers with one layer, its input 0..255."""
    random = np.random.default_rng(20)
    fields = {"name": "y", "inputs": ("x",), "output": "y", "source": SOURCE, "similarity": similarity, "relu": True}
    if shape.startswith("fc"):
        n_in, n_out = (int(n) for n in shape.split()[1].split("->"))
        weight = _weight(random, (n_out, n_in), similarity)
        op: Conv | Dense = Dense(weight=weight, bias=_bias(random, n_out), **fields)
        size: tuple[int, ...] = (1, n_in)
    else:
        window, size, n_out = {
            "conv 3x3 16x16x32->32": (SAME, (1, 16, 16, 32), 32),
            "conv 1x1 16x16x32->32": (Window((1, 1)), (1, 16, 16, 32), 32),
        }[shape]
        weight = _weight(random, (n_out, *window.size, size[-1]), similarity)
        op = Conv(weight=weight, bias=_bias(random, n_out), window=window, **fields)
    real = build_graph("net", (Tensor("x", size),), ("y",), (op,), SOURCE)
    samples = random.uniform(0, 1, (8, *size)).astype(np.float32)
    return quantize(real, calibrate(real, samples), parse_weights(weights, real), 2)


def _weight(random: np.random.Generator, shape: tuple[int, ...], similarity: str) -> np.ndarray:
    weight = random.normal(0, 0.2, shape)
    if similarity == "ternary":
        weight = random.integers(-1, 2, shape).astype(np.float64)
    return weight.astype(np.float32)


def _bias(random: np.random.Generator, n_out: int) -> np.ndarray:
    return random.normal(0, 0.1, n_out).astype(np.float32)


def measure(graph: Graph, board: Board, kernel: str, toolchain: str) -> dict[str, Any]:
    """Build, run and compare one layer; return what it takes."""
    no_multiply = True
    core = Core(has_multiplier=False, name=board.core)
    planned = select_kernels(graph, core, {"y": kernel})
    model = Model(graph, planned, plan_arena(graph), bytes(16), no_multiply)
    runtime = resource_dir("runtime_c")
    files = {**emit_model(model), **firmware_files(board, 1 << 17)}
    files |= {f"include/{header}": (runtime / header).read_text() for header in headers(model)}
    step = planned[-1]
    operations = step.layer.op.operations(*step.layer.shapes)
    source = graph.input.stored
    codes = np.random.default_rng(21).integers(source.minimum, source.maximum + 1, (INPUTS, *graph.input.shape))
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in files.items():
            path = Path(scratch) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elf = build_firmware(Path(scratch), board, toolchain=toolchain, no_multiply=no_multiply, observe_layers=False)
        image = load_image(elf)
        function = image.function(layer_names(graph)[-1])
        counts = []
        with open_unicorn(elf, board, no_multiply=no_multiply, layers=layer_names(graph)) as link:
            for code, expected in zip(codes, graph.run(codes), strict=True):
                done = link.infer(code.astype(source.dtype).tobytes(), digests=False)
                found = np.frombuffer(done.output, graph.result.stored.dtype)
                if not np.array_equal(found, expected.reshape(-1)):
                    raise SystemExit(f"{board.core} {kernel}: differs from the reference")
                counts.append(link.counts().layers[-1])
    counted = sum(counts) / len(counts)
    return {
        "core": board.core,
        "kernel": kernel,
        "per_operation": round(counted / operations, 3),
        "instructions": round(counted),
        "declared": step.cost.instructions,
        "ratio": round(step.cost.instructions / counted, 3),
        "code_bytes": function.end - function.start,
        "declared_bytes": step.cost.flash_bytes,
        "stack_bytes": step.cost.stack_bytes,
    }


def large(name: str) -> Board:
    """Return a board whose RAM takes any layer here."""
    board = load_board(name)
    return replace(board, memory=replace(board.memory, ram_bytes=MEMORY_BYTES, flash_bytes=MEMORY_BYTES))


def rows(only: str, toolchain: str) -> Iterator[dict[str, Any]]:
    """Yield the measurements."""
    for shape, weights, similarity, kernel in CASES:
        label = f"{shape} {weights} {similarity} {kernel}"
        if only in label:
            graph = layer_graph(shape, weights, similarity)
            for name in BOARDS:
                yield {"layer": shape, "weights": weights, "similarity": similarity} | measure(
                    graph, large(name), kernel, toolchain
                )


@click.command(help=__doc__)
@click.option("--only", default="", help="Measure only the cases whose label contains this.")
@click.option("--toolchain", default="gcc", show_default=True)
def main(only: str, toolchain: str) -> None:
    """Measure, print, and write the results of a complete run."""
    found = []
    for row in rows(only, toolchain):
        found.append(row)
        print(*row.values(), sep=" | ", flush=True)
    if not only:
        (RESULTS / "multiplication_free_kernels.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
