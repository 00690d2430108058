"""Runs a firmware in QEMU, its UART on a loopback socket; counts instructions with a plugin."""

import contextlib
import hashlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import serial

from mcucompile.errors import LinkError, ToolError
from mcucompile.resources import resource_dir
from mcucompile.targets.boards import Board, Qemu
from mcucompile.targets.counting import CountingLink, CountingPlan, InstructionCounts, plan_counting
from mcucompile.targets.host import end_process
from mcucompile.targets.symbols import load_image
from mcucompile.targets.toolchain import find_host_compiler

_PACKAGES = {"qemu-system-riscv32": "qemu-system-misc", "qemu-system-arm": "qemu-system-arm"}
_STEP_TIME_LIMIT_S = 60.0


def has_qemu(board: Board) -> bool:
    """Return whether QEMU has a machine for the board and is installed."""
    return board.qemu is not None and shutil.which(board.qemu.program) is not None


@contextlib.contextmanager
def open_qemu(
    elf: Path,
    board: Board,
    *,
    no_multiply: bool = False,
    layers: tuple[str, ...] | None = None,
    time_limit_s: float = 600.0,
) -> Iterator[CountingLink]:
    """Run a firmware until the end of the `with` block, and yield the link to it.

    Args:
        elf: built for the board.
        board: one that has a QEMU machine.
        no_multiply: run on a core whose multiply extension is switched off, where QEMU has such a switch.
        layers: names of the layers' functions, in order, for counts per layer; () counts the whole inference
            only, None does not count (fastest).
        time_limit_s: QEMU is ended after this time, whatever it does.
    Raises:
        ToolError: QEMU is not installed, has no such machine, or does not start.
        LinkError: as the requests of a Link; the message ends with what QEMU said about the guest.
    """
    machine = _machine(board)
    image = load_image(elf)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcucompile-")))
        log = directory / "qemu.log"
        counts_path = directory / "counts"
        plugin: tuple[str, ...] = ()
        if layers is not None:
            counts_path.touch()
            plugin = _plugin_arguments(plan_counting(image, layers), counts_path, machine.program)
        # QEMU inherits the listening socket, so no other process can take the port first; connections
        # inherit the option, without which each reply would wait for an acknowledgement.
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        command = _command(machine, elf, no_multiply, listener.fileno(), plugin)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[listener.fileno()],
            )
        stack.callback(end_process, process)
        watchdog = threading.Timer(time_limit_s, process.kill)
        watchdog.daemon = True
        watchdog.start()
        stack.callback(watchdog.cancel)
        port = serial.serial_for_url(f"socket://127.0.0.1:{listener.getsockname()[1]}")
        stack.callback(port.close)
        listener.close()

        def read_counts() -> InstructionCounts | None:
            lines = counts_path.read_text(encoding="ascii").splitlines()
            if not lines:
                return None
            total, *of_layers = map(int, lines[-1].split())
            return InstructionCounts(total, tuple(of_layers))

        link = CountingLink(
            port,
            name=f"{machine.program} ({board.name})",
            describe_address=image.describe_address,
            read_counts=None if layers is None else read_counts,
        )
        try:
            yield link
        except LinkError as error:
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            if process.poll() is not None and not said:
                said = [f"ended with the exit code {process.returncode}"]
            if not said:
                raise
            raise LinkError(error.where, f"{error.problem}; QEMU: {'; '.join(said[:4])}", error.fix) from error


def _machine(board: Board) -> Qemu:
    if board.qemu is None:
        raise ToolError(
            f"board '{board.name}'", "QEMU has no machine for it", "pip install 'mcucompile[toolchain]' for unicorn"
        )
    if shutil.which(board.qemu.program) is None:
        package = _PACKAGES.get(board.qemu.program, board.qemu.program)
        raise ToolError(
            f"board '{board.name}'",
            f"{board.qemu.program} is not on PATH",
            f"apt-get install {package} (Debian, Ubuntu), or use unicorn: pip install 'mcucompile[toolchain]'",
        )
    return board.qemu


def _command(machine: Qemu, elf: Path, no_multiply: bool, listener: int, plugin: tuple[str, ...]) -> list[str]:
    return [
        machine.program,
        *("-machine", machine.machine),
        *machine.arguments,
        *(machine.no_multiply_arguments if no_multiply else ()),
        *("-display", "none", "-monitor", "none", "-d", "guest_errors"),
        *("-chardev", f"socket,id=link,fd={listener},server=on,wait=on"),
        *(("-serial", "null") * machine.serial_index),
        *("-serial", "chardev:link"),
        *plugin,
        *("-kernel", str(elf)),
    ]


def _plugin_arguments(plan: CountingPlan, out: Path, program: str) -> tuple[str, ...]:
    words = [f"out={out}", f"begin={plan.begin:x}", f"end={plan.end:x}"]
    words += [f"layer={address:x}" for address in plan.layers]
    words += [f"skip={function.start:x}-{function.end:x}" for function in plan.excluded]
    return ("-plugin", ",".join([str(_plugin(program)), *words]))


def _plugin(program: str) -> Path:
    """Return the counting plugin, compiled once for each version of its source and of QEMU's plugin interface."""
    source = resource_dir("runtime_c") / "emulator" / "instruction_count.c"
    version = subprocess.run(
        [program, "--version"], capture_output=True, text=True, timeout=_STEP_TIME_LIMIT_S, check=False
    ).stdout
    found = re.search(r"version (\d+)", version)
    # Since release 9 QEMU refuses plugins of interface version 1; what is used here has stayed the same.
    interface = 1 if found is None or int(found[1]) < 9 else 2
    key = hashlib.sha256(source.read_bytes() + bytes([interface])).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mcucompile"
    plugin = cache / f"instruction_count_{key}.so"
    if plugin.is_file():
        return plugin
    compiler = find_host_compiler()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as directory:
            built = Path(directory) / plugin.name
            flags = ["-std=c99", "-O2", "-shared", "-fPIC", f"-DMCU_PLUGIN_API={interface}"]
            result = subprocess.run(
                [*compiler.command, *flags, str(source), "-o", str(built)],
                capture_output=True,
                text=True,
                timeout=_STEP_TIME_LIMIT_S,
                check=False,
            )
            if result.returncode != 0:
                raise ToolError(
                    compiler.command[0],
                    f"cannot compile QEMU's counting plugin: {result.stderr.strip()[:200]}",
                    "count in unicorn: pip install 'mcucompile[toolchain]'",
                )
            built.replace(plugin)  # at once, since two processes may be here
    except OSError as error:
        raise ToolError(cache, f"cannot be written: {error.strerror}", "set XDG_CACHE_HOME") from error
    return plugin
