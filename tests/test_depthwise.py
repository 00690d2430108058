"""Depthwise convolutions without copies: every term's bits on the host and on every core, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from firmware_builds import require_emulator, require_toolchain
from host_model import SANITIZERS, build_model, run_model
from mcucompile.kernels import KERNELS, Core, Kernel
from mcucompile.kernels.depthwise import Depthwise
from mcucompile.kernels.depthwise_words import DEPTHWISE_WORDS, DepthwiseWords
from mcucompile.ops import IntegerConv
from mcucompile.ops.window import Window
from mcucompile.targets.elf import inspect_elf, prove
from tile_firmware import build_tiles, check_layers, large_board
from tile_models import DEPTHWISE, SUMS, tile_graph, tile_inputs, tile_model

ALL_SUMS = (*SUMS, ("euclid", "bytes"), ("mfo", "bytes"))
# One board without a multiplier, whose firmware is proven; tests/test_kernel_trust.py has every kernel on every core.
BUILDS = (("nucleo-f401re", "zig", "s", 1), ("ch32v003", "gcc", "2", 6))


def _sums(has_multiplier: bool) -> tuple[tuple[str, str], ...]:
    """Return all sums but, without a multiplier, those that no table of squares reaches."""
    return tuple(pair for pair in ALL_SUMS if has_multiplier or pair != ("dot", "halfwords"))


@pytest.mark.parametrize(("x", "part", "has_multiplier"), [("uint8", 0, True), ("int8", 4, False), ("int16", 0, True)])
def test_layers_on_the_host(x: str, part: int, has_multiplier: bool, tmp_path: Path) -> None:
    """The last layer's bits, and no access out of bounds in any, under sanitizers."""
    sums = _sums(has_multiplier)
    graph = tile_graph(x, every=9, first=part, sums=sums, depthwise=True)
    model = tile_model(graph, no_multiply=not has_multiplier, core="host", kernels=Depthwise)
    program = build_model(model, tmp_path, flags=("-O1", *SANITIZERS))
    codes = tile_inputs(graph.input.stored, 2)
    assert np.array_equal(run_model(program, graph, codes), graph.run(codes))


@pytest.mark.parametrize(("name", "toolchain", "level", "part"), BUILDS)
def test_every_layer_on_the_core(name: str, toolchain: str, level: str, part: int, tmp_path: Path) -> None:
    board = large_board(name)
    require_toolchain(board, toolchain)
    require_emulator(board, "unicorn")
    graph = tile_graph("int8", every=8, first=part, sums=_sums(board.has_multiplier), depthwise=True)
    model = tile_model(graph, no_multiply=not board.has_multiplier, core=board.core, kernels=Depthwise)
    elf = build_tiles(model, board, tmp_path, toolchain, level)
    if not board.has_multiplier:
        prove(inspect_elf(elf, board.core), elf, no_multiply=True)
    check_layers(model, board, elf, inputs=1)


WORD_SUMS = (("adder", "bytes"), ("adder", "far"), ("binary", "bytes"), ("ternary", "signs"))


@pytest.mark.parametrize(("x", "toolchain", "level"), [("uint8", "gcc", "2"), ("int8", "zig", "s"), ("int8", "", "")])
def test_words_of_four_channels(x: str, toolchain: str, level: str, tmp_path: Path) -> None:
    """Every layer's bits on the core; on the host, without tool chain, the last one's under sanitizers."""
    board = large_board("nucleo-f401re")
    graph = tile_graph(x, sums=WORD_SUMS, depthwise=True, channels=4)
    model = tile_model(graph, kernels=DepthwiseWords)
    assert len(model.layers) >= 21
    if toolchain:
        require_toolchain(board, toolchain)
        require_emulator(board, "unicorn")
        check_layers(model, board, build_tiles(model, board, tmp_path, toolchain, level), inputs=2)
    else:
        program = build_model(model, tmp_path, flags=("-O1", *SANITIZERS))
        codes = tile_inputs(graph.input.stored, 2)
        assert np.array_equal(run_model(program, graph, codes), graph.run(codes))


def test_words_without_multiplier(tmp_path: Path) -> None:
    board = large_board("nucleo-f401re")
    require_toolchain(board, "gcc")
    require_emulator(board, "unicorn")
    graph = tile_graph("int8", every=3, sums=WORD_SUMS, depthwise=True, channels=4)
    model = tile_model(graph, no_multiply=True, kernels=DepthwiseWords)
    elf = build_tiles(model, board, tmp_path, "gcc", "2")
    prove(inspect_elf(elf, board.core), elf, no_multiply=True)
    check_layers(model, board, elf, inputs=1)


def test_what_words_refuse() -> None:
    core = Core(True, "cortex-m4")
    layers = [
        planned.layer
        for planned in tile_model(
            tile_graph("int8", sums=(("adder", "bytes"), ("minconv", "bytes")), depthwise=True), kernels=Kernel
        ).layers
    ]
    assert DEPTHWISE_WORDS.refusal(layers[0], core) is None
    assert DEPTHWISE_WORDS.refusal(layers[0], Core(True)) == "needs a core with DSP instructions"
    assert DEPTHWISE_WORDS.refusal(layers[1], core) == "computes one difference for each weight only"
    assert {DEPTHWISE_WORDS.refusal(layer, core) for layer in layers if layer.shapes[0][-1] == 7} == {
        "needs channels in fours"
    }


def test_what_is_refused() -> None:
    kernel = next(kernel for kernel in KERNELS if kernel.name == "depthwise subtract")
    core = Core(True)
    graph = tile_graph("int8", every=99, sums=(("adder", "bytes"),), depthwise=True)
    planned = tile_model(graph, core="host", kernels=Depthwise).layers[0]
    layer, op = planned.layer, planned.layer.op
    assert isinstance(op, IntegerConv)
    assert planned.kernel is kernel
    assert kernel.refusal(layer, core) is None
    assert kernel.refusal(replace(layer, op=replace(op, planar=True)), core) == "reads images with channels last only"
    assert kernel.refusal(replace(layer, op=replace(op, groups=1)), core) == "computes one output of each channel only"
    large = replace(layer, op=replace(op, window=Window((11, 3))))
    assert kernel.refusal(large, core) == "needs windows of at most 32 taps"
    assert kernel.refusal(replace(layer, op=replace(op, similarity="dot")), core) == "computes adder only"
    assert len(DEPTHWISE) == 11
