"""Flash runners: emulators and GDB end to end, programs that are not here by their dry run, and every mistake."""

import dataclasses
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mcucompile.errors import BoardError, LinkError, ProjectError, ToolError
from mcucompile.targets import emulated_flash
from mcucompile.targets.boards import list_boards, load_board
from mcucompile.targets.firmware import firmware_files
from mcucompile.targets.flash import flash_image, flash_project, runner_names
from mcucompile.targets.toolchain import build_firmware

SAMPLE = Path(__file__).parent / "sample_project"
BOARDS = [board for board in list_boards() if not board.is_host]
WITH_QEMU = [board for board in BOARDS if board.qemu is not None]


def board_name(board):
    return board.name


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Returns a function: board -> directory of the sample project, built for it once."""
    built = {}

    def build(board):
        if board.name not in built:
            directory = tmp_path_factory.mktemp("flash") / board.name
            shutil.copytree(SAMPLE, directory)
            for name, text in firmware_files(board).items():
                path = directory / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            build_firmware(directory, board)
            built[board.name] = directory
        return built[board.name]

    return build


def with_runner(board, *words, name="own"):
    return dataclasses.replace(board, runners={name: words})


def require(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: apt-get install {program}")


def test_there_are_boards_to_flash():
    assert "hifive1" in [board.name for board in WITH_QEMU]
    for board in BOARDS:
        assert {"emulator", "gdb"} <= set(runner_names(board))
    assert runner_names(load_board("host")) == ()


@pytest.mark.parametrize("board", WITH_QEMU, ids=board_name)
def test_gdb_loads_into_empty_flash_and_the_firmware_greets(board, project):
    require("gdb-multiarch", board.qemu.program)
    machine, gdb = (shlex.split(line) for line in flash_project(project(board), board, runner="gdb"))
    assert "-kernel" not in machine
    assert machine[0] == board.qemu.program
    assert gdb[0] == "gdb-multiarch"
    assert "load" in gdb


@pytest.mark.parametrize("board", BOARDS, ids=board_name)
def test_the_emulator_boots_and_greets(board, project):
    (line,) = flash_project(project(board), board, runner="emulator")
    assert str(project(board) / "firmware.elf") in shlex.split(line)


def test_gdb_loads_through_a_server_that_is_already_running(project):
    board = load_board("hifive1")
    require("gdb-multiarch", board.qemu.program)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            *("qemu-system-riscv32", "-machine", "sifive_e", "-display", "none", "-monitor", "none"),
            *("-serial", "null", "-S", "-gdb", f"tcp:127.0.0.1:{port}"),
        ]
    )
    try:
        deadline = time.monotonic() + 10
        while not _listens(port) and time.monotonic() < deadline:
            time.sleep(0.05)
        (line,) = flash_project(project(board), board, runner="gdb", port=f"127.0.0.1:{port}")
        assert f"target remote 127.0.0.1:{port}" in shlex.split(line)
        assert "monitor system_reset" not in line
    finally:
        server.kill()
        server.wait(timeout=10)


def _listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.1).close()
    except OSError:
        return False
    return True


def test_gdb_reports_what_it_could_not_load(project, tmp_path):
    board = load_board("hifive1")
    require("gdb-multiarch", board.qemu.program)
    shutil.copytree(project(board), tmp_path / "wrong")
    # An image for addresses where the machine has no memory.
    script = (tmp_path / "wrong" / "link.ld").read_text()
    moved = script.replace(f"{board.memory.flash_origin:#010x}", "0x60000000")
    assert moved != script
    (tmp_path / "wrong" / "link.ld").write_text(moved)
    build_firmware(tmp_path / "wrong", board)
    with pytest.raises(ToolError, match="did not load the firmware"):
        flash_project(tmp_path / "wrong", board, runner="gdb")


def test_a_missing_debugger_or_emulator_is_named(project, monkeypatch):
    board = load_board("hifive1")
    directory = project(board)
    monkeypatch.setattr(emulated_flash, "_GDB_PROGRAMS", ("no-such-gdb",))
    with pytest.raises(ToolError, match=r"no-such-gdb is on PATH; apt-get install gdb-multiarch"):
        flash_project(directory, board, runner="gdb")
    monkeypatch.setattr(emulated_flash, "has_qemu", lambda _board: False)
    monkeypatch.setattr(emulated_flash, "has_unicorn", lambda: False)
    with pytest.raises(ToolError, match=r"no emulator for it is installed"):
        flash_project(directory, board, runner="emulator")


@pytest.mark.parametrize("board", BOARDS, ids=board_name)
def test_every_runner_of_every_board_has_a_dry_run(board, project):
    directory = project(board)
    for name, words in board.runners.items():
        port = "/dev/ttyBOARD" if any("{port}" in word for word in words) else None
        (line,) = flash_project(directory, board, runner=name, port=port, dry_run=True)
        command = shlex.split(line)
        assert command[0] == words[0]
        assert not any("{" in word and "}" in word and "{{" not in "".join(words) for word in command)
    for name in ("emulator", "gdb"):
        if name == "emulator" or board.qemu is not None:
            assert "firmware.elf" in flash_project(directory, board, runner=name, dry_run=True)[-1]


def test_a_runner_runs_its_command(project, tmp_path):
    board = load_board("hifive1")
    directory = project(board)
    out = tmp_path / "seen"
    code = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(' '.join(sys.argv[2:]))"
    own = with_runner(
        board,
        sys.executable,
        "-c",
        code,
        str(out),
        "{elf}",
        "{directory}",
        "--port={port}",
        "{bin}",
    )
    (line,) = flash_project(directory, own)
    seen = out.read_text().split()
    assert seen == [f"{directory}/firmware.elf", str(directory), f"{directory}/firmware.bin"]
    assert shlex.split(line)[-3:] == seen
    image = (directory / "firmware.bin").read_bytes()
    (directory / "firmware.bin").unlink()
    objcopy = shutil.which("riscv64-unknown-elf-objcopy")
    if objcopy is not None:
        subprocess.run([objcopy, "-O", "binary", directory / "firmware.elf", tmp_path / "bin"], check=True, timeout=30)
        assert image == (tmp_path / "bin").read_bytes()


def test_with_a_port_the_firmware_is_greeted_over_it(project, tmp_path):
    board = load_board("hifive1")
    require(board.qemu.program)
    directory = project(board)
    out = tmp_path / "seen"
    code = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
    own = with_runner(board, sys.executable, "-c", code, str(out), "--port={port}")
    # A pseudo-terminal with the emulated board behind it is as good as a USB port.
    machine = subprocess.Popen(
        [
            *("qemu-system-riscv32", "-machine", "sifive_e", "-display", "none", "-monitor", "none"),
            *("-chardev", "pty,id=board", "-serial", "chardev:board", "-kernel", str(directory / "firmware.elf")),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        port = re.search(r"redirected to (\S+)", machine.stdout.readline())[1]
        flash_project(directory, own, port=port)
        assert out.read_text() == f"--port={port}"
    finally:
        machine.kill()
        machine.wait(timeout=10)
    silent, other_end = os.openpty()
    try:
        with pytest.raises(LinkError, match="no answer"):
            flash_project(directory, own, port=os.ttyname(other_end))
    finally:
        os.close(silent)
        os.close(other_end)


def test_the_first_runner_that_uses_the_port_is_the_default(project):
    board = load_board("hifive1")
    several = dataclasses.replace(board, runners={"plain": ("one", "{elf}"), "serial": ("two", "{port}", "{elf}")})
    directory = project(board)
    assert flash_project(directory, several, dry_run=True)[0].startswith("one ")
    assert flash_project(directory, several, port="/dev/ttyX", dry_run=True)[0].startswith("two /dev/ttyX ")


@pytest.mark.parametrize(
    ("words", "arguments", "problem", "fix"),
    [
        (("no-such-flasher", "{elf}"), {}, "'no-such-flasher' is not on PATH", "install no-such-flasher"),
        (("minichlink", "-w", "{bin}"), {}, "'minichlink' is not on PATH", "ch32fun"),
        (("true", "{port}"), {"runner": "own"}, "needs the board's port", "--port"),
        (("true", "{elf}"), {"port": "/dev/no-such-port"}, "there is no such port", "connect the board"),
        (("true", "{port}"), {"port": "/dev/no-such-port"}, "there is no such port", "connect the board"),
        (("true",), {"runner": "other"}, "no runner 'other'", "own or emulator or gdb"),
        (("true",), {"runner": "gdb", "port": "127.0.0.1:1"}, "no GDB server answers", "HOST:PORT"),
        (("true",), {"runner": "gdb", "port": "/dev/ttyX"}, "no GDB server answers", "HOST:PORT"),
        (("true",), {"runner": "emulator", "port": "/dev/ttyX"}, "uses no port", "leave out --port"),
        ((sys.executable, "-c", "exit('no probe: error 7')"), {}, "exit code 1: no probe: error 7", "connected"),
    ],
)  # fmt: skip
def test_a_mistake_says_what_to_do(words, arguments, problem, fix, project):
    board = load_board("hifive1")
    if arguments.get("runner") == "gdb":
        require("gdb-multiarch")
    with pytest.raises(ToolError) as caught:
        flash_project(project(board), with_runner(board, *words), **arguments)
    assert problem in caught.value.problem
    assert fix in caught.value.fix


def test_mistakes_outside_the_runner(project, tmp_path):
    board = load_board("hifive1")
    with pytest.raises(ProjectError, match=r"holds no firmware\.elf"):
        flash_project(tmp_path, board)
    with pytest.raises(BoardError, match=r"runners\.own.*unknown placeholder \{speed\}"):
        flash_project(project(board), with_runner(board, "true", "{speed}"), dry_run=True)
    with pytest.raises(BoardError, match="is empty"):
        flash_project(project(board), with_runner(board), dry_run=True)
    with pytest.raises(ToolError, match="has no runner"):
        flash_project(project(board), dataclasses.replace(board, runners={}))
    small = dataclasses.replace(board, memory=dataclasses.replace(board.memory, flash_bytes=100))
    with pytest.raises(ProjectError, match="lies outside the flash"):
        flash_image(project(board) / "firmware.elf", small)
    (tmp_path / "firmware.elf").touch()
    with pytest.raises(ToolError, match="nothing to flash"):
        flash_project(tmp_path, load_board("host"))
