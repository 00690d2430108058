"""Weights as code by squares of differences: every bit on the host and on emulated cores, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from emulated_layers import edge_codes, large, layer_graph, model_of, run_emulated
from host_model import SANITIZERS, build_models, run_model
from mcucompile.emit import Model
from mcucompile.kernels import KERNELS, Core, Layer
from mcucompile.kernels.dense_squares import DenseSquares
from mcucompile.ops import IntegerDense
from mcucompile.ops.window import Window
from mcucompile.targets.boards import load_board

CORES = ("rv32ec", "rv32imac")
# Outputs, inputs, rows; one more output and one less than registers take at a time.
SIZES = ((9, 7, 3), (3, 1, 1), (17, 5, 1), (1, 512, 1))


def _model(similarity: str, core: str, size: tuple[int, int, int], *, signed: bool, name: str = "net") -> Model:
    n_out, n_in, rows = size
    weight = np.random.default_rng(n_in).uniform(-0.2, 0.2, (n_out, n_in))
    graph = layer_graph(weight, "int8", similarity=similarity, signed=signed, rows=rows, name=name)
    return model_of(graph, Core(has_multiplier=False, name=core), "square code")


@pytest.mark.parametrize("similarity", ["dot", "euclid"])
def test_every_size_on_the_host(similarity: str, tmp_path: Path) -> None:
    models = [
        _model(similarity, CORES[i % 2], size, signed=signed, name=f"net{i}")
        for i, (size, signed) in enumerate((size, signed) for size in SIZES for signed in (False, True))
    ]
    window = Window((3, 3), (2, 1), before=(1, 1), after=(1, 1))
    weight = np.random.default_rng(5).uniform(-0.2, 0.2, (6, 3, 3, 2))
    graph = layer_graph(weight, "int8", similarity=similarity, image=(7, 5), window=window, name="windows")
    models.append(model_of(graph, Core(has_multiplier=False, name="rv32ec"), "square code"))
    program = build_models(models, tmp_path, flags=("-O0", *SANITIZERS))
    for number, model in enumerate(models):
        codes = edge_codes(model.graph, 20)
        assert np.array_equal(run_model(program, model.graph, codes, number), model.graph.run(codes)), number


@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
@pytest.mark.parametrize("similarity", ["dot", "euclid"])
@pytest.mark.parametrize("board", ["ch32v003", "hifive1"])
def test_the_instructions_of_every_core(board: str, similarity: str, toolchain: str, tmp_path: Path) -> None:
    machine = large(load_board(board))
    model = _model(similarity, machine.core, (17, 33, 1), signed=toolchain == "zig")
    codes = edge_codes(model.graph, 8)
    found, instructions = run_emulated(model, machine, toolchain, codes, tmp_path)
    assert np.array_equal(found, model.graph.run(codes))
    assert model.layers[-1].cost.instructions == pytest.approx(instructions, rel=0.15)


def test_what_is_refused() -> None:
    kernel = next(k for k in KERNELS if isinstance(k, DenseSquares) and k.assembly.core == "rv32ec")
    core = Core(False, "rv32ec")

    def refusal(n_out: int, n_in: int) -> str | None:
        return kernel.refusal(_layer(n_out, n_in), core)

    assert refusal(8, 512) is None
    assert refusal(7, 513) == "takes at most 512 inputs"
    assert refusal(9, 512) == "4608 weights would make too much code"
    assert kernel.refusal(_layer(2, 3), Core(False, "rv32imac")) == "is made for rv32ec"
    layer = _layer(2, 3)
    assert isinstance(layer.op, IntegerDense)
    adder = replace(layer, op=replace(layer.op, similarity="adder"))
    assert kernel.refusal(adder, core) == "computes dot and euclid only"
    assert kernel.refusal(replace(layer, formats=(replace(layer.formats[0], bits=16),)), core) == "needs an 8-bit input"


def _layer(n_out: int, n_in: int) -> Layer:
    graph = layer_graph(np.ones((n_out, n_in)), "int8")
    return model_of(graph, Core(False, "rv32ec"), "quarter square").layers[-1].layer
