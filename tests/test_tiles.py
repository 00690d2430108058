"""Tiles of DSP instructions: every layer's bits on an emulated Cortex-M4 and on the host, proofs, declared costs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from firmware_builds import require_emulator, require_toolchain
from graphs import GRAPHS
from graphs_convolution import CONVOLUTIONS
from host_model import SANITIZERS, build_model, run_model
from mcucompile.calibrate import calibrate
from mcucompile.emit import Model
from mcucompile.encodings import given_weights
from mcucompile.ir import Graph
from mcucompile.kernels import KERNELS, Core
from mcucompile.kernels.block_multiply import BlockMultiply
from mcucompile.kernels.dense import Sums
from mcucompile.kernels.lane_multiply import LaneMultiply
from mcucompile.kernels.square_blocks import SquareBlocks
from mcucompile.kernels.tiles import Tiles
from mcucompile.numerics import Requantization
from mcucompile.passes import simplify
from mcucompile.plan import choose_streams, plan_arena, select_kernels
from mcucompile.quantize import parse_weights, quantize
from mcucompile.targets.boards import load_board
from mcucompile.targets.elf import inspect_elf, prove
from tile_firmware import STACK_BYTES, build_tiles, check_layers
from tile_models import SQUARES, SUMS, input_format, tile_graph, tile_inputs, tile_model

BOARD = load_board("nucleo-f401re")
INPUTS = ("uint8", "int8", "int16")
ALL_SUMS = (*SUMS, *SQUARES)

# Each build has every eighth combination of sums and sizes; tests/test_kernel_trust.py has every level.
BUILDS = (
    ("uint8", "gcc", "2", 5),
    ("uint8", "zig", "2", 3),
    ("uint8", "zig", "s", 4),
    ("int8", "gcc", "2", 2),
    ("int8", "gcc", "3", 6),
    ("int8", "zig", "1", 1),
    ("int16", "gcc", "2", 0),
    ("int16", "zig", "s", 1),
)


@pytest.mark.parametrize(("x", "toolchain", "level", "part"), BUILDS)
def test_every_layer_on_the_core(x: str, toolchain: str, level: str, part: int, tmp_path: Path) -> None:
    require_toolchain(BOARD, toolchain)
    require_emulator(BOARD, "unicorn")
    model = tile_model(tile_graph(x, every=8, first=part, sums=ALL_SUMS))
    check_layers(model, BOARD, build_tiles(model, BOARD, tmp_path, toolchain, level), inputs=2)


@pytest.mark.parametrize("x", INPUTS)
def test_every_layer_on_the_host(x: str, tmp_path: Path) -> None:
    """The C twins under sanitizers: the last layer's bits, and no access out of bounds in any."""
    for part in range(3):
        graph = tile_graph(x, every=3, first=part, sums=ALL_SUMS)
        program = build_model(tile_model(graph), tmp_path / str(part), flags=("-O1", *SANITIZERS))
        codes = tile_inputs(graph.input.stored, 2)
        assert np.array_equal(run_model(program, graph, codes), graph.run(codes))


def test_differences_need_no_multiplier(tmp_path: Path) -> None:
    require_toolchain(BOARD, "gcc")
    require_emulator(BOARD, "unicorn")
    graph = tile_graph("int8", every=11, first=3, sums=tuple(sums for sums in SUMS if sums[0] != "dot"))
    model = tile_model(graph, no_multiply=True)
    assert {planned.kernel.name for planned in model.layers} == {"absolute differences"}
    elf = build_tiles(model, BOARD, tmp_path, "gcc", "2")
    prove(inspect_elf(elf, BOARD.core), elf, no_multiply=True)
    check_layers(model, BOARD, elf, inputs=1)


def test_products_are_seen_by_the_proof(tmp_path: Path) -> None:
    require_toolchain(BOARD, "gcc")
    model = tile_model(tile_graph("int16", every=32))
    facts = inspect_elf(build_tiles(model, BOARD, tmp_path, "gcc", "2"), BOARD.core)
    assert {"smlad", "smulbb"} & {violation.what.split()[0] for violation in facts.multiplies}
    assert facts.stack_bytes is not None
    assert facts.stack_bytes < STACK_BYTES


def _integers(name: str, weights: str) -> Graph:
    random = np.random.default_rng(3)
    real = simplify(GRAPHS[name](random))
    samples = random.normal(0, 1, (20, *real.input.shape))
    return quantize(real, calibrate(real, samples), parse_weights(weights, real), 2)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_rows_of_rings_give_the_same_bits(name: str, tmp_path: Path) -> None:
    graph = _integers(name, "int8")
    arena = plan_arena(graph, choose_streams(graph))
    model = Model(graph, select_kernels(graph, Core(True, BOARD.core)), arena, bytes(16), no_multiply=False)
    program = build_model(model, tmp_path, flags=("-O1", *SANITIZERS))
    codes = np.random.default_rng(7).integers(-127, 128, (20, *graph.input.shape))
    assert np.array_equal(run_model(program, graph, codes), graph.run(codes))


def test_what_tiles_refuse() -> None:
    kernels = {kernel.name: kernel for kernel in KERNELS if isinstance(kernel, Tiles) and kernel.kind == "conv"}
    differences, products, halfwords, lanes, blocks, squares = kernels.values()
    assert isinstance(blocks.sums, BlockMultiply)
    assert isinstance(squares.sums, SquareBlocks)
    core, without = Core(True, "cortex-m4"), Core(False, "cortex-m4")
    layer = tile_model(tile_graph("int8", every=40)).layers[0].layer
    assert differences.refusal(layer, core) is None
    assert differences.refusal(layer, Core(True, "cortex-m0")) == "needs a core with DSP instructions"
    assert differences.refusal(layer, without) is None
    assert differences.refusal(replace(layer, formats=(input_format("int16"),)), core) == "needs an 8-bit input"
    assert products.refusal(layer, core) == "computes dot and euclid only"
    dot = tile_model(tile_graph("int8", sums=(("dot", "bytes"),))).layers[0].layer
    assert products.refusal(dot, core) is None
    assert halfwords.refusal(dot, core) == "bytes will do"
    assert products.refusal(dot, without) == "needs a multiplier"
    assert lanes.refusal(dot, core) == "needs weights from -3 to 3"
    small = tile_model(tile_graph("int8", sums=(("ternary", "bytes"),))).layers
    assert lanes.refusal(small[0].layer, core) is None
    assert lanes.refusal(small[0].layer, without) == "needs a multiplier"


@pytest.mark.parametrize(("largest", "inputs", "refusal"), [(1, 1023, None), (1, 1024, "needs sums of 18 bits")])
def test_lanes_hold_the_largest_sums(largest: int, inputs: int, refusal: str | None) -> None:
    """1023 * 128 is below 2**17, and a turn of 31 words, 62 * 128, below 2**13."""
    weights = given_weights(np.full((2, inputs), largest), np.ones(1))
    assert weights is not None
    requantize = Requantization(np.ones(1, np.int64), np.zeros(2, np.int64), np.full(1, 9), -128, 127)
    format_ = input_format("int8")
    sums = Sums("ternary", weights, requantize, 1, 1, format_, format_, "")
    assert LaneMultiply().refusal(sums, Core(True, "cortex-m4")) == refusal
    assert LaneMultiply().tiled(sums, 2).most_unrolled == 31
