"""Adder and minconv sums in lanes: the C on the host, the bits and the declared cost on every emulated core."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from emulated_layers import edge_codes, large, layer_graph, model_of, run_emulated
from host_model import SANITIZERS, build_models, run_model
from mcucompile.encodings import given_weights
from mcucompile.ir import Array, Format, Graph
from mcucompile.kernels import KERNELS, Core, Kernel, Layer
from mcucompile.kernels.dense_lanes import DenseLanes
from mcucompile.ops import IntegerDense
from mcucompile.ops.window import Window
from mcucompile.plan import select_kernels
from mcucompile.targets.boards import load_board

BOARDS = ("ch32v003", "hifive1", "microbit")
CORES = {"host", "rv32ec", "rv32imac", "cortex-m0"}
ONE_ROW, TWO_ROWS = Core(has_multiplier=False, name="rv32ec"), Core(has_multiplier=False)
EDGES = (-128, -127, -64, -1, 0, 1, 63, 64, 127, 128, 255)


def _given(values: Array, *, similarity: str = "adder", signed: bool = True, rows: int = 1, name: str = "net") -> Graph:
    """Return the graph of one layer with integer weights that were given, (n_out, n_in), on the scale of its input."""
    random = np.random.default_rng(values.size)
    graph = layer_graph(
        random.normal(0, 0.1, values.shape), "int8", similarity=similarity, signed=signed, rows=rows, name=name
    )
    weights = given_weights(values, np.ones(1))
    assert weights is not None
    ops = tuple(replace(op, weights=weights) if isinstance(op, IntegerDense) else op for op in graph.ops)
    assert ops != graph.ops
    return replace(graph, ops=ops)


def _narrow(n_out: int, n_in: int, *, outliers: bool = True) -> Array:
    """Return weights most of which are in a window of 128 values, with edges among them."""
    random = np.random.default_rng(n_out * n_in)
    values = np.clip(np.round(random.normal(5, 22, (n_out, n_in))), -58, 68).astype(np.int64)
    if outliers:
        values[0, 0], values[-1, -1], values[n_out // 2, n_in // 2] = 127, -127, 255
    return values


def _wide(n_out: int, n_in: int, *, low: int = -124) -> Array:
    """Return weights from `low` on that no window holds, and some beyond what inputs reach."""
    values = np.random.default_rng(n_out * n_in).integers(low, low + 245, (n_out, n_in))
    values.reshape(-1)[: len(EDGES)] = EDGES[: values.size]
    return values


def _cases(similarity: str) -> list[Graph]:
    """Return layers of every number of lanes, of odd sizes, and of sums that reach the ends of lanes."""
    far = {"similarity": similarity}
    return [
        _given(_narrow(7, 33), name="narrow", **far),  # type: ignore[arg-type]
        _given(_narrow(5, 70), signed=False, rows=3, name="unsigned_rows", **far),  # type: ignore[arg-type]
        _given(_narrow(6, 300, outliers=False), name="inside", **far),  # type: ignore[arg-type]
        _given(_narrow(3, 600), name="far_outliers", **far),  # type: ignore[arg-type]
        _given(_wide(5, 34), name="wide", **far),  # type: ignore[arg-type]
        _given(_wide(4, 107, low=0), signed=False, name="unsigned_wide", **far),  # type: ignore[arg-type]
        _given(np.array([[127], [0], [-5]]), name="one_input", **far),  # type: ignore[arg-type]
        # Each difference is the largest: lanes would carry if too many were added.
        _given(np.full((3, 522), 127), signed=False, name="full_quads", **far),  # type: ignore[arg-type]
        _given(np.repeat([[255], [255], [0]], 525, axis=1), signed=False, name="full_triples", **far),  # type: ignore[arg-type]
        _given(np.full((2, 2061), 127), signed=False, name="two_parts", **far),  # type: ignore[arg-type]
        _given(np.full((2, 4200), 63), name="three_parts", **far),  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize("core", [ONE_ROW, TWO_ROWS], ids=["one_row", "two_rows"])
@pytest.mark.parametrize("similarity", ["adder", "minconv"])
def test_the_host_gives_the_bits_of_the_reference(similarity: str, core: Core, tmp_path: Path) -> None:
    graphs = _cases(similarity)
    models = [model_of(graph, core, "lanes") for graph in graphs]
    program = build_models(models, tmp_path, flags=("-O1", *SANITIZERS))
    for number, graph in enumerate(graphs):
        codes = edge_codes(graph, 10)
        expected = graph.run(codes)
        assert np.array_equal(run_model(program, graph, codes, number), expected), graph.name
        # One weight and its negative leave few sums.
        assert len(np.unique(expected)) > 2, graph.name
    assert len(graphs) == 11


def test_both_widths_and_parts_are_among_the_cases() -> None:
    contexts = {graph.name: _context(graph) for graph in _cases("adder")}
    forms = {name: context["form"] for name, context in contexts.items()}
    assert forms["narrow"] == forms["unsigned_rows"] == forms["full_quads"] == "quads"
    assert forms["wide"] == forms["unsigned_wide"] == forms["full_triples"] == "triples"
    assert contexts["narrow"]["has_outliers"] == (True, True)
    assert contexts["unsigned_rows"]["has_outliers"] == (True, False)
    assert contexts["inside"]["has_outliers"] == (False, False)
    assert [contexts[name]["parts"] for name in ("full_quads", "two_parts", "three_parts")] == [1, 2, 3]


def test_sums_are_those_of_a_brute_force_loop() -> None:
    graph = _given(_wide(5, 34))
    (op,) = graph.ops
    assert isinstance(op, IntegerDense)
    for code in edge_codes(graph, 3):
        sums = [[-sum(abs(int(x) - int(w)) for w, x in zip(row, code[0], strict=True)) for row in op.weights.values]]
        assert np.array_equal(graph.run(code[None])[0], op.requantize.apply(np.array(sums)))


def test_windows(tmp_path: Path) -> None:
    """Convolutions with padding, over channels that are no whole words."""
    random = np.random.default_rng(5)
    window = Window((3, 3), (2, 1), before=(1, 1), after=(1, 1))
    graphs = [
        layer_graph(
            random.normal(0, 0.3, (7, 3, 3, 5)),
            "int8",
            similarity=similarity,
            signed=signed,
            image=(7, 5),
            window=window,
            name=f"{similarity}_{signed}".lower(),
        )
        for similarity in ("adder", "minconv")
        for signed in (False, True)
    ]
    program = build_models([model_of(g, TWO_ROWS, "lanes") for g in graphs], tmp_path, flags=("-O1", *SANITIZERS))
    for number, graph in enumerate(graphs):
        codes = edge_codes(graph, 10)
        assert np.array_equal(run_model(program, graph, codes, number), graph.run(codes)), graph.name


@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
@pytest.mark.parametrize("board", BOARDS)
def test_every_core_gives_the_bits_at_the_declared_cost(board: str, toolchain: str, tmp_path: Path) -> None:
    machine = large(load_board(board))
    cases = (
        _given(_narrow(24, 256)),
        _given(_wide(16, 96)),
        _given(_narrow(9, 130), similarity="minconv"),
    )
    for number, graph in enumerate(cases):
        model = model_of(graph, Core(has_multiplier=False, name=machine.core), "lanes")
        codes = np.concatenate([edge_codes(graph, 0)[[0, -1]], edge_codes(graph, 2)[-2:]])
        found, instructions = run_emulated(model, machine, toolchain, codes, tmp_path / str(number))
        assert np.array_equal(found, graph.run(codes))
        declared = model.layers[-1].cost.instructions
        assert abs(declared - instructions) < 0.1 * instructions, (number, declared, instructions)


def _kernel(core: str) -> DenseLanes:
    found = [k for k in KERNELS if isinstance(k, DenseLanes) and core in k.cores]
    assert len(found) == 1
    return found[0]


def _context(graph: Graph) -> dict[str, object]:
    planned = model_of(graph, TWO_ROWS, "lanes").layers[-1]
    return dict(planned.kernel.context(planned.layer))


def test_the_table_has_the_kernel_for_every_core() -> None:
    assert {core for k in KERNELS if isinstance(k, DenseLanes) for core in k.cores} == CORES


def _planned(graph: Graph, core: str) -> Kernel:
    return select_kernels(graph, Core(has_multiplier=False, name=core))[-1].kernel


def test_cores_without_dsp_instructions_get_it() -> None:
    graph = _given(_narrow(32, 256))
    assert [_planned(graph, core).name for core in ("rv32ec", "rv32imac", "cortex-m0")] == ["lanes"] * 3
    assert _planned(graph, "cortex-m4").name == "absolute differences"


def test_flash_and_stack_are_what_the_tables_take() -> None:
    planned = model_of(_given(_narrow(7, 64)), ONE_ROW, "lanes").layers[-1]
    context = planned.kernel.context(planned.layer)
    bytes_ = 4 * len(context["words"])  # type: ignore[arg-type]
    bytes_ += len(context["outliers"]) + len(context["counts"])  # type: ignore[arg-type]
    assert len(context["counts"]) == 2 * 7  # type: ignore[arg-type]
    assert planned.cost.flash_bytes == bytes_ + 4 * 7
    # Of packed inputs and a sum.
    assert planned.cost.stack_bytes == 4 * 16 + 4


def test_what_it_refuses() -> None:
    layer = model_of(_given(_narrow(4, 20)), ONE_ROW, "lanes").layers[-1].layer
    kernel = _kernel("rv32ec")
    assert kernel.refusal(layer, ONE_ROW) is None
    assert kernel.refusal(layer, replace(ONE_ROW, name="cortex-m0")) == "is made for rv32ec"
    assert kernel.refusal(replace(layer, formats=(Format(16, True),)), ONE_ROW) == "needs an 8-bit input"
    random = np.random.default_rng(4)
    dot = layer_graph(random.normal(0, 1, (4, 20)), "int8")
    assert kernel.refusal(_layer(dot), ONE_ROW) == "computes adder and minconv only"
    weight = random.normal(0, 1, (4, 3, 3, 2))
    long = _layer(_given(_narrow(1, 32768)))
    assert kernel.refusal(long, ONE_ROW) == "takes at most 32767 inputs"
    groups = layer_graph(weight, "int8", similarity="adder", image=(5, 5), window=Window((3, 3)), groups=2)
    assert kernel.refusal(_layer(groups), ONE_ROW) == "computes one group of channels only"


def _layer(graph: Graph) -> Layer:
    return select_kernels(graph, ONE_ROW)[-1].layer
