"""Pools of all taps at once and of words: every layer's bits on an emulated Cortex-M4, and on the host."""

from pathlib import Path

import numpy as np
import pytest
from firmware_builds import require_emulator, require_toolchain
from host_model import SANITIZERS, build_model, run_model
from mcucompile.kernels import Kernel
from tile_firmware import build_tiles, check_layers, large_board
from tile_models import POOLS, pool_graph, tile_inputs, tile_model

BOARD = large_board("nucleo-f401re")


@pytest.mark.parametrize("x", ["uint8", "int8", "int16"])
def test_pools_on_the_host(x: str, tmp_path: Path) -> None:
    """The last layer's bits, and no access out of bounds in any, under sanitizers."""
    graph = pool_graph(x)
    for core, words in (("cortex-m4", 0 if x == "int16" else 6), ("host", 0)):
        model = tile_model(graph, core=core, kernels=Kernel)
        kernels = [planned.kernel.name for planned in model.layers]
        assert kernels.count("words") == words
        assert kernels.count("taps together") == len(POOLS) - words
        program = build_model(model, tmp_path / core, flags=("-O1", *SANITIZERS))
        codes = tile_inputs(graph.input.stored, 4)
        assert np.array_equal(run_model(program, graph, codes), graph.run(codes))


@pytest.mark.parametrize(
    ("x", "toolchain", "level"), [("uint8", "gcc", "2"), ("int8", "zig", "s"), ("int8", "gcc", "3")]
)
def test_pools_on_the_core(x: str, toolchain: str, level: str, tmp_path: Path) -> None:
    require_toolchain(BOARD, toolchain)
    require_emulator(BOARD, "unicorn")
    model = tile_model(pool_graph(x), kernels=Kernel)
    check_layers(model, BOARD, build_tiles(model, BOARD, tmp_path, toolchain, level), inputs=4)
