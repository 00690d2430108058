"""Convolution by tables of levels: small shapes of every kind on the host, few of them on every emulated core."""

from pathlib import Path

import numpy as np
import pytest
from emulated_layers import edge_codes, large, layer_graph, model_of, run_emulated
from host_model import SANITIZERS, build_models, run_model
from mcucompile.emit import Model
from mcucompile.ir import Array, Graph
from mcucompile.kernels import KERNELS, Core
from mcucompile.kernels.conv_levels import ConvLevels, _folded, _levels
from mcucompile.kernels.lane_streams import ADD, ADD_END, SKIP, STORE_END
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


@pytest.mark.parametrize(
    ("table_bytes", "rolls", "entry_bytes"),
    [(2048, True, 4), (32768, True, 2), (2048, False, 2), (32768, False, 4)],
)
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
    """Shapes with rows of eight words and of four, with a stride, with padding, and with several parts of a sum."""
    machine = large(load_board(board))
    for case in (4, 5, 8):
        model = model_of(_graph(case), _core(machine.core), "levels")
        codes = edge_codes(model.graph, 3)
        found, instructions = run_emulated(model, machine, toolchain, codes, tmp_path / str(case))
        assert np.array_equal(found, model.graph.run(codes))
        assert 0.6 < model.layers[-1].cost.instructions / instructions < 1.6


@pytest.mark.parametrize("table_bytes", [2048, 32768])
def test_no_lane_overflows_and_sums_are_the_similarities(table_bytes: int) -> None:
    """Tokens, followed with the smallest and the largest entries; and the whole sum, from its definition."""
    parted = subtracted = 0
    for case in range(len(SHAPES)):
        layer = select_kernels(_graph(case), _core("host"), {"y": "levels"})[-1].layer
        kernel = next(k for k in KERNELS if isinstance(k, ConvLevels) and k.table_bytes == table_bytes and k.rolls)
        plan = kernel._plan(layer)
        assert isinstance(layer.op, IntegerConv)
        codes = layer.op.weights.codes
        ends = np.zeros((2, len(codes), len(plan.parts)), dtype=np.int64)
        for tokens in plan.tokens():
            for output in range(len(codes)):
                _follow(tokens, plan.levels.entries.max(axis=1), plan.layout.row_words, ends[:, output])
            assert not tokens
        # Each part was begun once, and holds all that is added and subtracted.
        bias = np.array([part.bias for part in plan.parts])
        assert (ends[0] <= bias).all()
        assert (ends[1] + bias <= 65535).all()
        reach = plan.levels.signed_reach(codes)
        assert np.array_equal(ends[1].sum(axis=1) - ends[0].sum(axis=1), reach.sum(axis=1))
        parted += len(plan.parts) > 1
        subtracted += bool(ends[0].any())
        for x in (layer.formats[0].minimum, 1, layer.formats[0].maximum):
            for levels in (_levels(layer), plan.levels):
                entries = np.where(
                    levels.row_of_code < 0, 0, levels.signs * levels.entries[levels.row_of_code, x % 256]
                )
                found = (entries + levels.constants)[codes].sum(axis=1)
                term = SIMILARITIES[layer.op.similarity].term
                assert np.array_equal(
                    found, [sum(int(term(x, int(w))) for w in row) for row in layer.op.weights.values]
                )
    assert parted >= len(LEAVES_A_LANE)
    assert subtracted >= 2


