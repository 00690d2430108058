"""Convolution by tables of levels: small shapes of every kind on the host, few of them on every emulated core."""

from pathlib import Path

import numpy as np
import pytest
from emulated_layers import edge_codes, large, layer_graph, model_of, run_emulated
from host_model import SANITIZERS, build_models, run_model
from mcucompile.emit import Model
from mcucompile.ir import Graph
from mcucompile.kernels import KERNELS, Core
from mcucompile.kernels.conv_levels import ConvLevels, _levels, _runs
from mcucompile.ops import IntegerConv
from mcucompile.ops.window import Window
from mcucompile.plan import choose_streams, plan_arena, select_kernels
from mcucompile.similarities import SIMILARITIES
from mcucompile.targets.boards import load_board

SAME = Window((3, 3), before=(1, 1), after=(1, 1))
# Image, channels, outputs, window, weights, similarity, signed.
SHAPES = [
    ((1, 1), 1, 1, Window((1, 1)), "int4", "adder", False),
    ((1, 1), 5, 3, SAME, "int4", "minconv", True),
    ((5, 3), 3, 2, SAME, "log3", "mfo", True),
    ((4, 16), 4, 3, SAME, "int8", "ternary", False),
    ((3, 17), 6, 2, Window((1, 2)), "int4", "adder", True),
    ((7, 33), 2, 2, Window((3, 3), (2, 2), before=(0, 1), after=(1, 0)), "int4", "dot", False),
    ((9, 21), 7, 3, Window((2, 4), (1, 3), (2, 2), (1, 2), (1, 2)), "int4", "minconv", False),
    ((8, 5), 3, 2, Window((1, 1), (3, 2)), "int4", "mfo", False),
    # 300 weights and more: their sums leave a lane unless they are split.
    ((3, 4), 60, 2, SAME, "int4", "adder", False),
    ((3, 4), 400, 2, Window((1, 1)), "int4", "adder", True),
    # Even one block of channels, of a table with few levels.
    ((1, 3), 600, 1, Window((1, 1)), "int8", "ternary", True),
    ((6, 9), 3, 2, Window((4, 1), (3, 1), (1, 1), (2, 0), (3, 0)), "int4", "dot", True),
]
LEAVES_A_LANE = (8, 9, 10)


def _graph(case: int) -> Graph:
    image, channels, n_out, window, weights, similarity, signed = SHAPES[case]
    random = np.random.default_rng(case)
    weight = random.normal(0, 0.5, (n_out, *window.size, channels))
    if similarity == "ternary":
        weight = np.sign(weight) * (np.abs(weight) > 0.2)
    return layer_graph(
        weight, weights, similarity=similarity, signed=signed, image=image, window=window, name=f"net{case}"
    )


def _core(name: str) -> Core:
    return Core(has_multiplier=False, name=name)


@pytest.mark.parametrize("entry_bytes", [2, 4])
@pytest.mark.parametrize("rolls", [True, False])
@pytest.mark.parametrize("table_bytes", [2048, 32768])
def test_every_shape_is_the_reference(table_bytes: int, rolls: bool, entry_bytes: int, tmp_path: Path) -> None:
    """The smallest table takes its channels in blocks."""
    kernel = next(
        k
        for k in KERNELS
        if isinstance(k, ConvLevels) and (k.table_bytes, k.rolls, k.entry_bytes) == (table_bytes, rolls, entry_bytes)
    )
    models = []
    blocked = parted = 0
    for case in range(len(SHAPES)):
        graph = _graph(case)
        planned = select_kernels(graph, _core("host"), {"y": "levels"})
        layer = planned[-1].layer
        assert kernel.refusal(layer, _core("host")) is None
        context = kernel.context(layer)
        blocked += context["blocks"] > 1  # type: ignore[operator]
        parted += context["parts"] > 1  # type: ignore[operator]
        step = type(planned[-1])(layer, kernel, kernel.cost(layer, _core("host")))
        models.append(Model(graph, (*planned[:-1], step), plan_arena(graph), bytes(16), no_multiply=True))
    assert blocked > (2 if table_bytes == 2048 else 0)
    assert parted >= len(LEAVES_A_LANE)
    program = build_models(models, tmp_path, flags=("-O1", *SANITIZERS))
    for number, model in enumerate(models):
        codes = edge_codes(model.graph, 8)
        found = run_model(program, model.graph, codes, number)
        assert np.array_equal(found, model.graph.run(codes)), model.graph.name


@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
@pytest.mark.parametrize("board", ["ch32v003", "hifive1", "microbit", "nucleo-f401re"])
def test_the_loops_of_every_core(board: str, toolchain: str, tmp_path: Path) -> None:
    """One shape with rows of eight words, one with rows of four."""
    machine = large(load_board(board))
    for case in (4, 8):
        model = model_of(_graph(case), _core(machine.core), "levels")
        codes = edge_codes(model.graph, 3)
        found, instructions = run_emulated(model, machine, toolchain, codes, tmp_path / str(case))
        assert np.array_equal(found, model.graph.run(codes))
        assert 0.6 < model.layers[-1].cost.instructions / instructions < 1.6
