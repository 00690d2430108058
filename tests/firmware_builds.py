"""Builds the hand-written sample project for any board, once a process, and answers what it must answer."""

import functools
import importlib.util
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from mcucompile.errors import ToolError
from mcucompile.targets.boards import Board, load_board
from mcucompile.targets.firmware import firmware_files
from mcucompile.targets.toolchain import build_firmware, find_compiler

SAMPLE = Path(__file__).parent / "sample_project"
LAYERS = ("sample_hidden", "sample_out")
FIRMWARE_BOARDS = ("hifive1", "hifive1-revb", "microbit", "nucleo-f401re", "ch32v003")
QEMU_BOARDS = FIRMWARE_BOARDS[:-1]

_BUILDS = tempfile.TemporaryDirectory(prefix="mcucompile-test-")


def write_project(directory: Path, board: Board, **replacements: str) -> Path:
    """Write the sample project for a board; each replacement is a text of model.c and what stands there instead."""
    shutil.copytree(SAMPLE, directory, dirs_exist_ok=True)
    for path, text in firmware_files(board).items():
        (directory / path).write_text(text, encoding="utf-8")
    model = directory / "src" / "model.c"
    text = model.read_text(encoding="utf-8")
    for marker, insertion in replacements.items():
        assert f"/* {marker} */" in text
        text = text.replace(f"/* {marker} */", insertion)
    model.write_text(text, encoding="utf-8")
    return directory


def require_toolchain(board: Board, toolchain: str) -> None:
    """Skip the test when a tool chain is not installed, saying how to get it."""
    try:
        find_compiler(board, toolchain)
    except ToolError as error:
        pytest.skip(f"{error.problem}: {error.fix}")


def require_emulator(board: Board, emulator: str) -> None:
    """Skip the test when an emulator is not installed, saying how to get it."""
    if emulator == "unicorn":
        if importlib.util.find_spec("unicorn") is None:
            pytest.skip("unicorn is not installed: pip install 'mcucompile[toolchain]'")
    elif board.qemu is None or shutil.which(board.qemu.program) is None:
        pytest.skip("QEMU is not on PATH: apt-get install qemu-system-misc qemu-system-arm")


@functools.cache
def sample_elf(board_name: str, toolchain: str, *, no_multiply: bool = False) -> Path:
    """Return the sample's firmware."""
    board = load_board(board_name)
    require_toolchain(board, toolchain)
    directory = Path(_BUILDS.name) / f"{board_name}-{toolchain}-{no_multiply}"
    return build_firmware(write_project(directory, board), board, toolchain=toolchain, no_multiply=no_multiply)


def expected(data: bytes) -> tuple[bytes, tuple[int, int]]:
    """Return the sample's output bytes and layer digests."""
    hidden, out = expected_layers(data)
    return out, (zlib.crc32(hidden), zlib.crc32(out))


def expected_layers(data: bytes) -> tuple[bytes, bytes]:
    """Return the bytes of the sample's layers: what src/model.c computes."""
    x = np.frombuffer(data, dtype=np.int8).astype(np.int64)
    shifts = np.array(
        [
            [0, 1, 2, 3, 4, 5, 6, 7] * 2,
            [7, 6, 5, 4, 3, 2, 1, 0] * 2,
            [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4,
            [0, 7] * 8,
        ]
    )
    hidden = np.clip(((x << shifts).sum(axis=1) + 8) >> 4, -128, 127)
    out = np.array([hidden[0] - hidden[1] + hidden[2] - hidden[3], hidden.max()])
    return hidden.astype(np.int8).tobytes(), out.astype("<i4").tobytes()