def _follow(tokens: list[int], largest: Array, row_words: int, parts: Array) -> None:
    """Remove an output's tokens, and add to its parts what they subtract and add at most. parts: (2, parts)."""
    part = 0
    now = np.zeros(2, dtype=np.int64)
    while True:
        token = tokens.pop(0)
        assert token not in (64,)
        if token < 64:
            for _ in range(token // 8 or 8):
                now[1] += largest[tokens.pop(0) // 4 // row_words % len(largest)]
        elif token == 72:
            now = now[::-1].copy()
        elif token == SKIP:
            part += 1
        else:
            assert token in (ADD, ADD_END) or not parts[:, part].any()
            parts[:, part] += now
            part, now = part + 1, 0 * now
        if token in (STORE_END, ADD_END):
            return


def test_levels_that_differ_by_a_constant_share_a_row() -> None:
    """|x - w| of x that is not negative is the same for all negative w, but for a constant."""
    weight = np.array([-7, -5, -3, 0, 2, 4, 7], dtype=np.float64).reshape(7, 1, 1, 1)
    graph = layer_graph(weight / 7, "int4", similarity="adder", image=(2, 2), window=Window((1, 1)))
    layer = select_kernels(graph, _core("host"), {"y": "levels"})[-1].layer
    assert isinstance(layer.op, IntegerConv)
    positive = {max(int(w), 0) for w in layer.op.weights.values.flat}
    assert len(_levels(layer).entries) == len(positive) < len(set(layer.op.weights.values.flat))
    # |x - 0| and |x - 255| have a constant sum.
    assert len(_folded(_levels(layer)).entries) == len(positive) - 1
    # Nothing is added for a weight of 0 where its similarity is 0.
    graph = layer_graph(weight / 7, "int4", similarity="minconv", image=(2, 2), window=Window((1, 1)))
    layer = select_kernels(graph, _core("host"), {"y": "levels"})[-1].layer
    assert len(_levels(layer).entries) == 6
    # What a weight adds the opposite one subtracts.
    folded = _folded(_levels(layer))
    assert len(folded.entries) == len({abs(int(w)) for w in layer.op.weights.values.flat if w})
    assert sorted(set(folded.signs.tolist())) == [-1, 1]


def test_it_refuses_what_lanes_cannot_hold() -> None:
    kernel = next(k for k in KERNELS if isinstance(k, ConvLevels) and k.table_bytes == 2048)
    random = np.random.default_rng(5)
    cases = {
        "weights have too many values": ((2, 3, 3, 40), "int8", "dot"),
        "needs 1 to 16 levels, a table of one channel, and sums in 32 parts": ((2, 3, 3, 9), "int8", "minconv"),
        # What is constant needs no row.
        "needs 1 to 16 levels, a table of one channel, and sums in 32 parts.": ((2, 1, 1, 3), "int8", "ternary"),
    }
    for reason, (shape, weights, similarity) in cases.items():
        weight = random.uniform(-1, 1, shape)
        if similarity == "minconv":
            weight = np.linspace(-1, 1, 40)[random.integers(0, 40, shape)]
        if similarity == "ternary":
            weight = np.zeros(shape)
        window = Window(shape[1:3], before=(0, shape[2] // 2), after=(0, shape[2] // 2))
        graph = layer_graph(weight, weights, similarity=similarity, image=(3, 4), window=window)
        assert kernel.refusal(select_kernels(graph, _core("host"))[-1].layer, _core("host")) == reason.rstrip(".")


@pytest.mark.parametrize("streamed", [True, False])
def test_a_network_runs_it(streamed: bool, tmp_path: Path) -> None:
    """Row by row, and whole, where an output lies over its input; rows are longer than a segment."""
    from graphs_convolution import residual  # noqa: PLC0415 - a larger graph than the others
    from mcucompile.calibrate import calibrate  # noqa: PLC0415
    from mcucompile.passes import simplify  # noqa: PLC0415
    from mcucompile.quantize import parse_weights, quantize  # noqa: PLC0415

    real = simplify(residual(size=20, mean=10))
    graph = quantize(real, calibrate(real, None), parse_weights("int4", real), 2)
    chosen = {op.name: "levels" for op in graph.layers if isinstance(op, IntegerConv) and not op.planar}
    arena = plan_arena(graph, choose_streams(graph)) if streamed else plan_arena(graph)
    model = Model(graph, select_kernels(graph, _core("host"), chosen), arena, bytes(16), no_multiply=True)
    assert bool(arena.streams) == streamed
    assert sum(step.kernel.name == "levels" for step in model.layers) >= 3
    program = build_models([model], tmp_path, flags=("-O1", *SANITIZERS))
    codes = edge_codes(graph, 6)
    assert np.array_equal(run_model(program, graph, codes, 0), graph.run(codes))
