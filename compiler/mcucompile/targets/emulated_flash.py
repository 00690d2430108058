"""Flashes an emulated board: boots the firmware in an emulator, or loads it into empty flash with GDB.

GDB's `load` writes to the board's real flash addresses. QEMU lets a debugger write to the memories that its machines
declare read-only to the program (`address_space_write_rom`), so the image that GDB wrote is what the core then boots
from after a reset, as on a board with a debug probe.
"""

import contextlib
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import serial

from mcucompile.errors import ToolError
from mcucompile.targets.boards import Board, Qemu
from mcucompile.targets.link import Link
from mcucompile.targets.qemu import has_qemu
from mcucompile.targets.unicorn_emulator import has_unicorn, open_unicorn

_GDB_PROGRAMS = ("gdb-multiarch", "riscv64-unknown-elf-gdb", "arm-none-eabi-gdb")
_GDB_TIME_LIMIT_S = 120.0
_QEMU_TIME_LIMIT_S = 180.0
_START_TIME_LIMIT_S = 15.0
_QEMU_GDB_PORT, _QEMU_SERIAL_PORT = 3333, 3334


def greet_emulator(elf: Path, board: Board, port: str | None) -> tuple[str, ...]:
    """Boot the firmware in QEMU, or in unicorn where QEMU has no such machine, and greet it over the link.

    Raises:
        ToolError: no emulator for the board is installed, or a port was given.
        LinkError: the firmware does not answer.
    """
    _refuse_port(port)
    if board.qemu is None or not has_qemu(board):
        if not has_unicorn():
            raise _no_emulator(board)
        with open_unicorn(elf, board) as link:
            link.hello()
        return _unicorn_command(elf)
    serial_port = _free_port()
    command = _qemu_command(board.qemu, serial_port, "-kernel", str(elf))
    with _running(command, board.qemu), _link(serial_port, board) as link:
        link.hello()
    return (shlex.join(command),)


def greet_emulator_commands(elf: Path, board: Board, port: str | None) -> tuple[str, ...]:
    """What `greet_emulator` would run; the number of the serial socket stands for a free one."""
    _refuse_port(port)
    if board.qemu is None:
        return _unicorn_command(elf)
    return (shlex.join(_qemu_command(board.qemu, _QEMU_SERIAL_PORT, "-kernel", str(elf))),)


def flash_with_gdb(elf: Path, board: Board, port: str | None) -> tuple[str, ...]:
    """Load the firmware with GDB and compare what is in flash afterwards.

    With a port, HOST:PORT of a GDB server that is already running (a debug probe's, OpenOCD's). Without one, into a
    QEMU that is started with empty flash; the core is then reset and greeted over the link.

    Raises:
        ToolError: GDB or QEMU is missing or fails, nothing listens at the port, or the flash differs after loading.
        LinkError: the firmware does not answer in the emulator.
    """
    gdb = next((program for program in _GDB_PROGRAMS if shutil.which(program)), None)
    if gdb is None:
        raise ToolError(
            "runner 'gdb'", f"none of {', '.join(_GDB_PROGRAMS)} is on PATH", "apt-get install gdb-multiarch"
        )
    if port is not None:
        _require_server(port)
        command = _gdb_command(gdb, elf, port, reset=False)
        _run_gdb(command)
        return (shlex.join(command),)
    if board.qemu is None or not has_qemu(board):
        raise _no_qemu(board)
    gdb_port, serial_port = _free_port(), _free_port()
    machine = _qemu_command(board.qemu, serial_port, "-S", "-gdb", f"tcp:127.0.0.1:{gdb_port}")
    command = _gdb_command(gdb, elf, f"127.0.0.1:{gdb_port}", reset=True)
    with _running(machine, board.qemu), _link(serial_port, board) as link:
        _run_gdb(command)
        link.hello()
    return (shlex.join(machine), shlex.join(command))


def gdb_commands(elf: Path, board: Board, port: str | None) -> tuple[str, ...]:
    """What `flash_with_gdb` would run; the numbers of the sockets stand for free ones."""
    gdb = next((program for program in _GDB_PROGRAMS if shutil.which(program)), _GDB_PROGRAMS[0])
    if port is not None:
        return (shlex.join(_gdb_command(gdb, elf, port, reset=False)),)
    if board.qemu is None:
        raise _no_qemu(board)
    server = f"127.0.0.1:{_QEMU_GDB_PORT}"
    machine = _qemu_command(board.qemu, _QEMU_SERIAL_PORT, "-S", "-gdb", f"tcp:{server}")
    return (shlex.join(machine), shlex.join(_gdb_command(gdb, elf, server, reset=True)))


