"""The same firmware gives the same answers and the same instruction counts in QEMU and in unicorn, or says why not."""

import random
import shutil
import time

import pytest
from firmware_builds import (
    FIRMWARE_BOARDS,
    LAYERS,
    QEMU_BOARDS,
    expected,
    require_emulator,
    require_toolchain,
    sample_elf,
    write_project,
)
from mcucompile.errors import LinkError, ProjectError, ToolError
from mcucompile.resources import resource_dir
from mcucompile.targets.boards import load_board
from mcucompile.targets.qemu import has_qemu, open_qemu
from mcucompile.targets.toolchain import build_firmware
from mcucompile.targets.unicorn_emulator import has_unicorn, open_unicorn

OPEN = {"qemu": open_qemu, "unicorn": open_unicorn}
RUNS = [("qemu", name) for name in QEMU_BOARDS] + [("unicorn", name) for name in FIRMWARE_BOARDS]


def open_emulator(emulator, elf, board, **options):
    require_emulator(board, emulator)
    return OPEN[emulator](elf, board, **options)


@pytest.mark.parametrize("chain", ["gcc", "zig"])
@pytest.mark.parametrize(("emulator", "board_name"), RUNS)
def test_answers(emulator, board_name, chain):
    elf = sample_elf(board_name, chain)
    with open_emulator(emulator, elf, load_board(board_name)) as link:
        hello = link.hello()
        assert (hello.model_name, hello.input_bytes, hello.output_bytes, hello.layer_count) == ("sample", 16, 8, 2)
        for seed in range(20):
            data = random.Random(seed).randbytes(16)
            answer = link.infer(data)
            assert (answer.output, answer.digests, answer.cycles) == (*expected(data), 0)


@pytest.mark.parametrize(("emulator", "board_name"), [run for run in RUNS if run[1] != "hifive1-revb"])
def test_echo_of_64_kilobytes(emulator, board_name):
    data = random.Random(7).randbytes(65536)
    with open_emulator(emulator, sample_elf(board_name, "gcc"), load_board(board_name)) as link:
        assert link.echo(data) == data


@pytest.mark.parametrize("chain", ["gcc", "zig"])
@pytest.mark.parametrize("board_name", QEMU_BOARDS)
def test_counts_are_equal(board_name, chain):
    board = load_board(board_name)
    counted = {}
    for emulator in OPEN:
        counts = []
        with open_emulator(emulator, sample_elf(board_name, chain), board, layers=LAYERS) as link:
            for seed in range(3):
                link.infer(random.Random(seed).randbytes(16), digests=seed != 1)
                counts.append(link.counts())
        counted[emulator] = counts
    assert counted["qemu"] == counted["unicorn"]
    assert all(0 < sum(c.layers) < c.total and min(c.layers) > 0 for c in counted["qemu"])


@pytest.mark.parametrize("chain", ["gcc", "zig"])
def test_counts_of_rv32e_are_equal(tmp_path, chain):
    """QEMU has no CH32V003, but RV32E code runs on the RV32I core of its HiFive1."""
    text = (resource_dir("boards") / "hifive1.toml").read_text(encoding="utf-8")
    path = tmp_path / "hifive1-e.toml"
    path.write_text(text.replace('"rv32imac"', '"rv32ec"').replace("r = true", "r = false"), encoding="utf-8")
    board = load_board(path)
    require_toolchain(board, chain)
    elf = build_firmware(write_project(tmp_path / "project", board), board, toolchain=chain)
    counted = []
    for emulator in OPEN:
        with open_emulator(emulator, elf, board, layers=LAYERS) as link:
            link.infer(bytes(range(16)))
            counted.append(link.counts())
    assert counted[0] == counted[1]


def test_counts_know_what_runs(tmp_path):
    """Seven more instructions in a layer are seven more in its count and in the total, and nowhere else."""
    board = load_board("hifive1")
    require_toolchain(board, "gcc")
    counts = []
    for body in ("", '__asm__ volatile("nop\\nnop\\nnop\\nnop\\nnop\\nnop\\nnop");'):
        project = write_project(tmp_path, board, out=body)
        elf = build_firmware(project, board, toolchain="gcc")
        with open_emulator("unicorn", elf, board, layers=LAYERS) as link:
            link.infer(bytes(16))
            counts.append(link.counts())
    assert counts[1].total - counts[0].total == 7
    assert (counts[1].layers[0], counts[1].layers[1]) == (counts[0].layers[0], counts[0].layers[1] + 7)


