"""Blocks of products and of squares: every layer's bits on emulated cores and on the host, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from firmware_builds import require_emulator, require_toolchain
from host_model import SANITIZERS, build_model, run_model
from mcucompile.kernels import KERNELS, Core
from mcucompile.kernels.block_multiply import BlockMultiply
from mcucompile.kernels.square_blocks import SquareBlocks
from mcucompile.kernels.tiles import Tiles
from mcucompile.ops import IntegerConv
from mcucompile.targets.elf import inspect_elf, prove
from tile_firmware import build_tiles, check_layers, large_board
from tile_models import SQUARES, input_format, tile_graph, tile_inputs, tile_model

PRODUCTS = (("dot", "bytes"), ("dot", "small"), *SQUARES)
# Cores and whether they multiply.
CORES = {"rv32imac": True, "cortex-m0": True, "rv32ec": False}
# Board, input, tool chain, level and which twelfth of all combinations.
BUILDS = (
    ("hifive1", "uint8", "gcc", "2", 0),
    ("hifive1", "int8", "gcc", "s", 1),
    ("hifive1", "uint8", "zig", "3", 2),
    ("hifive1", "int8", "zig", "1", 3),
    ("microbit", "uint8", "gcc", "1", 4),
    ("microbit", "int8", "gcc", "3", 5),
    ("microbit", "uint8", "zig", "s", 7),
    ("microbit", "int8", "zig", "2", 6),
    ("ch32v003", "uint8", "gcc", "2", 8),
    ("ch32v003", "int8", "zig", "s", 9),
    ("ch32v003", "int8", "gcc", "1", 10),
)


@pytest.mark.parametrize(("name", "x", "toolchain", "level", "part"), BUILDS)
def test_every_layer_on_the_core(name: str, x: str, toolchain: str, level: str, part: int, tmp_path: Path) -> None:
    board = large_board(name)
    require_toolchain(board, toolchain)
    require_emulator(board, "unicorn")
    multiplies = CORES[board.core]
    graph = tile_graph(x, every=12, first=part, sums=PRODUCTS)
    model = tile_model(graph, no_multiply=not multiplies, core=board.core)
    assert {planned.kernel.name for planned in model.layers} == {"block multiply" if multiplies else "square blocks"}
    elf = build_tiles(model, board, tmp_path, toolchain, level)
    if not multiplies:
        prove(inspect_elf(elf, board.core), elf, no_multiply=True)
    check_layers(model, board, elf, inputs=1)


@pytest.mark.parametrize("x", ["uint8", "int8"])
@pytest.mark.parametrize("core", CORES)
def test_every_layer_on_the_host(x: str, core: str, tmp_path: Path) -> None:
    """The C twins under sanitizers: the last layer's bits, and no access out of bounds in any."""
    graph = tile_graph(x, every=8, first=1, sums=PRODUCTS)
    model = tile_model(graph, no_multiply=not CORES[core], core=core)
    program = build_model(model, tmp_path, flags=("-O1", *SANITIZERS))
    codes = tile_inputs(graph.input.stored, 2)
    assert np.array_equal(run_model(program, graph, codes), graph.run(codes))


def test_what_is_refused() -> None:
    products, squares = (
        next(kernel for kernel in KERNELS if isinstance(kernel, Tiles) and kernel.sums == sums)
        for sums in (BlockMultiply("rv32imac"), SquareBlocks())
    )
    with_, without = Core(True, "rv32imac"), Core(False, "rv32imac")
    layer = tile_model(tile_graph("int8", every=99, sums=PRODUCTS), core="rv32imac").layers[0].layer
    assert products.refusal(layer, without) == "needs a multiplier"
    assert products.refusal(layer, Core(True, "cortex-m4")) == "is made for rv32imac"
    assert squares.refusal(layer, with_) == "the multiplier is faster"
    assert squares.refusal(layer, Core(False, "cortex-m0")) == "is made for rv32ec, rv32imac"
    assert isinstance(layer.op, IntegerConv)
    adder = replace(layer, op=replace(layer.op, similarity="adder"))
    far = tile_model(tile_graph("int8", every=99, sums=(("adder", "far"),))).layers[0].layer.op
    assert isinstance(far, IntegerConv)
    for kernel, core in ((products, with_), (squares, without)):
        assert kernel.refusal(layer, core) is None
        assert kernel.refusal(replace(layer, formats=(input_format("int16"),)), core) == "needs an 8-bit input"
        assert kernel.refusal(adder, core) == "computes dot and euclid only"
        large = replace(layer, op=replace(layer.op, weights=far.weights))
        assert kernel.refusal(large, core) == "needs weights of 8 bits"
