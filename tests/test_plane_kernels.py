"""Convolution by bit planes: small shapes of every kind on the host, few of them on every emulated core."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from emulated_layers import edge_codes, large, layer_graph, model_of, run_emulated
from host_model import SANITIZERS, build_models, run_model
from mcucompile.emit import Model
from mcucompile.ir import Array, Graph
from mcucompile.kernels import KERNELS, Core
from mcucompile.kernels.conv_buckets import ConvBuckets
from mcucompile.kernels.conv_planes import ConvPlanes, _sign_and_magnitude, _twos_complement
from mcucompile.kernels.conv_subsets import ConvSubsets, _factors, signed_digits
from mcucompile.kernels.lane_streams import ADD, ADD_END, SKIP, STORE, STORE_END
from mcucompile.kernels.lanes import row_layout
from mcucompile.ops import IntegerConv
from mcucompile.ops.window import Window
from mcucompile.plan import choose_streams, plan_arena, select_kernels
from mcucompile.targets.boards import load_board

SAME = Window((3, 3), before=(1, 1), after=(1, 1))
# Image, channels, outputs, window, weights, similarity, signed.
SHAPES = [
    ((1, 1), 1, 1, Window((1, 1)), "int4", "dot", False),
    ((1, 1), 5, 3, SAME, "int8", "dot", True),
    ((5, 3), 3, 2, SAME, "int4", "dot", True),
    ((4, 16), 4, 3, SAME, "int8", "ternary", False),
    ((3, 17), 6, 2, Window((1, 2)), "int8", "dot", False),
    ((7, 33), 2, 2, Window((3, 3), (2, 2), before=(0, 1), after=(1, 0)), "int4", "dot", False),
    ((9, 21), 7, 3, Window((2, 4), (1, 3), (2, 2), (1, 2), (1, 2)), "log3", "dot", True),
    ((3, 9), 20, 4, SAME, "dlq4", "dot", False),
    ((4, 6), 9, 3, SAME, "dlq3", "dot", True),
    # 300 weights and more of one sign: their sums leave a lane unless they are split.
    ((3, 4), 40, 2, SAME, "int8", "ternary", False),
    ((3, 4), 40, 2, SAME, "int8", "dot", True),
    # Squared distances, whose norms come from the same pixels.
    ((5, 3), 3, 2, SAME, "int8", "euclid", True),
    ((7, 33), 6, 2, Window((3, 3), (2, 2), before=(0, 1), after=(1, 0)), "int8", "euclid", False),
    ((3, 4), 40, 2, SAME, "int4", "euclid", False),
    ((3, 4), 40, 2, SAME, "dlq4", "dot", False),
]


def _graph(case: int) -> Graph:
    image, channels, n_out, window, weights, similarity, signed = SHAPES[case]
    random = np.random.default_rng(case)
    weight = random.normal(0, 1, (n_out, *window.size, channels))
    if channels == 40:
        weight = np.abs(weight) + 0.1
    if similarity == "ternary":
        weight = np.sign(weight) * (np.abs(weight) > 0.05)
    return layer_graph(
        weight, weights, similarity=similarity, signed=signed, image=image, window=window, name=f"net{case}"
    )


def _core(name: str) -> Core:
    return Core(has_multiplier=False, name=name)


@pytest.mark.parametrize("table_bytes", [2048, 32768])
def test_every_shape_is_the_reference(table_bytes: int, tmp_path: Path) -> None:
    """The smallest table takes its channels in blocks."""
    models = []
    blocked = {ConvPlanes: 0, ConvBuckets: 0}
    for case in range(len(SHAPES)):
        graph = _graph(case)
        planned = select_kernels(graph, _core("host"), {"y": "planes"})
        layer = planned[-1].layer
        for kernel_type in blocked:
            kernel = next(k for k in KERNELS if isinstance(k, kernel_type) and k.table_bytes == table_bytes)
            if kernel.refusal(layer, _core("host")) is None:
                blocked[kernel_type] += kernel.context(layer)["blocks"] > 1  # type: ignore[operator]
                step = type(planned[-1])(layer, kernel, kernel.cost(layer, _core("host")))
                named = replace(graph, name=f"net{len(models)}")
                models.append(Model(named, (step,), plan_arena(graph), bytes(16), no_multiply=True))
    assert len(models) >= 14
    assert all((count > 0) == (table_bytes == 2048) for count in blocked.values())
    program = build_models(models, tmp_path, flags=("-O1", *SANITIZERS))
    for number, model in enumerate(models):
        codes = edge_codes(model.graph, 12)
        found = run_model(program, model.graph, codes, number)
        assert np.array_equal(found, model.graph.run(codes)), (number, model.graph.name)


@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
@pytest.mark.parametrize("board", ["ch32v003", "hifive1", "microbit", "nucleo-f401re"])
def test_the_loops_of_every_core(board: str, toolchain: str, tmp_path: Path) -> None:
    """One shape with rows of eight words, one with rows of four; more rows than a turn of the loop, and fewer."""
    machine = large(load_board(board))
    for case, kernel in ((4, "planes"), (7, "planes"), (14, "buckets")):
        model = model_of(_graph(case), _core(machine.core), kernel)
        codes = edge_codes(model.graph, 3)
        found, instructions = run_emulated(model, machine, toolchain, codes, tmp_path / f"{case} {kernel}")
        assert np.array_equal(found, model.graph.run(codes))
        assert 0.6 < model.layers[-1].cost.instructions / instructions < 1.6


def test_every_representation_is_the_weights() -> None:
    values = np.random.default_rng(3).integers(-127, 128, (4, 3, 5, 3, 4))
    for form, low in itertools.product((_twos_complement, _sign_and_magnitude, signed_digits), (-127, 0)):
        clipped = np.maximum(values, low)
        assert np.array_equal(sum(plane.digits << plane.shift for plane in form(clipped)), clipped)


def _followed(tokens: list[int], rows: Array, sums: list[Array]) -> list[Array]:
    """Return what a run makes of the sums that follow, by the words of mcu_lanes.h. rows: by place in bytes."""
    sums, found, rest = list(sums), [], iter(tokens)
    now = 0 * rows[0]
    for token in rest:
        if token < 64:
            now = now + sum(rows[next(rest)] for _ in range(token // 8 or 8))
        elif token in (64, 72):
            now = 2 * now if token == 64 else -now
        else:
            kept = sums.pop(0) if sums else 0 * now
            found.append(kept if token == SKIP else now + (kept if token in (ADD, ADD_END) else 0))
            now = 0 * now
        if token in (STORE_END, ADD_END):
            return found + sums
    raise AssertionError("tokens do not end")


@pytest.mark.parametrize("kernel_type", [ConvPlanes, ConvBuckets])
def test_no_lane_overflows(kernel_type: type[ConvSubsets]) -> None:
    """Each part of each output is followed as its coefficients: they are the weights, and keep to a lane."""
    followed = 0
    for case in range(len(SHAPES)):
        layer = select_kernels(_graph(case), _core("host"), {"y": "planes"})[-1].layer
        kernel = next(k for k in KERNELS if isinstance(k, kernel_type) and k.table_bytes == 32768)
        if kernel.refusal(layer, _core("host")) is not None:
            continue
        context, plan = kernel.context(layer), kernel._plan(layer)
        values, blocking, program = _factors(layer), plan.blocking, plan.program
        assert blocking.blocks == 1
        # What each place in the table is of the weights of an output.
        shape = values.shape[1:]
        row_bytes = 4 * plan.layout.row_words
        rows: dict[int, Array] = {}
        for ky, group, kx, subset in itertools.product(*map(range, shape[:3]), range(1, 16)):
            place = (ky * blocking.block + group) * 15 + subset - 1
            of_weights = np.zeros(shape, dtype=np.int64)
            of_weights[ky, group, kx] = subset >> np.arange(4) & 1
            rows[place * row_bytes + 4 * plan.layout.tap_offsets[kx]] = of_weights
        tokens = list(context["tokens"])  # type: ignore[call-overload]
        for output in values:
            sums = _followed(tokens, rows, [])
            del tokens[: _length(tokens, len(program.sums))]
            if program.combinations:
                buckets = {4 * plan.layout.words * k: each for k, each in enumerate(sums)}
                sums = _followed(list(context["combination"]), buckets, [])  # type: ignore[call-overload]
            assert len(sums) == len(program.parts)
            assert np.array_equal(sum(s << part.shift for s, part in zip(sums, program.parts, strict=True)), output)
            for coefficients, part in zip(sums, program.parts, strict=True):
                assert -255 * int(np.minimum(coefficients, 0).sum()) <= part.bias
                assert 255 * int(np.maximum(coefficients, 0).sum()) + part.bias <= 65535
        assert not tokens
        followed += 1
    assert followed >= (len(SHAPES) if kernel_type is ConvPlanes else 4)


def _length(tokens: list[int], sums: int) -> int:
    """Return how many tokens so many sums take."""
    place = 0
    while sums:
        token = tokens[place]
        place += 1 + ((token // 8 or 8) if token < 64 else 0)
        sums -= token >= STORE
    return place


def test_layouts_share_words_between_taps() -> None:
    assert row_layout(SAME, 16).tap_offsets == (0, 1, 2)
    assert row_layout(SAME, 16).row_words == 10
    assert row_layout(SAME, 8).words == 4
    strided = row_layout(Window((3, 3), (2, 2)), 32)
    # Columns 0 and 2 are one stride apart; column 1 has a phase of its own.
    assert (strided.words, strided.row_words, strided.tap_offsets, strided.segments) == (8, 17, (0, 9, 1), 2)


def test_a_stream_runs_it_row_by_row(tmp_path: Path) -> None:
    from graphs_convolution import residual  # noqa: PLC0415 - a larger graph than the others
    from mcucompile.calibrate import calibrate  # noqa: PLC0415
    from mcucompile.passes import simplify  # noqa: PLC0415
    from mcucompile.quantize import parse_weights, quantize  # noqa: PLC0415

    real = simplify(residual(size=8, mean=4))
    graph = quantize(real, calibrate(real, None), parse_weights("int4", real), 2)
    chosen = {op.name: "planes" for op in graph.layers if isinstance(op, IntegerConv) and not op.planar}
    arena = plan_arena(graph, choose_streams(graph))
    model = Model(graph, select_kernels(graph, _core("host"), chosen), arena, bytes(16), no_multiply=True)
    assert arena.streams
    assert sum(step.kernel.name == "planes" for step in model.layers) >= 3
    program = build_models([model], tmp_path, flags=("-O1", *SANITIZERS))
    codes = edge_codes(graph, 6)
    assert np.array_equal(run_model(program, graph, codes, 0), graph.run(codes))