# The boards' [cycles]: instructions between two layers' ends, how many they are and what they take.
CYCLES = [
    ("hifive1", "nop\\nnop", 2, 2),
    ("hifive1", "mul a4, a4, a4", 1, 5),
    ("hifive1", "lw a4, 0(sp)\\nlbu a4, 0(sp)\\nsb a4, -1(sp)", 3, 2 + 3 + 1),
    ("hifive1", "div a4, a4, a4", 1, 33),
    ("ch32v003", "lhu a4, 0(sp)\\nbeq zero, zero, 1f\\nnop\\n1: bne zero, zero, 1b", 3, 2 + 3 + 1),
    ("microbit", "ldr r3, [sp]\\nmuls r3, r3\\npush {r0, r1, r2, r3}\\npop {r0, r1, r2, r3}", 4, 2 + 1 + 5 + 5),
    ("microbit", "b 1f\\nnop\\n1: nop", 2, 3 + 1),
    ("nucleo-f401re", "ldrd r2, r3, [sp]\\nsmlad r2, r2, r3, r3\\nbic r2, r2, r3\\nudiv r3, r3, r3", 4, 3 + 1 + 1 + 12),
]


@pytest.mark.parametrize(("board_name", "body", "instructions", "cycles"), CYCLES)
def test_cycles_are_those_of_the_board(tmp_path, board_name, body, instructions, cycles):
    board = load_board(board_name)
    require_toolchain(board, "gcc")
    clobbers = ': : : "a4", "memory"' if board.core.startswith("rv32") else ': : : "r2", "r3", "memory", "cc"'
    counts = []
    syntax = "" if board.core.startswith("rv32") else ".syntax unified\\n"
    for out in ("", f'__asm__ volatile("{syntax}{body}" {clobbers});'):
        elf = build_firmware(write_project(tmp_path, board, out=out), board, toolchain="gcc")
        with open_emulator("unicorn", elf, board, layers=LAYERS) as link:
            link.infer(bytes(16))
            counts.append(link.counts())
    assert counts[1].total - counts[0].total == instructions
    assert counts[1].cycles[0] - counts[0].cycles[0] == cycles
    assert counts[1].cycles[1][1] - counts[0].cycles[1][1] == cycles


@pytest.mark.parametrize("emulator", OPEN)
def test_counts_must_be_asked_for(emulator):
    board = load_board("hifive1")
    elf = sample_elf("hifive1", "gcc")
    with open_emulator(emulator, elf, board) as link:
        link.infer(bytes(16))
        with pytest.raises(LinkError, match="no inference was counted"):
            link.counts()
    with open_emulator(emulator, elf, board, layers=()) as link:
        with pytest.raises(LinkError, match="no inference was counted"):
            link.counts()
        link.infer(bytes(16))
        assert link.counts().layers == ()
    with (
        pytest.raises(ProjectError, match="no function 'sample_third'"),
        open_emulator(emulator, elf, board, layers=("sample_third",)),
    ):
        pass


# ---- What the board's core or memory does not allow


def sample_that(tmp_path, board, statements, declarations="", **options):
    require_toolchain(board, "gcc")
    project = write_project(tmp_path, board, declarations=declarations, statements=statements)
    return build_firmware(project, board, toolchain="gcc", **options)


@pytest.mark.parametrize(
    ("board_name", "instruction"),
    [("hifive1", "mul a0, a0, a0"), ("hifive1", "divu a0, a0, a0"), ("microbit", "mul r0, r0")],
)
def test_core_without_multiply(tmp_path, board_name, instruction):
    board = load_board(board_name)
    register = instruction.split()[1].rstrip(",")
    elf = sample_that(tmp_path, board, f'__asm__ volatile("{instruction}" ::: "{register}");')
    with open_emulator("unicorn", elf, board) as link:
        link.infer(bytes(16))
    with open_emulator("unicorn", elf, board, no_multiply=True) as link, pytest.raises(LinkError) as caught:
        link.infer(bytes(16))
    assert instruction.split()[0] in caught.value.problem
    assert "in sample_run" in caught.value.problem
    if board_name == "hifive1":
        with open_emulator("qemu", elf, board) as link:
            link.infer(bytes(16))
        # RISC-V Privileged Architecture, table 3.6: cause 2 is an illegal instruction.
        with open_emulator("qemu", elf, board, no_multiply=True) as link, pytest.raises(LinkError) as caught:
            link.infer(bytes(16))
        assert "trapped: cause 2" in caught.value.problem
        assert "in sample_run" in caught.value.problem


