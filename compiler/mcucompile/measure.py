"""Counts what a choice of kernels costs, in an emulator whose memories hold any choice."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mcucompile.emit import Model, emit_model, headers, layer_names
from mcucompile.errors import ToolError
from mcucompile.ir import Array
from mcucompile.output import write_files
from mcucompile.resources import resource_dir
from mcucompile.targets.boards import Board
from mcucompile.targets.firmware import firmware_files
from mcucompile.targets.symbols import Image, load_image
from mcucompile.targets.toolchain import build_firmware
from mcucompile.targets.unicorn_emulator import open_unicorn

# Flash and RAM of the emulated board; less than between them on every board.
_MEMORY_BYTES = 1 << 24
# Stack beside the kernels' scratch.
_STACK_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Measured:
    """Means over the inputs.

    Attributes:
        instructions, cycles: of each layer; cycles are estimated from the board's times.
        code_bytes: of each layer's functions.
    """

    instructions: tuple[int, ...]
    cycles: tuple[int, ...]
    code_bytes: tuple[int, ...]


def roomy_board(board: Board) -> Board:
    """Return a board whose memories hold any model; its addresses are the board's."""
    return replace(board, memory=replace(board.memory, flash_bytes=_MEMORY_BYTES, ram_bytes=_MEMORY_BYTES))


def build_planned(
    model: Model,
    board: Board,
    folder: Path,
    *,
    toolchain: str = "auto",
    optimize: str = "2",
    observe_layers: bool = True,
) -> Path:
    """Write the project of a model into an empty folder and build it, with all the stack that its kernels need.

    Args:
        model: planned for the board's core.
        board: to build for.
        folder: where the project is written.
        toolchain, optimize, observe_layers: as of `build_firmware`.
    Returns:
        The path of the ELF.
    Raises:
        ToolError: it does not build.
    """
    scratch = max((planned.cost.stack_bytes for planned in model.layers), default=0)
    runtime = resource_dir("runtime_c")
    files = emit_model(model) | firmware_files(board, scratch + _STACK_BYTES)
    files |= {f"include/{header}": (runtime / header).read_text(encoding="utf-8") for header in headers(model)}
    write_files(folder, files)
    return build_firmware(
        folder,
        board,
        toolchain=toolchain,
        no_multiply=model.no_multiply,
        observe_layers=observe_layers,
        optimize=optimize,
    )


def measure(model: Model, board: Board, codes: Array, *, toolchain: str = "auto", optimize: str = "2") -> Measured:
    """Build a model as it is planned, run it in unicorn and compare its results with the reference.

    Args:
        model: planned for the board's core.
        board: one with a [unicorn] section; its memories are taken as large.
        codes: inputs, (n, *input shape).
        toolchain, optimize: as of `build_firmware`.
    Raises:
        ToolError: the board has no emulator, or a result differs from the reference.
    """
    graph = model.graph
    roomy = roomy_board(board)
    names = layer_names(graph)
    with tempfile.TemporaryDirectory() as folder:
        elf = build_planned(model, roomy, Path(folder), toolchain=toolchain, optimize=optimize, observe_layers=False)
        image = load_image(elf)
        with open_unicorn(elf, roomy, no_multiply=model.no_multiply, layers=names) as link:
            counts = []
            for code, expected in zip(codes, graph.run(codes), strict=True):
                done = link.infer(code.astype(graph.input.stored.dtype).tobytes(), digests=False)
                found = np.frombuffer(done.output, graph.result.stored.dtype)
                if not np.array_equal(found, expected.reshape(-1)):
                    kernels = ", ".join(f"{p.layer.op.name}={p.kernel.name}" for p in model.layers)
                    raise ToolError(f"{board.name} with {kernels}", "differs from the reference", "report this fault")
                counts.append(link.counts())
    cycles = [counted.cycles[1] for counted in counts if counted.cycles is not None]
    return Measured(
        _means([counted.layers for counted in counts]),
        _means(cycles),
        _code_bytes(image, names),
    )


def _means(rows: list[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(round(float(mean)) for mean in np.mean(rows, axis=0))


def _code_bytes(image: Image, names: tuple[str, ...]) -> tuple[int, ...]:
    """Return the size of each layer's functions: their names begin with its own, and with no longer one."""
    sizes = dict.fromkeys(names, 0)
    for function in image.functions:
        name = function.name.partition(".")[0]
        owners = [layer for layer in names if name == layer or name.startswith(f"{layer}_")]
        if owners:
            sizes[max(owners, key=len)] += function.end - function.start
    return tuple(sizes.values())
