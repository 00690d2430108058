"""Writes a built firmware to its board, with the programs that the board's file names.

A runner is a command in the board's file. Its words may hold {elf} (the firmware), {directory} (the project), {bin}
(the flash image as plain bytes, made on demand) and {port}. A runner with the word "{port}" needs a port; a word
that merely holds it, such as "--upload-port={port}", is left out when the user gives none. With a port the firmware
is greeted over it afterwards, whatever the runner. Every board has two runners more, "emulator" and "gdb": see
`emulated_flash`.
"""

import shlex
import shutil
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from serial.tools import list_ports

from mcucompile.errors import BoardError, ProjectError, ToolError
from mcucompile.targets.binary.image import read_image
from mcucompile.targets.boards import Board
from mcucompile.targets.emulated_flash import flash_with_gdb, gdb_commands, greet_emulator, greet_emulator_commands
from mcucompile.targets.serial_port import open_serial_port
from mcucompile.targets.toolchain import ELF_NAME

BINARY_NAME = "firmware.bin"
_TIME_LIMIT_S = 600.0
_PLACEHOLDERS = ("elf", "directory", "bin", "port")
_HOW_TO_GET = {
    "openocd": "apt-get install openocd",
    "pio": "pip install platformio",
    "pyocd": "pip install pyocd",
    "esptool": "pip install esptool",
    "st-flash": "apt-get install stlink-tools",
    "stm32flash": "apt-get install stm32flash",
    "dfu-util": "apt-get install dfu-util",
    "wlink": "cargo install wlink, or a release of https://github.com/ch32-rs/wlink",
    "minichlink": "build minichlink of https://github.com/cnlohr/ch32fun",
    "nrfjprog": "install nRF Command Line Tools from nordicsemi.com",
    "JLinkExe": "install the J-Link software from segger.com",
}


def flash_project(
    directory: Path, board: Board, *, runner: str | None = None, port: str | None = None, dry_run: bool = False
) -> tuple[str, ...]:
    """Write `directory/firmware.elf` to the board.

    Args:
        directory: a compiled project.
        board: its board.
        runner: a runner of the board's file, "emulator" or "gdb"; None takes the board's first, or with a port the
            first that uses one.
        port: the board's serial port, such as "/dev/ttyUSB0", over which the firmware is greeted once it is flashed;
            for the runner "gdb" HOST:PORT of a running GDB server.
        dry_run: run nothing and look for no program or port.
    Returns:
        The command lines that were, or would be, run; quoted for a shell.
    Raises:
        ProjectError: the directory holds no firmware.
        ToolError: no such runner, its program is missing or failed, the port is missing or does not exist.
        LinkError: the firmware was flashed and does not answer.
        BoardError: the runner in the board's file has an unknown placeholder.
    """
    elf = directory / ELF_NAME
    if not elf.is_file():
        raise ProjectError(directory, f"holds no {ELF_NAME}", "compile a model into it first")
    name = runner or _default_runner(board, port)
    if name in board.runners:
        return _run_board_runner(directory, board, name, port, dry_run)
    emulated: dict[str, tuple[Callable[..., tuple[str, ...]], Callable[..., tuple[str, ...]]]] = {
        "emulator": (greet_emulator, greet_emulator_commands),
        "gdb": (flash_with_gdb, gdb_commands),
    }
    if name not in emulated or board.is_host:
        raise _no_runner(board, name)
    really, only_show = emulated[name]
    return (only_show if dry_run else really)(elf, board, port)


def runner_names(board: Board) -> tuple[str, ...]:
    """Names that `flash_project` takes for the board."""
    emulated = () if board.is_host else ("emulator", "gdb")
    return (*board.runners, *(name for name in emulated if name not in board.runners))


def flash_image(elf: Path, board: Board) -> bytes:
    """Return the bytes of the flash from the board's flash_origin on, gaps as 0xff (erased flash).

    Raises:
        ProjectError: the ELF cannot be read, or stores something outside the board's flash.
    """
    memory = board.memory
    image = bytearray()
    for section in sorted(read_image(elf, board.core).sections, key=lambda s: s.load_address):
        if section.data is None:
            continue
        offset = section.load_address - memory.flash_origin
        if not 0 <= offset <= memory.flash_bytes - section.size:
            raise ProjectError(
                elf,
                f"section '{section.name}' at {section.load_address:#x} lies outside the flash of {board.name}",
                "compile the model again for this board",
            )
        image.extend(b"\xff" * (offset - len(image)))
        image[offset : offset + section.size] = section.data
    return bytes(image)


