"""Both tool chains build every board, the same bytes each time, and say what is wrong when they cannot."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
from firmware_builds import FIRMWARE_BOARDS, LAYERS, require_toolchain, sample_elf, write_project
from mcucompile.errors import ProjectError, ToolError
from mcucompile.resources import resource_dir
from mcucompile.targets import toolchain
from mcucompile.targets.boards import load_board
from mcucompile.targets.elf import inspect_elf
from mcucompile.targets.symbols import load_image
from mcucompile.targets.toolchain import build_firmware, compile_flags, compiler_version, find_compiler

# Link, start-up and sample together: what a model's own weights and buffers come on top of.
MOST_FLASH_BYTES = {"gcc": 2400, "zig": 3200}
MOST_RAM_BYTES = 150
MOST_STACK_BYTES = 256


@pytest.mark.parametrize("chain", ["gcc", "zig"])
@pytest.mark.parametrize("board_name", FIRMWARE_BOARDS)
def test_firmware_is_small_and_never_multiplies(board_name, chain):
    board = load_board(board_name)
    facts = inspect_elf(sample_elf(board_name, chain), board.core)
    assert facts.flash_bytes <= MOST_FLASH_BYTES[chain]
    assert facts.ram_bytes <= MOST_RAM_BYTES
    # That there is a stack at all says that nothing recurses and nothing is called through a pointer.
    assert facts.stack_bytes is not None
    assert facts.stack_bytes <= MOST_STACK_BYTES
    assert (facts.multiplies, facts.floats, facts.heap, facts.undecoded) == ((), (), (), ())


@pytest.mark.parametrize("chain", ["gcc", "zig"])
@pytest.mark.parametrize("board_name", FIRMWARE_BOARDS)
def test_image_is_laid_out_for_the_board(board_name, chain):
    board = load_board(board_name)
    image = load_image(sample_elf(board_name, chain))
    memory = board.memory
    assert min(address for address, _ in image.segments) == memory.flash_origin
    assert max(address + len(data) for address, data in image.segments) <= memory.flash_origin + memory.flash_bytes
    for name in (*LAYERS, "mcu_inference_begin", "mcu_inference_end", "mcu_link_observe_layer", "mcu_entry"):
        assert image.has_function(name)
    assert image.function("mcu_entry").start == image.entry & ~1


@pytest.mark.parametrize("chain", ["gcc", "zig"])
@pytest.mark.parametrize("board_name", ["host", "hifive1", "microbit", "ch32v003"])
def test_same_project_same_bytes(tmp_path, board_name, chain):
    board = load_board(board_name)
    require_toolchain(board, chain)
    built = []
    for name in ("one", "a much longer name"):
        elf = build_firmware(write_project(tmp_path / name, board), board, toolchain=chain)
        built.append(elf.read_bytes())
    assert built[0] == built[1]
    assert str(tmp_path).encode() not in built[0]
    assert str(Path.home()).encode() not in built[0]
    assert b"site-packages" not in built[0]


def test_stack_is_the_lowest_of_ram(tmp_path):
    board = load_board("hifive1")
    require_toolchain(board, "gcc")
    project = write_project(tmp_path, board)
    for stack_bytes, top in ((None, 512), (160, 160), (161, 176)):
        elf = build_firmware(project, board, toolchain="gcc", stack_bytes=stack_bytes)
        listed = subprocess.run(
            ["riscv64-unknown-elf-nm", str(elf)], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        symbols = {line.split()[2]: int(line.split()[0], 16) for line in listed.splitlines()}
        assert symbols["mcu_stack_bottom"] == board.memory.ram_origin
        assert symbols["mcu_stack_top"] == symbols["mcu_data_start"] == board.memory.ram_origin + top


@pytest.mark.parametrize("chain", ["gcc", "zig"])
def test_too_large_says_by_how_much(tmp_path, chain):
    board = load_board("ch32v003")
    require_toolchain(board, chain)
    # Every element is used, so that none can be left out.
    use = "for (uint32_t i = 0; i < 600u; ++i) { large[i] = (uint32_t)input[i & 15u]; } output[0] = (int32_t)large[9];"
    project = write_project(tmp_path, board, declarations="volatile uint32_t large[600];", statements=use)
    with pytest.raises(ToolError, match=r"overflow|will not fit|exceed") as caught:
        build_firmware(project, board, toolchain=chain)
    assert "RAM" in caught.value.problem
    elf = build_firmware(project, board, toolchain=chain, enforce_limits=False)
    assert inspect_elf(elf, board.core).ram_bytes > 2400


@pytest.mark.parametrize("chain", ["gcc", "zig"])
def test_no_multiply_leaves_the_extension_out(tmp_path, chain):
    board = load_board("hifive1")
    require_toolchain(board, chain)
    # A helper of the compiler's library, instead of the instruction.
    body = "static volatile int32_t factor = 3; output[0] = factor * input[0];"
    project = write_project(tmp_path, board, statements=body)
    for no_multiply, what in ((False, "mul"), (True, "__mulsi3")):
        elf = build_firmware(project, board, toolchain=chain, no_multiply=no_multiply)
        found = {violation.what for violation in inspect_elf(elf, board.core).multiplies}
        assert any(what in text for text in found), found


@pytest.mark.parametrize("chain", ["gcc", "zig"])
def test_first_error_of_the_compiler_is_reported(tmp_path, chain):
    board = load_board("hifive1")
    require_toolchain(board, chain)
    project = write_project(tmp_path, board, statements="undeclared = 1;")
    with pytest.raises(ToolError, match=r"src/model\.c:\d+:\d+: error:.*undeclared"):
        build_firmware(project, board, toolchain=chain)
    assert not (project / "firmware.elf").exists()


@pytest.mark.parametrize("chain", ["gcc", "zig"])
def test_undefined_function_is_reported(tmp_path, chain):
    board = load_board("hifive1")
    require_toolchain(board, chain)
    project = write_project(tmp_path, board, declarations="void missing(void);", statements="missing();")
    with pytest.raises(ToolError, match=r"undefined.*missing"):
        build_firmware(project, board, toolchain=chain)


def test_directory_without_sources(tmp_path):
    with pytest.raises(ProjectError, match="no src"):
        build_firmware(tmp_path, load_board("host"))


@pytest.mark.parametrize(
    ("board_name", "package"),
    [("hifive1", "gcc-riscv64-unknown-elf"), ("microbit", "gcc-arm-none-eabi"), ("host", "gcc")],
)
def test_missing_tool_chain_says_what_to_install(monkeypatch, board_name, package):
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    board = load_board(board_name)
    with pytest.raises(ToolError) as caught:
        find_compiler(board)
    assert "pip install 'mcucompile[toolchain]'" in caught.value.fix
    assert f"apt-get install {package}" in caught.value.fix
    with pytest.raises(ToolError, match=f"apt-get install {package}"):
        find_compiler(board, "gcc")
    with pytest.raises(ToolError, match="pip install"):
        find_compiler(board, "zig")


def test_auto_takes_zig_without_gcc(monkeypatch):
    pytest.importorskip("ziglang", reason="pip install 'mcucompile[toolchain]'")
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert find_compiler(load_board("hifive1")).is_zig


def test_unknown_tool_chain():
    with pytest.raises(ToolError, match="auto, gcc, zig"):
        find_compiler(load_board("hifive1"), "keil")


def test_compiler_that_hangs_is_ended(tmp_path, monkeypatch):
    board = load_board("host")
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    slow.chmod(0o755)
    monkeypatch.setattr(toolchain, "_COMPILE_TIME_LIMIT_S", 0.2)
    monkeypatch.setattr(shutil, "which", lambda _name: str(slow))
    with pytest.raises(ToolError, match="longer than"):
        build_firmware(write_project(tmp_path / "project", board), board, toolchain="gcc")


def test_compiler_version_is_one_line():
    require_toolchain(load_board("host"), "gcc")
    version = compiler_version(find_compiler(load_board("host"), "gcc"))
    assert version
    assert "\n" not in version


STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror", "-fsyntax-only"]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("board_name", ["host", *FIRMWARE_BOARDS])
def test_sources_compile_without_a_warning(tmp_path, board_name, compiler):
    board = load_board(board_name)
    if compiler == "clang":
        command = [shutil.which("clang") or pytest.skip("clang is not on PATH: apt-get install clang")]
        if not board.is_host:
            command += ["-target", "riscv32" if board.core.startswith("rv32") else "thumbv6m-none-eabi"]
        flags = ["-D_POSIX_C_SOURCE=200809L"] if board.is_host else ["-ffreestanding"]
    else:
        require_toolchain(board, "gcc")
        command = list(find_compiler(board, "gcc").command)
        flags = list(compile_flags(board))
    project = write_project(tmp_path, board)
    for source in sorted(project.glob("src/*.c")):
        subprocess.run(
            [*command, *flags, *STRICT, "-Iinclude", f"src/{source.name}"], cwd=project, check=True, timeout=60
        )


def test_counting_plugin_compiles_without_a_warning():
    require_toolchain(load_board("host"), "gcc")
    source = resource_dir("runtime_c") / "emulator" / "instruction_count.c"
    subprocess.run(["gcc", *STRICT, str(source)], check=True, timeout=60)