@pytest.mark.parametrize("emulator", OPEN)
def test_sample_runs_without_multiply(emulator):
    board = load_board("hifive1")
    elf = sample_elf("hifive1", "gcc", no_multiply=True)
    with open_emulator(emulator, elf, board, no_multiply=True) as link:
        data = bytes(range(100, 116))
        assert link.infer(data).output == expected(data)[0]


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        # Encoded by hand: an assembler for RV32E knows neither. addi x17, x17, 1; mul x10, x10, x10.
        ('__asm__ volatile(".word 0x00188893");', "'addi a7, a7, 1' at"),
        ('__asm__ volatile(".word 0x02A50533" ::: "a0");', "'mul a0, a0, a0' at"),
        ("*(volatile uint8_t *)0x20000800u = 1;", "wrote 1 bytes at 0x20000800"),
        ("(void)*(volatile uint8_t *)0x200007FFu; (void)*(volatile uint32_t *)0x20000FFCu;", "read 4 bytes"),
        ("*(volatile uint32_t *)0x1FFFFFFCu = 1;", "wrote 4 bytes at 0x1ffffffc"),
        ("*(volatile uint32_t *)0x100u = 1;", "wrote 4 bytes at 0x00000100"),
        ("(void)*(volatile uint32_t *)0x4000u;", "read 4 bytes at 0x00004000"),
        ("(void)*(volatile uint32_t *)0x50000000u;", "read 4 bytes at 0x50000000"),
    ],
)
def test_ch32v003_has_no_more_than_it_has(tmp_path, statements, problem):
    board = load_board("ch32v003")
    elf = sample_that(tmp_path, board, statements)
    with open_emulator("unicorn", elf, board) as link, pytest.raises(LinkError) as caught:
        link.infer(bytes(16))
    assert problem in caught.value.problem
    assert "in sample_run" in caught.value.problem


# Forty frames of 256 bytes: more than the stack, less than RAM and stack together, except on the smallest board.
DEEP = """__attribute__((noinline)) static int deep(volatile int *up)
{
    volatile int here[64];
    here[0] = *up + 1;
    return *up == 40 ? here[0] : deep(here) + here[0];
}
"""


@pytest.mark.parametrize(("emulator", "board_name"), [*RUNS])
def test_stack_overflow_is_caught(tmp_path, emulator, board_name):
    board = load_board(board_name)
    elf = sample_that(tmp_path, board, "volatile int zero = 0; output[0] = deep(&zero);", DEEP)
    with open_emulator(emulator, elf, board) as link, pytest.raises(LinkError) as caught:
        link.infer(bytes(16))
    if emulator == "unicorn":
        assert "wrote 4 bytes" in caught.value.problem
        assert "in deep" in caught.value.problem
    else:
        # The firmware reports the trap itself; where the exception cannot even be entered, QEMU says so.
        assert "trapped: cause" in caught.value.problem or "Lockup" in caught.value.problem


def test_firmware_answers_after_a_trap(tmp_path):
    board = load_board("hifive1")
    elf = sample_that(tmp_path, board, "(void)*(volatile uint32_t *)0x90000000u;")
    with open_emulator("qemu", elf, board) as link:
        for _ in range(3):
            # RISC-V Privileged Architecture, table 3.6: cause 5 is a load access fault.
            with pytest.raises(LinkError, match=r"trapped: cause 5 at 0x.* in sample_run"):
                link.infer(bytes(16))


@pytest.mark.parametrize("emulator", OPEN)
def test_endless_firmware_is_ended(tmp_path, emulator):
    board = load_board("hifive1")
    elf = sample_that(tmp_path, board, "for (volatile int i = 0;; i = 1 - i) { }")
    started = time.monotonic()
    with open_emulator(emulator, elf, board, time_limit_s=1.0) as link, pytest.raises(LinkError):
        link.infer(bytes(16))
    assert time.monotonic() - started < 10


# ---- What is missing


def test_board_without_machine():
    board = load_board("ch32v003")
    assert not has_qemu(board)
    with pytest.raises(ToolError, match="no machine"), open_qemu(sample_elf("ch32v003", "gcc"), board):
        pass
    host = load_board("host")
    with pytest.raises(ToolError, match=r"no \[unicorn\] section"), open_unicorn(sample_elf("host", "gcc"), host):
        pass


@pytest.mark.parametrize("board_name", ["hifive1", "microbit"])
def test_missing_qemu_says_what_to_install(monkeypatch, board_name):
    elf = sample_elf(board_name, "gcc")
    board = load_board(board_name)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert not has_qemu(board)
    with pytest.raises(ToolError) as caught, open_qemu(elf, board):
        pass
    package = "qemu-system-arm" if board_name == "microbit" else "qemu-system-misc"
    assert f"apt-get install {package}" in caught.value.fix


def test_missing_unicorn_says_what_to_install(monkeypatch):
    elf = sample_elf("hifive1", "gcc")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert not has_unicorn()
    with (
        pytest.raises(ToolError, match=r"pip install 'mcucompile\[toolchain\]'"),
        open_unicorn(elf, load_board("hifive1")),
    ):
        pass


@pytest.mark.parametrize("emulator", OPEN)
def test_no_firmware(tmp_path, emulator):
    board = load_board("hifive1")
    with pytest.raises(ProjectError, match="cannot be read"), open_emulator(emulator, tmp_path / "none", board):
        pass
    (tmp_path / "text").write_text("no ELF", encoding="utf-8")
    with pytest.raises(ProjectError, match="is not an ELF"), open_emulator(emulator, tmp_path / "text", board):
        pass