def _default_runner(board: Board, port: str | None) -> str:
    if board.is_host:
        raise ToolError(f"board '{board.name}'", "there is nothing to flash", "run it: mcucompile verify DIR --on host")
    using_port = [name for name, words in board.runners.items() if any("{port}" in word for word in words)]
    names = using_port if port is not None and using_port else list(board.runners)
    found = next(iter(names), None)
    if found is None:
        raise ToolError(
            f"board '{board.name}'", "its board file has no runner", f"use --runner {' or '.join(runner_names(board))}"
        )
    return found


def _no_runner(board: Board, name: str) -> ToolError:
    known = runner_names(board)
    fix = f"use --runner {' or '.join(known)}" if known else "run it: mcucompile verify DIR --on host"
    return ToolError(f"board '{board.name}'", f"it has no runner '{name}'", fix)


def _run_board_runner(directory: Path, board: Board, name: str, port: str | None, dry_run: bool) -> tuple[str, ...]:
    template = board.runners[name]
    elf = directory / ELF_NAME
    command = _fill_in(template, board, name, directory, port)
    line = shlex.join(command)
    if dry_run:
        return (line,)
    program = find_program(command[0])
    if program is None:
        raise ToolError(
            f"runner '{name}' of board '{board.name}'",
            f"the program '{command[0]}' is not on PATH",
            _HOW_TO_GET.get(command[0], f"install {command[0]} and put it on PATH"),
        )
    if port is not None:
        _require_port(port)
    if any("{bin}" in word for word in template):
        (directory / BINARY_NAME).write_bytes(flash_image(elf, board))
    try:
        result = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIME_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(line, f"ran longer than {_TIME_LIMIT_S:g} s", "check the board's connection") from error
    except OSError as error:
        raise ToolError(line, f"cannot be run: {error.strerror}", f"install {command[0]} again") from error
    if result.returncode != 0:
        said = [text.strip() for text in result.stdout.decode("utf-8", errors="replace").splitlines() if text.strip()]
        said = [text for text in said if "error" in text.lower()] or said
        raise ToolError(
            line,
            f"failed with exit code {result.returncode}: {' | '.join(said[-3:]) or 'no message'}",
            "check that the board is connected, powered and yours to access",
        )
    if port is not None:
        with open_serial_port(port) as link:
            link.hello()
    return (line,)


def _fill_in(template: tuple[str, ...], board: Board, name: str, directory: Path, port: str | None) -> tuple[str, ...]:
    where = f"board '{board.name}', key 'runners.{name}'"
    used = {field for word in template for _, field, _, _ in string.Formatter().parse(word) if field is not None}
    if unknown := used - set(_PLACEHOLDERS):
        raise BoardError(
            where, f"has the unknown placeholder {{{min(unknown)}}}", f"use one of {', '.join(_PLACEHOLDERS)}"
        )
    if not template:
        raise BoardError(where, "is empty", "write the program and its arguments")
    if "{port}" in template and port is None:
        raise ToolError(f"runner '{name}' of board '{board.name}'", "it needs the board's port", "give --port")
    values = {
        "elf": str(directory / ELF_NAME),
        "directory": str(directory),
        "bin": str(directory / BINARY_NAME),
        "port": port,
    }
    return tuple(word.format_map(values) for word in template if port is not None or "{port}" not in word)


def find_program(name: str) -> str | None:
    """Path of a program on PATH or beside this Python (a virtual environment that is not activated)."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def _require_port(port: str) -> None:
    known = sorted(found.device for found in list_ports.comports())
    if port not in known and not Path(port).exists():
        raise ToolError(
            f"port '{port}'",
            "there is no such port",
            f"connect the board and use one of: {', '.join(known)}" if known else "connect the board: no port is there",
        )
