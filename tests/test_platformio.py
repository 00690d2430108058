"""A generated directory is a PlatformIO project: `pio run` builds the same firmware, offline.

PlatformIO's registry is stood in for by a local platform (tests/platformio_offline) and by PyPI's SCons as the
package `tool-scons`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
from elf_builds import require_compiler
from mcucompile.emit import render
from mcucompile.targets.boards import list_boards, load_board
from mcucompile.targets.elf import inspect_elf, prove
from mcucompile.targets.firmware import firmware_files
from mcucompile.targets.flash import find_program, flash_image
from mcucompile.targets.toolchain import build_firmware, compile_flags

TESTS = Path(__file__).parent
PLATFORM = TESTS / "platformio_offline" / "platform"
TIME_LIMIT_S = 120
BOARDS = [board for board in list_boards() if board.build.platformio_board]
# Chosen by PlatformIO's board file, or set by PlatformIO itself.
CORE_FLAG = re.compile(r"-(march|mabi|mcpu|misa-spec|mthumb|Iinclude)")


def project_file(board, **more):
    return render("platformio.ini.j2", {"board": board, "model": "sample", **more})


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_the_project_file_has_the_flags_of_the_tool_chain(board):
    text = project_file(board)
    flags = {line.strip() for line in text.splitlines() if line.startswith("    -")}
    assert {flag for flag in compile_flags(board) if not CORE_FLAG.match(flag)} <= flags
    assert f"\nboard = {board.build.platformio_board}\n" in text
    assert f"\nplatform = {board.build.platformio_platform}\n" in text
    assert "{" not in text


def test_the_project_file_can_leave_out_the_multiplier():
    hifive1 = load_board("hifive1")
    assert "board_build.march = rv32iac" in project_file(hifive1, no_multiply=True)
    assert "march" not in project_file(hifive1, no_multiply=False)
    assert "march" not in project_file(load_board("microbit"), no_multiply=True)


@pytest.fixture(scope="session")
def core_directory(tmp_path_factory):
    """PlatformIO's own directory, with SCons as the package that it would fetch."""
    if find_program("pio") is None or find_spec("SCons") is None:
        pytest.skip("platformio or scons is missing: pip install platformio scons")
    from platformio.dependencies import get_core_dependencies  # noqa: PLC0415 (an optional tool)

    core = tmp_path_factory.mktemp("platformio")
    package = core / "packages" / "tool-scons"
    package.mkdir(parents=True)
    wanted = get_core_dependencies()["tool-scons"].lstrip("~^>=")
    identity = {"name": "tool-scons", "version": wanted}
    (package / "package.json").write_text(json.dumps({**identity, "description": f"SCons {version('scons')}"}))
    spec = {"owner": "platformio", "id": None, "name": "tool-scons", "requirements": None, "uri": None}
    (package / ".piopm").write_text(json.dumps({"type": "tool", **identity, "spec": spec}))
    (package / "scons.py").write_text("import SCons.Script\n\nSCons.Script.main()\n")
    (package / "SCons").symlink_to(Path(find_spec("SCons").origin).parent, target_is_directory=True)
    return core


def pio_run(project, core):
    # A proxy that is not there makes any look at the network an error.
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    environment = {
        **os.environ,
        **nowhere,
        "PLATFORMIO_CORE_DIR": str(core),
        "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no",
        "PLATFORMIO_NO_ANSI": "yes",
        "PATH": os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)]),
    }
    return subprocess.run(
        [find_program("pio"), "run", "--project-dir", str(project)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "no_multiply"), [("hifive1", False), ("hifive1", True), ("microbit", False), ("nucleo-f401re", False)]
)
def test_pio_run_builds_the_same_firmware(name, no_multiply, core_directory, tmp_path):
    board = load_board(name)
    require_compiler(board.core, "gcc")
    project = tmp_path / "project"
    shutil.copytree(TESTS / "sample_project", project)
    files = firmware_files(board)
    published = project_file(board, no_multiply=no_multiply)
    files["platformio.ini"] = published.replace(
        f"platform = {board.build.platformio_platform}\n", f"platform = symlink://{PLATFORM}\n"
    )
    assert files["platformio.ini"] != published
    for path, text in files.items():
        target = project / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    ours = build_firmware(project, board, toolchain="gcc", no_multiply=no_multiply)
    result = pio_run(project, core_directory)
    assert result.returncode == 0, result.stdout + result.stderr
    built = project / ".pio" / "build" / board.build.platformio_board / "firmware.elf"
    theirs, facts = inspect_elf(built, board.core), inspect_elf(ours, board.core)
    prove(theirs, built, no_multiply=no_multiply)
    sizes = [(f.flash_bytes, f.ram_bytes, f.stack_bytes) for f in (theirs, facts)]
    assert sizes[0] == sizes[1]
    assert flash_image(built, board) == flash_image(ours, board)
    # What PlatformIO prints is what is in the ELF.
    printed = re.search(r"Flash: .*used (\d+) bytes from (\d+) bytes", result.stdout)
    assert int(printed[1]) == facts.flash_bytes
    assert int(printed[2]) == board.memory.flash_bytes
