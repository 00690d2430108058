"""Firmware of integer models of many layers, each layer's digest compared with the reference in the emulator."""

import zlib
from dataclasses import replace
from pathlib import Path

from mcucompile.emit import Model, emit_model, headers, layer_names
from mcucompile.ir import Array, Graph
from mcucompile.resources import resource_dir
from mcucompile.targets.boards import Board, load_board
from mcucompile.targets.firmware import firmware_files
from mcucompile.targets.toolchain import build_firmware
from mcucompile.targets.unicorn_emulator import open_unicorn
from tile_models import tile_inputs

STACK_BYTES = 1 << 14


def large_board(name: str) -> Board:
    """Return a board whose memories take all models here."""
    board = load_board(name)
    return replace(board, memory=replace(board.memory, ram_bytes=1 << 18, flash_bytes=1 << 20))


def build_tiles(model: Model, board: Board, directory: Path, toolchain: str, level: str) -> Path:
    """Write and build a model's firmware."""
    runtime = resource_dir("runtime_c")
    files = {**emit_model(model), **firmware_files(board, STACK_BYTES)}
    files |= {f"include/{name}": (runtime / name).read_text() for name in headers(model)}
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return build_firmware(directory, board, toolchain=toolchain, no_multiply=model.no_multiply, optimize=level)


def check_layers(model: Model, board: Board, elf: Path, inputs: int) -> list[int]:
    """Compare every layer's digest with the reference; return the instructions of each layer."""
    graph = model.graph
    with open_unicorn(elf, board, no_multiply=model.no_multiply, layers=layer_names(graph)) as link:
        for code in tile_inputs(graph.input.stored, inputs):
            done = link.infer(code.astype(graph.input.stored.dtype).tobytes())
            expected = layer_digests(graph, code)
            wrong = [op.name for op, a, b in zip(graph.layers, done.digests, expected, strict=True) if a != b]
            assert not wrong, wrong
        return list(link.counts().layers)


def layer_digests(graph: Graph, code: Array) -> tuple[int, ...]:
    """Return the CRC-32 of every layer's output for one input, as the reference computes it."""
    return tuple(
        zlib.crc32(output.astype(graph.tensors[op.output].stored.dtype).tobytes())
        for op, output in graph.execute(code[None])
        if not op.is_view
    )
