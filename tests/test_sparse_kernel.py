"""Sparse weights as lists of inputs: the C on the host, the bits and the declared cost on every emulated core."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from emulated_layers import SOURCE, edge_codes, large, layer_graph, model_of, run_emulated
from host_model import SANITIZERS, build_models, run_model
from mcucompile.calibrate import calibrate
from mcucompile.emit import Model
from mcucompile.encodings import given_weights
from mcucompile.ir import Array, Format, Graph, Tensor, build_graph
from mcucompile.kernels import KERNELS, Core, Kernel
from mcucompile.kernels.dense_sparse import DenseSparse
from mcucompile.ops import Dense, IntegerDense
from mcucompile.ops.window import Window
from mcucompile.plan import select_kernels
from mcucompile.quantize import parse_activations, parse_weights, quantize
from mcucompile.targets.boards import load_board

BOARDS = ("ch32v003", "hifive1", "microbit", "nucleo-f401re")
CORES = {"host", "rv32ec", "rv32imac", "cortex-m0", "cortex-m4"}
HOST = Core(has_multiplier=False)


def _signs(n_out: int, n_in: int, density: float, *, fours: bool = False) -> Array:
    """Return signs, (n_out, n_in); with `fours` each output has a multiple of four of each."""
    random = np.random.default_rng(n_out * n_in)
    weight = np.zeros((n_out, n_in))
    for row in weight:
        count = random.binomial(n_in, density)
        plus = int(count * random.uniform(0.3, 0.7))
        if fours:
            count, plus = count - count % 4, plus - plus % 4
        places = random.permutation(n_in)[:count]
        row[places] = -1
        row[places[:plus]] = 1
    return weight


def _with_edges(weight: Array) -> Array:
    """Return weights with an output of zeros, one of a single weight, the last one, and one of nothing but weights."""
    weight[0] = 0
    weight[len(weight) // 2] = np.eye(1, weight.shape[1], weight.shape[1] - 1)[0]
    weight[-1] = -1
    return weight


def _ternary(weight: Array, *, signed: bool = False, rows: int = 1, name: str = "net") -> Graph:
    return layer_graph(weight, "int8", similarity="ternary", signed=signed, rows=rows, name=name)


def _magnitudes(weights: str, count: int, *, signed: bool, name: str) -> Graph:
    weight = _with_edges(_signs(7, 61, 0.3)) * 2.0 ** -np.random.default_rng(count).integers(0, count, (7, 61))
    return layer_graph(weight, weights, signed=signed, name=name)


def _twos(n_out: int, n_in: int, name: str = "net") -> Graph:
    """Return a layer of weights 1 and 2 of both signs, four or eight of each in every output."""
    random = np.random.default_rng(n_in)
    weight = np.zeros((n_out, n_in))
    for row in weight:
        places = random.permutation(n_in)[:24]
        row[places] = np.repeat([1, -1, 2, -2], [8, 8, 4, 4])
    return layer_graph(weight, "log3", name=name)


def _given(graph: Graph, values: Array) -> Graph:
    """Return the graph of one layer with other integer weights."""
    (op,) = graph.ops
    assert isinstance(op, IntegerDense)
    weights = given_weights(values, np.ones(1))
    assert weights is not None
    return replace(graph, ops=(replace(op, weights=weights),))


def _graphs() -> list[Graph]:
    far = np.zeros((3, 900))
    far[0, [0, 255, 256, 511, 899]] = (1, -1, 1, 1, -1)
    far[1, 899] = 1
    return [
        _ternary(_with_edges(_signs(9, 33, 0.2)), name="odd"),
        _ternary(_with_edges(_signs(9, 33, 0.2)), signed=True, rows=3, name="rows"),
        _ternary(_signs(6, 96, 0.4, fours=True), name="fours"),
        _ternary(_signs(6, 97, 0.4, fours=True), signed=True, name="signed_fours"),
        _ternary(np.array([[1.0], [-1.0], [0.0]]), name="one_input"),
        # 256 inputs have indices of a byte, a list of all of them has a count of two.
        _ternary(_with_edges(_signs(4, 256, 0.1)), name="counts"),
        _ternary(_with_edges(_signs(4, 257, 0.1)), name="halfwords"),
        _ternary(far, signed=True, name="far"),
        _magnitudes("log3", 4, signed=True, name="log3"),
        _magnitudes("int4", 3, signed=False, name="int4"),
        _magnitudes("dlq3", 8, signed=True, name="dlq3"),
        _twos(7, 50, name="twos"),
        _given(_ternary(_signs(5, 40, 0.3), name="given"), np.array([[0, -3, 200, 0, 5] * 8] * 5)),
    ]


def test_the_host_gives_the_bits_of_the_reference(tmp_path: Path) -> None:
    graphs = _graphs()
    models = [model_of(graph, HOST, "sparse") for graph in graphs]
    program = build_models(models, tmp_path, flags=("-O1", *SANITIZERS))
    for number, graph in enumerate(graphs):
        codes = edge_codes(graph, 30)
        assert np.array_equal(run_model(program, graph, codes, number), graph.run(codes)), graph.name
    assert len(graphs) == 13


def test_sums_are_those_of_a_brute_force_loop() -> None:
    graph = _ternary(_with_edges(_signs(9, 33, 0.2)), signed=True)
    (op,) = graph.ops
    assert isinstance(op, IntegerDense)
    signs = np.sign(op.weights.values)
    for code in edge_codes(graph, 3):
        sums = [[sum(int(s) * int(x) for s, x in zip(row, code[0], strict=True)) for row in signs]]
        assert np.array_equal(graph.run(code[None])[0], op.requantize.apply(np.array(sums)))


def test_windows_and_wide_inputs(tmp_path: Path) -> None:
    """A convolution in groups with padding, and inputs of 16 bits."""
    random = np.random.default_rng(5)
    weight = np.sign(random.normal(0, 1, (6, 3, 3, 2))) * (random.uniform(0, 1, (6, 3, 3, 2)) < 0.3)
    window = Window((3, 3), (2, 1), before=(1, 1), after=(1, 1))
    conv = layer_graph(weight, "int8", similarity="ternary", image=(7, 5), window=window, groups=2, name="conv")
    wide = _wide(_signs(5, 70, 0.2))
    models = [model_of(graph, HOST, "sparse") for graph in (conv, wide)]
    program = build_models(models, tmp_path, flags=("-O1", *SANITIZERS))
    for number, graph in enumerate((conv, wide)):
        codes = edge_codes(graph, 30)
        assert np.array_equal(run_model(program, graph, codes, number), graph.run(codes)), graph.name


def _wide(weight: Array) -> Graph:
    """Return a layer of 16-bit inputs behind one that makes them."""
    first = np.random.default_rng(2).normal(0, 1, (weight.shape[1], 9))
    ops = tuple(
        Dense(
            name=y,
            inputs=(x,),
            output=y,
            source=SOURCE,
            similarity=similarity,
            weight=values.astype(np.float32),
            bias=np.zeros(len(values), np.float32),
        )
        for x, y, similarity, values in (("x", "a", "dot", first), ("a", "y", "ternary", weight))
    )
    real = build_graph("wide", (Tensor("x", (1, 9)),), ("y",), ops, SOURCE)
    samples = np.random.default_rng(3).normal(0, 1, (30, 1, 9)).astype(np.float32)
    activations = parse_activations("int16", real)
    graph = quantize(real, calibrate(real, samples), parse_weights("int8", real), 2, activations=activations)
    assert graph.tensors["a"].stored.bits == 16
    return graph


@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
@pytest.mark.parametrize("board", BOARDS)
def test_every_core_gives_the_bits_at_the_declared_cost(board: str, toolchain: str, tmp_path: Path) -> None:
    machine = large(load_board(board))
    cases = (
        _ternary(_signs(32, 196, 0.15, fours=True)),
        _twos(32, 196),
        _ternary(_signs(12, 400, 0.15), signed=True),
        _magnitudes("log3", 3, signed=True, name="net"),
    )
    for number, graph in enumerate(cases):
        model = model_of(graph, Core(has_multiplier=False, name=machine.core), "sparse")
        codes = edge_codes(graph, 2)
        found, instructions = run_emulated(model, machine, toolchain, codes, tmp_path / str(number))
        assert np.array_equal(found, graph.run(codes))
        declared = model.layers[-1].cost.instructions
        assert abs(declared - instructions) < 0.1 * instructions, (number, declared, instructions)


def _sparse(core: str) -> DenseSparse:
    found = [k for k in KERNELS if isinstance(k, DenseSparse) and core in k.cores]
    assert len(found) == 1
    return found[0]


def test_the_table_has_the_kernel_for_every_core() -> None:
    assert {core for k in KERNELS if isinstance(k, DenseSparse) for core in k.cores} == CORES


def _planned(graph: Graph) -> Kernel:
    # Code is faster, and larger.
    return select_kernels(graph, Core(has_multiplier=False, name="rv32ec"), optimize="size")[-1].kernel


def test_sparse_layers_get_it_and_dense_ones_do_not() -> None:
    assert _planned(_ternary(_signs(32, 196, 0.2))).name == "sparse"
    random = np.random.default_rng(8)
    assert _planned(layer_graph(random.normal(0, 1, (32, 196)), "int8")).name != "sparse"


def test_flash_is_what_the_tables_take() -> None:
    weight = _signs(8, 196, 0.2)
    model = model_of(_ternary(weight), HOST, "sparse")
    planned = model.layers[-1]
    tables = planned.kernel.context(planned.layer)
    assert len(tables["indices"]) == np.count_nonzero(weight)  # type: ignore[arg-type]
    assert len(tables["counts"]) == 2 * len(weight)  # type: ignore[arg-type]
    # Indices and counts of a byte, offsets of four.
    assert planned.cost.flash_bytes == np.count_nonzero(weight) + 2 * len(weight) + 4 * len(weight)


def test_what_it_refuses() -> None:
    layer = _model(_ternary(_signs(4, 20, 0.2))).layers[-1].layer
    kernel = _sparse("rv32ec")
    core = Core(has_multiplier=False, name="rv32ec")
    assert kernel.refusal(layer, core) is None
    assert kernel.refusal(layer, Core(has_multiplier=False, name="cortex-m0")) == "is made for host, rv32ec"
    wide = replace(layer, formats=(Format(32, True),))
    assert kernel.refusal(wide, core) == "needs inputs of at most 16 bits"
    dense = _model(layer_graph(np.random.default_rng(8).normal(0, 1, (4, 99)), "int8")).layers[-1].layer
    assert "magnitudes need too many lists" in (kernel.refusal(dense, core) or "")
    half = _model(layer_graph(np.sign(np.random.default_rng(8).normal(0, 1, (4, 99))) * [[1], [2], [3], [4]], "log3"))
    assert kernel.refusal(half.layers[-1].layer, core) == "most of its weights are not 0"
    zeros = _model(_ternary(np.zeros((2, 3)))).layers[-1].layer
    assert kernel.refusal(zeros, core) == "has no weight but 0"
    adder = _model(layer_graph(np.ones((2, 3)), "int8", similarity="adder")).layers[-1].layer
    assert kernel.refusal(adder, core) == "computes dot and ternary only"


def _model(graph: Graph) -> Model:
    return model_of(graph, HOST, select_kernels(graph, HOST)[-1].kernel.name)
