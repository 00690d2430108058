"""What every kernel costs on every core: whole layers, requantization included.

    python benchmarks/kernels.py
    python benchmarks/kernels.py --only "conv 3x3" --core cortex-m4

Instructions and the estimated cycles are counted in unicorn; each firmware's results are compared with the reference.
Memories are taken as large, since some layers need more than the smallest board has. Writes
benchmarks/results/kernels.json, in which a partial run replaces its rows only.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from mcucompile.calibrate import calibrate
from mcucompile.emit import Model
from mcucompile.ir import Array, Graph, Source, Tensor, build_graph
from mcucompile.kernels import KERNELS, Core
from mcucompile.measure import measure
from mcucompile.ops import Conv, Dense
from mcucompile.ops.window import Window
from mcucompile.passes import simplify
from mcucompile.plan import plan_arena, select_kernels
from mcucompile.quantize import parse_weights, quantize
from mcucompile.targets.boards import Board, load_board

RESULTS = Path(__file__).parent / "results" / "kernels.json"
BOARDS = ("ch32v003", "hifive1", "microbit", "nucleo-f401re")
SOURCE = Source("benchmark", "layer", "Layer")
SAME = Window((3, 3), before=(1, 1), after=(1, 1))
# Window (none: a dense layer), input, outputs, groups.
SHAPES: dict[str, tuple[Window | None, tuple[int, ...], int, int]] = {
    "fc 64->16": (None, (1, 64), 16, 1),
    "fc 256->64": (None, (1, 256), 64, 1),
    "conv 3x3 16x16x32->32": (SAME, (1, 16, 16, 32), 32, 1),
    "conv 1x1 16x16x32->32": (Window((1, 1)), (1, 16, 16, 32), 32, 1),
    "depthwise 3x3 16x16x32": (SAME, (1, 16, 16, 32), 32, 32),
    "fc 64->16, half zeros": (None, (1, 64), 16, 1),
}
# Of a shape's input: the share of codes that are 0, in samples and where instructions are counted.
ZEROS = {"fc 64->16, half zeros": 0.5}
# Similarity, weights.
SUMS = (
    *(("dot", weights) for weights in ("int8", "int4", "log3", "log4", "dlq3", "dlq4")),
    ("ternary", "int8"),
    ("binary", "int8"),
    ("adder", "int8"),
    ("adder", "int4"),
    ("minconv", "int8"),
    ("minconv", "int4"),
    ("euclid", "int8"),
    ("mfo", "int8"),
    ("trig", "int8"),
    ("trig", "int4"),
)
# Hundreds of instructions for each weight: one shape says enough.
SLOW = "cordic"
# Sums and kernels for which zeros matter.
SKIPPABLE = {("dot", "log3"), ("dot", "log4"), ("ternary", "int8")}
SKIPPING = ("column code", "skipping column code")
# For these sums, dense layers and depthwise convolutions say what a large convolution takes.
SMALL_ONLY = {
    ("dot", "log3"),
    ("dot", "dlq3"),
    ("mfo", "int8"),
    ("trig", "int8"),
}


def layer_graph(shape: str, similarity: str, weights: str) -> Graph:
    """Return a graph of integers with one layer; its input has 0..255, or signs where only they count."""
    random = np.random.default_rng(20)
    window, size, n_out, groups = SHAPES[shape]
    n_in = size[-1] // groups
    weight = random.normal(0, 0.2, (n_out, *(window.size if window else ()), n_in))
    if similarity == "ternary":
        weight = random.integers(-1, 2, weight.shape).astype(np.float64)
    fields: dict[str, Any] = {"name": "y", "inputs": ("x",), "output": "y", "source": SOURCE, "relu": True}
    fields |= {"similarity": similarity, "bias": random.normal(0, 0.1, n_out).astype(np.float32)}
    op: Conv | Dense
    if window is None:
        op = Dense(weight=weight.astype(np.float32), **fields)
    else:
        op = Conv(weight=weight.astype(np.float32), window=window, groups=groups, **fields)
    # Trigonometric layers read angles of a certain step: the pass lets an affine layer make them.
    real = simplify(build_graph("net", (Tensor("x", size),), ("y",), (op,), SOURCE))
    ends = {"binary": (-1, 1), "trig": (0, 1.5)}.get(similarity, (0, 1))
    samples = random.uniform(*ends, (8, *size)).astype(np.float32)
    samples = with_zeros(samples, shape)
    return quantize(real, calibrate(real, samples), parse_weights(weights, real), 2)


def with_zeros(values: Array, shape: str) -> Array:
    """Return inputs of a shape with the zeros that it has."""
    order = np.random.default_rng(22).permutation(values.size).reshape(values.shape)
    return np.where(order < ZEROS.get(shape, 0) * values.size, 0, values).astype(values.dtype)


def applicable(graph: Graph, core: Core) -> tuple[str, ...]:
    """Return the names of the kernels that can compute the graph's layer on a core."""
    layer = select_kernels(graph, core)[-1].layer
    kernels = [kernel for kernel in KERNELS if kernel.kind == layer.op.kind and kernel.refusal(layer, core) is None]
    return tuple(dict.fromkeys(kernel.name for kernel in kernels))


