"""Convolution with weights as code for two pixels: small shapes on the host, few of them on every emulated core."""

from pathlib import Path

import numpy as np
import pytest
from emulated_layers import edge_codes, large, layer_graph, model_of, run_emulated
from host_model import SANITIZERS, build_models, run_model
from mcucompile.ir import Graph
from mcucompile.kernels import KERNELS, Core
from mcucompile.kernels.conv_columns import ConvColumns
from mcucompile.ops.window import Window
from mcucompile.plan import select_kernels
from mcucompile.targets.boards import load_board

NAME = "column code of pairs"
SAME = Window((3, 3), before=(1, 1), after=(1, 1))
# Image, channels, outputs, window, weights, similarity, signed.
SHAPES = [
    ((1, 2), 1, 1, Window((1, 1)), "log3", "dot", False),
    ((2, 2), 3, 9, SAME, "int4", "dot", True),
    ((5, 3), 3, 2, SAME, "log3", "dot", True),
    ((4, 16), 4, 3, SAME, "int8", "ternary", False),
    # Three segments, the last with fewer pixels than the others, and an odd number of them.
    ((3, 35), 6, 2, Window((1, 3)), "int4", "dot", True),
    ((7, 33), 2, 17, Window((3, 3), (2, 2), before=(0, 1), after=(1, 0)), "int4", "dot", False),
    ((9, 21), 7, 3, Window((2, 4), (1, 3), (2, 2), (1, 2), (1, 2)), "log4", "dot", False),
    # Sums that leave a lane unless they are made in parts; products that nearly fill one.
    ((3, 4), 60, 2, SAME, "int4", "dot", False),
    ((2, 5), 300, 3, Window((1, 1)), "int8", "ternary", False),
    ((2, 4), 9, 21, SAME, "log3", "dot", False),
    ((6, 9), 3, 2, Window((4, 1), (3, 1), (1, 1), (2, 0), (3, 0)), "int8", "dot", True),
]
IN_PARTS = (6, 7, 8, 9, 10)


def _graph(case: int) -> Graph:
    image, channels, n_out, window, weights, similarity, signed = SHAPES[case]
    random = np.random.default_rng(case)
    weight = random.normal(0, 0.5, (n_out, *window.size, channels))
    if similarity == "ternary":
        weight = np.sign(weight) * (np.abs(weight) > 0.05)
    if n_out == 9:
        # All that are made at a time.
        weight[5:] = 0
    return layer_graph(
        weight, weights, similarity=similarity, signed=signed, image=image, window=window, name=f"net{case}"
    )


def _core(name: str) -> Core:
    return Core(has_multiplier=False, name=name)


def test_every_shape_is_the_reference(tmp_path: Path) -> None:
    """As C."""
    models = [model_of(_graph(case), _core("host"), NAME) for case in range(len(SHAPES))]
    kernel = models[0].layers[-1].kernel
    parts = [len(kernel.context(model.layers[-1].layer)["parts"]) for model in models]  # type: ignore[arg-type]
    assert [case for case, count in enumerate(parts) if count > 1] == list(IN_PARTS)
    program = build_models(models, tmp_path, flags=("-O1", *SANITIZERS))
    for number, model in enumerate(models):
        codes = edge_codes(model.graph, 8)
        found = run_model(program, model.graph, codes, number)
        assert np.array_equal(found, model.graph.run(codes)), model.graph.name


@pytest.mark.parametrize(("toolchain", "case"), [("gcc", 5), ("zig", 4)])
@pytest.mark.parametrize("board", ["ch32v003", "hifive1", "microbit", "nucleo-f401re"])
def test_the_instructions_of_every_core(board: str, toolchain: str, case: int, tmp_path: Path) -> None:
    """An odd number of pixels, and one pixel of a pair only; a stride; sums in parts."""
    machine = large(load_board(board))
    model = model_of(_graph(case), _core(machine.core), NAME)
    codes = edge_codes(model.graph, 3)
    found, instructions = run_emulated(model, machine, toolchain, codes, tmp_path)
    assert np.array_equal(found, model.graph.run(codes))
    assert 0.6 < model.layers[-1].cost.instructions / instructions < 1.6


def test_no_sum_leaves_a_lane() -> None:
    """Code, followed with the ends of x that make the sums of every output largest and smallest."""
    for case in IN_PARTS:
        layer = select_kernels(_graph(case), _core("host"), {"y": NAME})[-1].layer
        kernel = next(k for k in KERNELS if isinstance(k, ConvColumns) and k.assembly.core == "host")
        ends = layer.formats[0].minimum, layer.formats[0].maximum
        largest = 0
        whole = np.zeros(layer.output_shape[3], dtype=np.int64)
        for part in kernel._plan(layer).parts:
            for block in part.blocks:
                highest, lowest = (np.zeros(block.sums, dtype=np.int64) for _ in range(2))
                for column in block.code:  # type: ignore[attr-defined]
                    factor = np.zeros(block.sums, dtype=np.int64)
                    shift = 0
                    for step in column.steps:
                        shift += step.shift
                        factor[list(step.plus)] += 1 << shift
                        factor[list(step.minus)] -= 1 << shift
                    highest += np.maximum(factor * ends[0], factor * ends[1])
                    lowest += np.minimum(factor * ends[0], factor * ends[1])
                largest = max(largest, int(highest.max()), int(-lowest.min()))
                whole[block.first : block.first + block.sums] += np.maximum(highest, -lowest) << part.shift
        assert largest <= 32767 < whole.max()


def test_refusals() -> None:
    """What it cannot compute."""
    core = _core("host")
    kernel = next(k for k in KERNELS if isinstance(k, ConvColumns) and k.assembly.core == "host")
    column = layer_graph(np.ones((1, 1, 1, 1)), "int4", image=(4, 1), window=Window((1, 1)))
    adder = layer_graph(np.ones((1, 1, 1, 1)), "int4", similarity="adder", image=(4, 4), window=Window((1, 1)))
    nothing = layer_graph(np.zeros((1, 1, 1, 1)), "int4", image=(4, 4), window=Window((1, 1)))
    for graph, reason in (
        (column, "needs rows of two outputs"),
        (adder, "computes dot and ternary only"),
        (nothing, "needs weights that are not 0"),
    ):
        assert kernel.refusal(select_kernels(graph, core)[-1].layer, core) == reason