def _unicorn_command(elf: Path) -> tuple[str, ...]:
    return (shlex.join(["unicorn", str(elf)]),)


def _refuse_port(port: str | None) -> None:
    if port is not None:
        raise ToolError(f"port '{port}'", "the runner 'emulator' uses no port", "leave out --port")


def _no_emulator(board: Board) -> ToolError:
    return ToolError(
        f"board '{board.name}'",
        "no emulator for it is installed",
        "pip install 'mcucompile[toolchain]' (any system), or apt-get install qemu-system-misc qemu-system-arm",
    )


def _no_qemu(board: Board) -> ToolError:
    if board.qemu is not None:
        return _no_emulator(board)
    return ToolError(
        f"runner 'gdb' of board '{board.name}'",
        "QEMU has no machine for the board",
        "give --port HOST:PORT of a GDB server, or use --runner emulator",
    )


def _qemu_command(machine: Qemu, serial_port: int, *more: str) -> list[str]:
    return [
        machine.program,
        *("-machine", machine.machine),
        *machine.arguments,
        *("-display", "none", "-monitor", "none"),
        *(("-serial", "null") * machine.serial_index),
        *("-serial", f"tcp:127.0.0.1:{serial_port},server=on,wait=off"),
        *more,
    ]


def _gdb_command(gdb: str, elf: Path, server: str, *, reset: bool) -> list[str]:
    # The reset makes a Cortex-M read its stack pointer and entry from the vector table that was just written.
    steps = [
        "set confirm off",
        f"set remotetimeout {_START_TIME_LIMIT_S:.0f}",
        f"target remote {server}",
        "load",
        "compare-sections",
        *(["monitor system_reset"] if reset else []),
        "detach",
    ]
    return [gdb, "-nx", "-batch", *(word for step in steps for word in ("-ex", step)), str(elf)]


def _run_gdb(command: list[str]) -> None:
    line = shlex.join(command)
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_GDB_TIME_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(line, f"ran longer than {_GDB_TIME_LIMIT_S:g} s", "check the GDB server") from error
    said = result.stdout.decode("utf-8", errors="replace")
    # GDB's exit code is that of its last command only.
    differs = [text for text in said.splitlines() if "MIS-MATCHED" in text]
    if differs or "matched" not in said or result.returncode != 0:
        lines = differs or [text.strip() for text in said.splitlines() if text.strip()]
        raise ToolError(
            line, f"did not load the firmware: {' | '.join(lines[-3:])}", "check that the server's flash is writable"
        )


@contextlib.contextmanager
def _running(command: list[str], machine: Qemu) -> Iterator[None]:
    """Run QEMU until the end of the `with` block, but not longer than its time limit."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        watchdog = threading.Timer(_QEMU_TIME_LIMIT_S, process.send_signal, [signal.SIGKILL])
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        except ToolError as error:
            log.seek(0)
            said = log.read().decode("utf-8", errors="replace").strip()
            if process.poll() is None or not said:
                raise
            raise ToolError(machine.program, said.splitlines()[-1], error.fix) from error
        finally:
            watchdog.cancel()
            if process.poll() is None:
                process.kill()
            process.wait()


@contextlib.contextmanager
def _link(port: int, board: Board) -> Iterator[Link]:
    """The link to an emulator that serves its UART at the port, and has perhaps just been started."""
    deadline = time.monotonic() + _START_TIME_LIMIT_S
    while True:
        try:
            opened = serial.serial_for_url(f"socket://127.0.0.1:{port}")
            break
        except serial.SerialException as error:
            if time.monotonic() > deadline:
                raise ToolError(f"board '{board.name}'", "the emulator does not start", "try again") from error
            time.sleep(0.05)
    with contextlib.closing(opened):
        yield Link(opened, name=f"emulated {board.name}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _require_server(port: str) -> None:
    host, _, number = port.rpartition(":")
    try:
        with socket.create_connection((host, int(number)), timeout=_START_TIME_LIMIT_S):
            pass
    except (OSError, ValueError, OverflowError) as error:
        raise ToolError(
            f"port '{port}'", "no GDB server answers there", "start one, and give its place as HOST:PORT"
        ) from error