def count(graph: Graph, board: Board, kernel: str, toolchain: str, shape: str = "") -> dict[str, Any]:
    """Build, run and compare one layer; return what it takes. shape: its key in SHAPES, if the input has zeros."""
    core = Core(board.has_multiplier, board.core)
    planned = select_kernels(graph, core, {"y": kernel})
    model = Model(graph, planned, plan_arena(graph), bytes(16), no_multiply=not board.has_multiplier)
    source, step = graph.input.stored, planned[-1]
    code = np.random.default_rng(21).integers(source.minimum, source.maximum + 1, (1, *graph.input.shape))
    code = with_zeros(code, shape)
    measured = measure(model, board, code, toolchain=toolchain)
    operations = step.layer.op.operations(*step.layer.shapes)
    return {
        "core": board.core,
        "kernel": kernel,
        "operations": operations,
        "instructions": measured.instructions[-1],
        "cycles": measured.cycles[-1],
        "declared": step.cost.instructions,
        "code_bytes": measured.code_bytes[-1],
        "declared_bytes": step.cost.flash_bytes,
        "stack_bytes": step.cost.stack_bytes,
    }


def rows(only: str, cores: tuple[str, ...], toolchain: str) -> Iterator[dict[str, Any]]:
    """Yield the measurements."""
    for name in BOARDS:
        board = load_board(name)
        if cores and board.core not in cores:
            continue
        for shape in SHAPES:
            for similarity, weights in SUMS:
                if shape.startswith("conv") and (similarity, weights) in SMALL_ONLY:
                    continue
                if shape in ZEROS and (similarity, weights) not in SKIPPABLE:
                    continue
                graph = layer_graph(shape, similarity, weights)
                for kernel in applicable(graph, Core(board.has_multiplier, board.core)):
                    if shape in ZEROS and kernel not in SKIPPING:
                        continue
                    label = f"{shape} {similarity} {weights} {kernel}"
                    if only in label and (kernel != SLOW or shape == "fc 64->16"):
                        row = {"layer": shape, "similarity": similarity, "weights": weights}
                        yield row | count(graph, board, kernel, toolchain, shape)


def merged(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the old rows with the new ones in their places or behind them."""
    keys = ("layer", "similarity", "weights", "core", "kernel")
    found = {tuple(row[key] for key in keys): row for row in old}
    return list((found | {tuple(row[key] for key in keys): row for row in new}).values())


@click.command(help=__doc__)
@click.option("--only", default="", help="Measure only what has this in its label: shape, similarity, weights, kernel.")
@click.option("--core", "cores", multiple=True, help="Only these cores.")
@click.option("--toolchain", default="gcc", show_default=True)
def main(only: str, cores: tuple[str, ...], toolchain: str) -> None:
    """Measure, print, and write the results."""
    old = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() and (only or cores) else []
    new = []
    for row in rows(only, cores, toolchain):
        new.append(row)
        ratios = (row["instructions"] / row["operations"], row["declared"] / row["instructions"])
        print(*row.values(), *(f"{ratio:.3f}" for ratio in ratios), sep=" | ", flush=True)
        RESULTS.write_text(json.dumps(merged(old, new), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
