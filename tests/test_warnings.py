"""All C of a generated project compiles without a warning, with gcc, clang and zig, for every board."""

import subprocess
from pathlib import Path

import pytest
from host_model import WARNINGS
from mcucompile.driver import compile_model
from mcucompile.targets.boards import list_boards
from mcucompile.targets.toolchain import compile_flags, find_compiler

DIGITS = Path(__file__).resolve().parent.parent / "examples" / "digits"
BOARDS = {board.name: board for board in list_boards()}


@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
@pytest.mark.parametrize("name", BOARDS)
def test_generated_projects_compile_without_a_warning(name: str, toolchain: str, tmp_path: Path) -> None:
    directory = tmp_path / "project"
    compiled = compile_model(
        DIGITS / "models" / "four_view_64_16_10.onnx",
        target=name,
        samples=DIGITS / "calibration.npy",
        weights="int8,fc2=dlq4",
        no_multiply=not BOARDS[name].is_host,
        output=directory,
    )
    assert compiled.fits, compiled.budget.shortfalls
    compiler = find_compiler(BOARDS[name], toolchain)
    flags = compile_flags(BOARDS[name], zig=compiler.is_zig, no_multiply=not BOARDS[name].is_host)
    sources = sorted(path.relative_to(directory) for path in directory.glob("src/*.c"))
    assert len(sources) >= 4
    for source in sources:
        command = [*compiler.command, *flags, *WARNINGS, "-c", source, "-o", tmp_path / "out.o"]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, ""), source


@pytest.mark.parametrize("weights", ["int8", "log4", "dlq4"])
def test_the_model_needs_nothing_but_standard_c(weights: str, tmp_path: Path) -> None:
    """model.c alone, as a product includes it: strict C99, no library, no float, no VLA, no global but the arena."""
    directory = tmp_path / "project"
    compile_model(
        DIGITS / "models" / "four_view_64_16_10.onnx",
        samples=DIGITS / "calibration.npy",
        weights=weights,
        output=directory,
    )
    for compiler in ("gcc", "clang"):
        command = [compiler, *WARNINGS, "-Wvla", "-Wshadow", "-Wcast-qual", "-O2", "-ffreestanding", "-Iinclude", "-c"]
        subprocess.run([*command, "src/model.c", "-o", "model.o"], cwd=directory, check=True, timeout=60)
        listed = subprocess.run(
            ["nm", "--defined-only", "model.o"], cwd=directory, capture_output=True, text=True, check=True, timeout=60
        ).stdout.splitlines()
        variables = [line.split()[2] for line in listed if line.split()[1] in "bBdD"]
        assert variables == ["four_view_64_16_10_arena"]
        functions = [line.split()[2] for line in listed if line.split()[1] == "T"]
        assert functions == ["four_view_64_16_10_run"]
    text = (directory / "src" / "model.c").read_text()
    assert "float" not in text
    assert "double" not in text
    assert "malloc" not in text
