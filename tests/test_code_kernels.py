"""Weights as code: the C of every core's variant on the host, its instructions on every emulated core."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from emulated_layers import edge_codes, large, layer_graph, model_of, run_emulated
from host_model import SANITIZERS, build_models, run_model
from mcucompile.calibrate import calibrate
from mcucompile.emit import Model
from mcucompile.ir import Array, Format, Graph, Source, Tensor, build_graph
from mcucompile.kernels import KERNELS, Core
from mcucompile.kernels.assembly import Assembly
from mcucompile.kernels.dense_code import DenseCode
from mcucompile.kernels.dense_rows import _links
from mcucompile.numerics import canonical_signed_digits
from mcucompile.ops import Relu
from mcucompile.ops.window import Window
from mcucompile.passes import simplify
from mcucompile.plan import select_kernels
from mcucompile.quantize import parse_weights, quantize
from mcucompile.targets.boards import load_board

BOARDS = ("ch32v003", "hifive1", "microbit", "nucleo-f401re")
CORES = ("rv32ec", "rv32imac", "cortex-m0", "cortex-m4")
SUITED = {
    "column code": ("log3", "log4", "ternary"),
    "skipping column code": ("log4", "ternary"),
    "row code": ("dlq3", "dlq4", "int4", "int8", "log4"),
}


def _weight(n_out: int, n_in: int, weights: str) -> Array:
    random = np.random.default_rng(n_in)
    weight = random.normal(0, 1, (n_out, n_in))
    # An output of zeros, one of a single weight, one without a positive weight.
    weight[0] = 0
    weight[n_out // 2] = np.eye(1, n_in, n_in - 1)[0] * -2
    weight[n_out - 1] = -np.abs(weight[n_out - 1])
    return np.sign(weight) * (np.abs(weight) > 0.5) if weights == "ternary" else weight


def _model(
    kernel: str, weights: str, n_out: int, n_in: int, core: str, *, signed: bool, rows: int = 1, name: str = "net"
) -> Model:
    similarity, encoding = ("ternary", "int8") if weights == "ternary" else ("dot", weights)
    weight = _weight(n_out, n_in, weights)
    graph = layer_graph(weight, encoding, similarity=similarity, signed=signed, rows=rows, name=name)
    if kernel == "skipping column code":
        graph = with_zeros(graph, 0.5)
    return model_of(graph, Core(has_multiplier=False, name=core), kernel)


def with_zeros(graph: Graph, share: float) -> Graph:
    """Return a graph whose input is expected to have a share of zeros."""
    return graph.replaced(tensors={**graph.tensors, "x": replace(graph.input, zeros=share)})


def test_the_table_has_all_kernels_for_every_core() -> None:
    found = {(k.name, k.assembly.core) for k in KERNELS if isinstance(k, DenseCode) and k.name in SUITED}
    assert found == {(kernel, core) for kernel in SUITED for core in ("host", *CORES)}


@pytest.mark.parametrize("kernel", ["column code", "row code"])
@pytest.mark.parametrize("core", ("host", *CORES))
def test_the_c_of_every_core(core: str, kernel: str, tmp_path: Path) -> None:
    models = [
        _model(kernel, weights, n_out, n_in, core, signed=signed, rows=rows, name=f"net{i}{j}")
        for i, weights in enumerate(SUITED[kernel])
        for j, (n_out, n_in, rows, signed) in enumerate(((11, 13, 3, False), (3, 1, 1, True), (21, 33, 1, True)))
    ]
    program = build_models(models, tmp_path, flags=("-O0", *SANITIZERS))
    for number, model in enumerate(models):
        codes = edge_codes(model.graph, 20)
        assert np.array_equal(run_model(program, model.graph, codes, number), model.graph.run(codes)), number


@pytest.mark.parametrize(
    ("kernel", "weights", "n_out", "n_in", "signed", "toolchain"),
    [
        ("column code", "log4", 13, 70, True, "gcc"),
        ("column code", "log3", 2, 2100, False, "zig"),
        ("row code", "dlq4", 5, 70, True, "zig"),
        ("row code", "dlq3", 1, 2100, False, "gcc"),
    ],
)
@pytest.mark.parametrize("board", BOARDS)
def test_the_instructions_of_every_core(
    board: str, kernel: str, weights: str, n_out: int, n_in: int, signed: bool, toolchain: str, tmp_path: Path
) -> None:
    machine = large(load_board(board))
    model = _model(kernel, weights, n_out, n_in, machine.core, signed=signed)
    codes = edge_codes(model.graph, 8)
    found, instructions = run_emulated(model, machine, toolchain, codes, tmp_path)
    assert np.array_equal(found, model.graph.run(codes))
    declared = model.layers[-1].cost.instructions
    assert abs(declared - instructions) < 0.1 * instructions + 10


@pytest.mark.parametrize("board", BOARDS)
def test_columns_of_zeros_are_left_out(board: str, tmp_path: Path) -> None:
    """The declared count is that of as many zeros as are expected: here half of the codes, of some inputs all."""
    machine = large(load_board(board))
    model = _model("skipping column code", "log4", 13, 70, machine.core, signed=False)
    plain = _model("column code", "log4", 13, 70, machine.core, signed=False)
    random = np.random.default_rng(3)
    codes = random.integers(1, 256, (6, *model.graph.input.shape))
    for code, zeros in zip(codes, (0, 70, 35, 35, 20, 50), strict=True):
        code[..., random.permutation(70)[:zeros]] = 0
    found, instructions = run_emulated(model, machine, "gcc", codes, tmp_path)
    assert np.array_equal(found, model.graph.run(codes))
    declared = model.layers[-1].cost.instructions
    assert abs(declared - instructions) < 0.1 * instructions
    assert instructions < plain.layers[-1].cost.instructions


def test_zeros_are_skipped_where_samples_have_them() -> None:
    graph = layer_graph(_weight(16, 64, "log4"), "log4")
    core = Core(has_multiplier=False, name="rv32ec")
    assert graph.input.zeros < 0.02
    for share, kernel in ((0.0, "column code"), (0.05, "column code"), (0.5, "skipping column code")):
        assert select_kernels(with_zeros(graph, share), core, optimize="speed")[-1].kernel.name == kernel


def test_the_share_of_zeros_is_that_of_codes() -> None:
    """Of what an unsigned format cuts off, too; nothing is known if the range is guessed."""
    source = Source("model.onnx", "relu", "Relu")
    graph = build_graph(
        "net", (Tensor("x", (1, 40)),), ("y",), (Relu(name="y", inputs=("x",), output="y", source=source),), source
    )
    samples = np.linspace(-1, 1, 4 * 40, dtype=np.float32).reshape(4, 1, 40)
    real = simplify(graph)
    calibration = calibrate(real, samples)
    found = quantize(real, calibration, parse_weights("int8", real), 2)
    for name, tensor in found.tensors.items():
        codes = tensor.stored.quantize(calibration.values[name])
        assert tensor.zeros == pytest.approx((codes == 0).mean(), abs=0.01)
    assert found.result.zeros >= 0.5 > found.input.zeros
    guessed = quantize(real, calibrate(real, None), parse_weights("int8", real), 2)
    assert all(tensor.zeros == 0 for tensor in guessed.tensors.values())


def test_a_convolution_takes_its_windows_to_code(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    window = Window((3, 3), (2, 1), before=(1, 1), after=(1, 1))
    models = [
        model_of(
            layer_graph(
                random.normal(0, 1, (6, 3, 3, 2)), weights, image=(7, 5), window=window, groups=2, name=weights
            ),
            Core(has_multiplier=False, name="cortex-m0"),
            kernel,
        )
        for kernel, weights in (("column code", "log3"), ("row code", "dlq4"))
    ]
    program = build_models(models, tmp_path, flags=("-O0", *SANITIZERS))
    for number, model in enumerate(models):
        codes = edge_codes(model.graph, 20)
        assert np.array_equal(run_model(program, model.graph, codes, number), model.graph.run(codes))


def test_links_make_the_same_values() -> None:
    """A value is what its sum gets itself and what it gets through the value that it leaves its sum to."""
    values = tuple(round(2 ** (11 - 7 * k / 15)) for k in range(16))
    for spacing in (1, 2, 3, 4):
        links = {link.value: link for link in _links(values, spacing)}
        assert len(links) > 3
        for value in values:
            total, factor, at = 0, 1, value
            for _ in values:
                if at not in links:
                    total += factor * at
                    break
                total += factor * links[at].rest
                factor *= links[at].sign << links[at].shift
                at = links[at].following
            assert total == value
        assert all(len(canonical_signed_digits(link.rest)) < 5 for link in links.values())


def test_speed_takes_code_and_size_does_not() -> None:
    core = Core(has_multiplier=False, name="rv32ec")
    for weights, plain, code in (("dlq4", "bins", "row code"), ("log3", "shift", "column code")):
        graph = layer_graph(_weight(16, 64, weights), weights)
        assert select_kernels(graph, core, optimize="speed")[-1].kernel.name == code
        assert select_kernels(graph, core, optimize="size")[-1].kernel.name == plain


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("format_", [Format(8, True), Format(8, False), Format(16, True), Format(16, False)])
def test_loads_stay_within_their_reach(core: str, format_: Format) -> None:
    assembly = Assembly(core)
    last = assembly.reach(format_) - 1
    assert str(last * format_.item_bytes) in assembly.load("v", "x", last, format_)[0]
    assert len(assembly.load_far("v", "x", last + 1, format_)) > 1
