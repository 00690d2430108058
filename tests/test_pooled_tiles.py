"""Convolutions pooled in tiles: the bits of the two layers on an emulated Cortex-M4 and on the host, row by row too."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from firmware_builds import require_emulator, require_toolchain
from graphs_convolution import add, conv
from host_model import SANITIZERS, build_model, run_model
from mcucompile.calibrate import calibrate
from mcucompile.emit import Model
from mcucompile.ir import Graph, Op, Tensor, build_graph
from mcucompile.kernels import Core
from mcucompile.ops import IntegerConv, IntegerPooledConv, MaxPool
from mcucompile.ops.window import Window
from mcucompile.passes import simplify
from mcucompile.plan import choose_streams, plan_arena, pool_convolutions, select_kernels
from mcucompile.quantize import parse_weights, quantize
from mcucompile.statistics import follow, measure
from tile_firmware import build_tiles, check_layers, large_board
from tile_models import SAME, SOURCE, SQUARES, SUMS, pooled_graph, tile_inputs

BOARD = large_board("nucleo-f401re")
CORE = Core(True, BOARD.core)
ALL_SUMS = (*SUMS, *SQUARES)


def joined(graph: Graph, core: Core = CORE) -> Graph:
    """Return the graph with pools in their convolutions; a few are faster apart."""
    pooled = pool_convolutions(graph, core)
    pools = len(graph.layers) // 2
    assert len([op for op in pooled.layers if isinstance(op, IntegerPooledConv)]) > 0.6 * pools
    return pooled


def model_of(graph: Graph, core: Core = CORE, *, streamed: bool = False) -> Model:
    """Plan a model, its layers row by row or whole."""
    arena = plan_arena(graph, choose_streams(graph) if streamed else ())
    return Model(graph, select_kernels(graph, core), arena, bytes(16), no_multiply=not core.has_multiplier)


@pytest.mark.parametrize(
    ("x", "toolchain", "level", "part"),
    [("uint8", "gcc", "2", 0), ("uint8", "zig", "2", 1), ("int8", "gcc", "s", 2), ("int8", "zig", "3", 3)],
)
def test_pools_in_tiles_on_the_core(x: str, toolchain: str, level: str, part: int, tmp_path: Path) -> None:
    require_toolchain(BOARD, toolchain)
    require_emulator(BOARD, "unicorn")
    model = model_of(joined(pooled_graph(x, every=4, first=part, sums=ALL_SUMS)))
    check_layers(model, BOARD, build_tiles(model, BOARD, tmp_path, toolchain, level), inputs=2)


@pytest.mark.parametrize(("x", "part"), [("uint8", 0), ("int8", 1)])
def test_pools_in_tiles_on_the_host(x: str, part: int, tmp_path: Path) -> None:
    """No access out of bounds in any; the bits of the last, against the two layers apart."""
    graph = pooled_graph(x, every=4, first=part, sums=ALL_SUMS)
    pooled = joined(graph)
    program = build_model(model_of(pooled), tmp_path, flags=("-O1", *SANITIZERS))
    codes = tile_inputs(graph.input.stored, 2)
    assert np.array_equal(run_model(program, pooled, codes), graph.run(codes))


def test_pools_in_tiles_without_multiplication(tmp_path: Path) -> None:
    require_toolchain(BOARD, "gcc")
    require_emulator(BOARD, "unicorn")
    core = Core(False, BOARD.core)
    sums = tuple(s for s in SUMS if s[0] in ("adder", "minconv"))
    model = model_of(joined(pooled_graph("int8", every=4, sums=sums), core), core)
    check_layers(model, BOARD, build_tiles(model, BOARD, tmp_path, "gcc", "2"), inputs=1)


@pytest.mark.parametrize(("channels", "rows", "stride"), [(4, 2, 1), (5, 3, 1), (5, 2, 2)])
def test_rows_of_rings_are_pooled(channels: int, rows: int, stride: int, tmp_path: Path) -> None:
    """All row by row: pooled windows are read from a ring of rows that a convolution makes."""
    random = np.random.default_rng(channels)
    pool = MaxPool(name="p", inputs=("b",), output="p", source=SOURCE, window=Window((rows, 2), (rows, 2)))
    ops = (
        conv(random, "x", "a", 3, channels, SAME, relu=True),
        conv(random, "a", "b", channels, 6, replace(SAME, strides=(stride, 1)), relu=True),
        pool,
    )
    real = simplify(build_graph("net", (Tensor("x", (1, 24, 9, 3)),), ("p",), ops, SOURCE))
    samples = random.normal(0, 1, (20, *real.input.shape))
    graph = quantize(real, calibrate(real, samples), parse_weights("int8", real), 2)
    pooled = pool_convolutions(graph, CORE)
    assert [op.kind for op in pooled.layers] == ["conv", "pooled_conv"]
    model = model_of(pooled, streamed=True)
    assert len(model.arena.streams) == 1
    program = build_model(model, tmp_path, flags=("-O1", *SANITIZERS))
    codes = random.integers(-127, 128, (20, *graph.input.shape))
    assert np.array_equal(run_model(program, pooled, codes), graph.run(codes))


def test_what_stays_apart() -> None:
    graph = pooled_graph("int8", every=11, sums=(("dot", "bytes"),))
    conv_op, pool = graph.layers
    assert isinstance(conv_op, IntegerConv)
    assert isinstance(pool, MaxPool)
    assert pool_convolutions(graph, Core(True, "rv32imac")) is not graph
    assert len(pool_convolutions(graph, Core(True, "rv32imac")).layers) == 2
    assert len(pool_convolutions(graph, CORE, (pool.name,)).layers) == 2
    assert len(pool_convolutions(graph, CORE, (conv_op.name,)).layers) == 2

    def changed(old: Op, new: Op) -> Graph:
        return replace(graph, ops=tuple(new if op is old else op for op in graph.ops))

    overlapping = replace(pool, window=Window((2, 2), (2, 1)))
    wide = replace(pool, window=Window((2, 3), (2, 3)))
    requantize = conv_op.requantize
    mixed = np.resize(np.array([1, -1]), len(requantize.offset))
    two_signs = replace(conv_op, requantize=replace(requantize, multiplier=mixed))
    ties = replace(conv_op, requantize=replace(requantize, tie_window=1))
    for old, new in ((pool, overlapping), (pool, wide), (conv_op, two_signs), (conv_op, ties)):
        other = changed(old, new)
        shapes = {name: op.output_shape(*other.shapes_of(op)) for op in other.ops for name in (op.output,)}
        tensors = {n: replace(t, shape=shapes.get(n, t.shape)) for n, t in other.tensors.items()}
        assert len(pool_convolutions(replace(other, tensors=tensors), CORE).layers) == 2


def test_statistics_follow_layers_that_are_joined() -> None:
    """Two branches, in turn."""
    random = np.random.default_rng(2)
    pools = [
        MaxPool(name=f"{x}_pool", inputs=(x,), output=f"{x}_pool", source=SOURCE, window=Window((2, 2), (2, 2)))
        for x in ("a", "b")
    ]
    convs = [conv(random, "x", y, 3, 6, SAME, relu=True) for y in ("a", "b")]
    real = build_graph(
        "net", (Tensor("x", (1, 8, 8, 3)),), ("y",), (*convs, *pools, add("a_pool", "b_pool", "y")), SOURCE
    )
    calibration = calibrate(real, random.normal(0, 1, (20, *real.input.shape)))
    graph = quantize(real, calibration, parse_weights("int8", real), 2)
    pooled = pool_convolutions(graph, CORE)
    measured = measure(real, graph, calibration.codes)
    followed = follow(measured, graph, pooled)
    assert (
        [layer.name for layer in followed.layers] == [op.name for op in pooled.layers] == ["a+a_pool", "b+b_pool", "y"]
    )
    assert [layer.weights for layer in followed.layers] == [*(layer.weights for layer in measured.layers[:2]), ()]
    assert [layer.sqnr_db for layer in followed.layers] == [layer.sqnr_db for layer in measured.layers[2:]]
