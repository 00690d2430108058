"""What kernels declare is what they take: within a tenth of what the emulator counts, on every core."""

import json
from types import ModuleType
from typing import Any

import pytest
from benchmark_scripts import BENCHMARKS, load_benchmark
from mcucompile.kernels import Core, Layer
from mcucompile.plan import candidates_of, layers_of, price
from mcucompile.project import core_of
from mcucompile.targets.boards import load_board

ROWS: list[dict[str, Any]] = json.loads((BENCHMARKS / "results" / "kernels.json").read_text(encoding="utf-8"))
TOLERANCE = 0.1
KEY = ("layer", "similarity", "weights", "core", "kernel")


def _benchmark() -> ModuleType:
    return load_benchmark("kernels")


def _core(name: str) -> Core:
    boards = (load_board(board) for board in _benchmark().BOARDS)
    board = next(board for board in boards if board.core == name)
    return core_of(board, no_multiply=not board.has_multiplier)


def _declared(layer: Layer, core: Core, kernel: str) -> int:
    """Return the cost of the form of the kernel that the benchmark measures: what is chosen unless told otherwise."""
    costs = [each.cost for each in candidates_of(layer, core) if each.kernel.name == kernel]
    return min(costs, key=lambda cost: price(cost, "balanced")).instructions


def test_every_kernel_declares_what_was_counted() -> None:
    """Of all that the benchmark has measured; the rows are the README's."""
    benchmark = _benchmark()
    layers = {}
    wrong = []
    for row in ROWS:
        key = (row["layer"], row["similarity"], row["weights"])
        if key not in layers:
            layers[key] = layers_of(benchmark.layer_graph(*key))[-1]
        declared = _declared(layers[key], _core(row["core"]), row["kernel"])
        if abs(declared / row["instructions"] - 1) > TOLERANCE:
            wrong.append((*(row[name] for name in KEY), round(declared / row["instructions"], 3)))
    assert wrong == []
    assert len(layers) >= len(benchmark.SHAPES) * 9
    assert len({row["kernel"] for row in ROWS}) >= 20
    assert {row["core"] for row in ROWS} == {"rv32ec", "rv32imac", "cortex-m0", "cortex-m4"}


def test_every_applicable_kernel_was_measured() -> None:
    benchmark = _benchmark()
    measured = {tuple(row[name] for name in KEY) for row in ROWS}
    shape = "fc 64->16"
    expected = set()
    for similarity, weights in benchmark.SUMS:
        graph = benchmark.layer_graph(shape, similarity, weights)
        for core in ("rv32ec", "rv32imac", "cortex-m0", "cortex-m4"):
            kernels = benchmark.applicable(graph, _core(core))
            expected |= {(shape, similarity, weights, core, kernel) for kernel in kernels}
    assert len(expected) >= 150
    assert expected <= measured


@pytest.mark.parametrize("board", ["ch32v003", "hifive1", "microbit", "nucleo-f401re"])
def test_the_stored_counts_can_be_counted_again(board: str) -> None:
    """A sample: other versions of the compiler may differ a little."""
    benchmark = _benchmark()
    found = load_board(board)
    rows = [row for row in ROWS if row["core"] == found.core and row["layer"] == "fc 64->16"]
    rows = [row for row in rows if row["kernel"] != benchmark.SLOW]
    sample = rows[:: len(rows) // 5]
    assert len(sample) >= 5
    for row in sample:
        graph = benchmark.layer_graph(row["layer"], row["similarity"], row["weights"])
        counted = benchmark.count(graph, found, row["kernel"], "gcc")
        assert counted["instructions"] == pytest.approx(row["instructions"], rel=TOLERANCE)
        assert counted["operations"] == row["operations"]
