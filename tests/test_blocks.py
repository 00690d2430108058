"""Blocks of products: every layer's bits on emulated cores and on the host, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from firmware_builds import require_emulator, require_toolchain
from host_model import SANITIZERS, build_model, run_model
from mcucompile.kernels import KERNELS, Core
from mcucompile.kernels.block_multiply import BlockMultiply
from mcucompile.kernels.tiles import Tiles
from tile_firmware import build_tiles, check_layers, large_board
from tile_models import SQUARES, input_format, tile_graph, tile_inputs, tile_model

PRODUCTS = (("dot", "bytes"), ("dot", "small"), *SQUARES)
CORES = ("rv32imac", "cortex-m0")
# Board, input, tool chain, level and which eighth of all combinations.
BUILDS = (
    ("hifive1", "uint8", "gcc", "2", 0),
    ("hifive1", "int8", "gcc", "s", 1),
    ("hifive1", "uint8", "zig", "3", 2),
    ("hifive1", "int8", "zig", "1", 3),
    ("microbit", "uint8", "gcc", "1", 4),
    ("microbit", "int8", "gcc", "3", 5),
    ("microbit", "uint8", "zig", "s", 6),
    ("microbit", "int8", "zig", "2", 7),
)


@pytest.mark.parametrize(("name", "x", "toolchain", "level", "part"), BUILDS)
def test_every_layer_on_the_core(name: str, x: str, toolchain: str, level: str, part: int, tmp_path: Path) -> None:
    board = large_board(name)
    require_toolchain(board, toolchain)
    require_emulator(board, "unicorn")
    model = tile_model(tile_graph(x, every=8, first=part, sums=PRODUCTS), core=board.core)
    assert {planned.kernel.name for planned in model.layers} == {"block multiply"}
    check_layers(model, board, build_tiles(model, board, tmp_path, toolchain, level), inputs=1)


@pytest.mark.parametrize("x", ["uint8", "int8"])
@pytest.mark.parametrize("core", CORES)
def test_every_layer_on_the_host(x: str, core: str, tmp_path: Path) -> None:
    """The C twins under sanitizers: the last layer's bits, and no access out of bounds in any."""
    graph = tile_graph(x, every=5, first=1, sums=PRODUCTS)
    program = build_model(tile_model(graph, core=core), tmp_path, flags=("-O1", *SANITIZERS))
    codes = tile_inputs(graph.input.stored, 2)
    assert np.array_equal(run_model(program, graph, codes), graph.run(codes))


@pytest.mark.parametrize("core", CORES)
def test_what_is_refused(core: str) -> None:
    blocks = next(k for k in KERNELS if isinstance(k, Tiles) and k.sums == BlockMultiply(core))
    layer = tile_model(tile_graph("int8", every=99, sums=PRODUCTS), core=core).layers[0].layer
    assert blocks.refusal(layer, Core(True, core)) is None
    assert blocks.refusal(layer, Core(False, core)) == "needs a multiplier"
    assert blocks.refusal(layer, Core(True, "cortex-m4")) == f"is made for {core}"
    wide = replace(layer, formats=(input_format("int16"),))
    assert blocks.refusal(wide, Core(True, core)) == "needs an 8-bit input"
    op = replace(layer.op, similarity="adder")  # type: ignore[call-arg]
    assert blocks.refusal(replace(layer, op=op), Core(True, core)) == "computes dot and euclid only"
    far = tile_graph("int8", every=99, sums=(("adder", "far"),)).layers
    weights = next(op.weights for op in far if op.kind == "conv")  # type: ignore[attr-defined]
    op = replace(layer.op, weights=weights)  # type: ignore[call-arg]
    assert blocks.refusal(replace(layer, op=op), Core(True, core)) == "needs weights of 8 bits"
