"""Builds small C programs for every core, with start-up code and linker script of their own, and runs them.

The tests of the ELF analysis use these instead of the product's firmware, so that each test holds exactly the code
that it is about.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import unicorn
from elftools.elf.elffile import ELFFile
from unicorn import arm_const, riscv_const

CORES = ("rv32imac", "rv32ec", "cortex-m0", "cortex-m4")
RISCV = ("rv32imac", "rv32ec")
TOOLCHAINS = ("gcc", "zig")
ROUTES = [pytest.param(core, chain, id=f"{core}-{chain}") for core in CORES for chain in TOOLCHAINS]
NOINLINE = "#define FAR __attribute__((noinline, used))\n#include <stdint.h>\nvolatile uint32_t sink;\n"
FLASH, RAM, RAM_BYTES = 0x2000_0000, 0x8000_0000, 0x40000

_FLAGS = {
    ("rv32imac", "gcc"): ["riscv64-unknown-elf-gcc", "-march=rv32imac", "-mabi=ilp32", "-misa-spec=2.2"],
    ("rv32ec", "gcc"): ["riscv64-unknown-elf-gcc", "-march=rv32ec", "-mabi=ilp32e", "-misa-spec=2.2"],
    ("cortex-m0", "gcc"): ["arm-none-eabi-gcc", "-mcpu=cortex-m0", "-mthumb"],
    ("cortex-m4", "gcc"): ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb"],
    ("rv32imac", "zig"): ["-target", "riscv32-freestanding-none", "-mcpu=generic_rv32+m+a+c"],
    ("rv32ec", "zig"): ["-target", "riscv32-freestanding-none", "-mcpu=generic_rv32+e+c", "-mabi=ilp32e"],
    ("cortex-m0", "zig"): ["-target", "thumb-freestanding-eabi", "-mcpu=cortex_m0"],
    ("cortex-m4", "zig"): ["-target", "thumb-freestanding-eabi", "-mcpu=cortex_m4"],
}
_COMMON = [
    *("-std=c11", "-g", "-ffreestanding", "-fno-builtin", "-fno-jump-tables"),
    *("-ffunction-sections", "-nostdlib", "-static"),
]

_LINK = f"""
ENTRY(_start)
MEMORY {{
  flash (rx) : ORIGIN = {FLASH:#x}, LENGTH = 0x40000
  ram (rwx) : ORIGIN = {RAM:#x}, LENGTH = {RAM_BYTES:#x}
}}
SECTIONS {{
  .vectors : {{ KEEP(*(.vectors)) }} > flash
  .text : {{ *(.text .text.*) }} > flash
  .rodata : {{ *(.rodata .rodata.* .srodata .srodata.*) }} > flash
  .ARM.exidx : {{ *(.ARM.exidx*) }} > flash
  .data : {{ *(.data .data.* .sdata .sdata.*) }} > ram AT > flash
  .bss (NOLOAD) : {{ *(.bss .bss.* .sbss .sbss.* COMMON) }} > ram
  .stack (NOLOAD) : ALIGN(16) {{ . += 0x20000; stack_top = .; }} > ram
  /DISCARD/ : {{ *(.ARM.attributes .comment .eh_frame*) }}
}}
"""
_START_RISCV = """
void program(void);
__attribute__((noinline, used)) void finish(void) { for (;;) { __asm__ volatile(""); } }
__attribute__((naked, used)) void _start(void)
{
    __asm__ volatile("la sp, stack_top\\n call program\\n call finish");
}
"""
_START_ARM = """
extern char stack_top;
void program(void);
__attribute__((noinline, used)) void finish(void) { for (;;) { __asm__ volatile(""); } }
__attribute__((used)) void _start(void) { program(); finish(); for (;;) { } }
static void fault(void) { for (;;) { __asm__ volatile(""); } }
__attribute__((section(".vectors"), used)) const void *const vectors[4] = {
    &stack_top, (const void *)_start, (const void *)fault, (const void *)fault,
};
"""


# zig links no run-time library into these programs; these stand in for it.
SOFT_HELPERS = """
#define HELPER __attribute__((weak, noinline, used))
HELPER uint32_t __udivsi3(uint32_t a, uint32_t b)
{
    uint32_t q = 0, r = 0;
    for (uint32_t i = 0; i < 32; ++i) {
        r = r << 1 | a >> 31;
        a <<= 1;
        q <<= 1;
        if (r >= b) { r -= b; q |= 1; }
    }
    return q;
}
HELPER uint32_t __mulsi3(uint32_t a, uint32_t b)
{
    uint32_t p = 0;
    for (; b != 0; b >>= 1, a <<= 1) { p += b & 1 ? a : 0; }
    return p;
}
HELPER uint32_t __umodsi3(uint32_t a, uint32_t b) { return a - __mulsi3(__udivsi3(a, b), b); }
HELPER uint32_t __aeabi_uidiv(uint32_t a, uint32_t b) { return __udivsi3(a, b); }
HELPER uint64_t __aeabi_uidivmod(uint32_t a, uint32_t b)
{
    const uint32_t q = __udivsi3(a, b);
    return q | (uint64_t)(a - __mulsi3(q, b)) << 32;
}
"""


def require_compiler(core: str, toolchain: str) -> None:
    """Skip the test, naming what is missing, when the compiler is not installed."""
    program = _FLAGS[core, toolchain][0]
    if toolchain == "zig":
        pytest.importorskip("ziglang", reason="pip install ziglang")
    elif shutil.which(program) is None:
        pytest.skip(f"{program} is missing: apt-get install gcc-{program.removesuffix('-gcc')}")


def build(
    source: str, core: str, toolchain: str, folder: Path, flags: tuple[str, ...] = ("-Os",), *, start: str = ""
) -> Path:
    """Compile and link `source`, which defines `void program(void)`; returns the ELF.

    start: start-up code to use instead of the usual one.
    """
    require_compiler(core, toolchain)
    folder.mkdir(parents=True, exist_ok=True)
    start = start or (_START_RISCV if core.startswith("rv32") else _START_ARM)
    (folder / "program.c").write_text(source)
    (folder / "start.c").write_text(start)
    (folder / "link.ld").write_text(_LINK)
    zig = [sys.executable, "-m", "ziglang", "cc", "-fno-sanitize=undefined"]
    compiler = [*(zig if toolchain == "zig" else []), *_FLAGS[core, toolchain]]
    libraries = ["-lgcc"] if toolchain == "gcc" else []
    warnings = ["-Wl,--no-warn-rwx-segments"] if core.startswith("rv32") and toolchain == "gcc" else []
    command = [*compiler, *_COMMON, *warnings, *flags, "-T", "link.ld", "program.c", "start.c"]
    result = subprocess.run(
        [*command, *libraries, "-o", "program.elf"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, f"{core} {toolchain}: {result.stderr}"
    return folder / "program.elf"


@dataclass(frozen=True)
class Run:
    """What a run of `program` did: the lowest stack pointer below its first value, in bytes."""

    stack_bytes: int
    instructions: int


def run(elf: Path, core: str, limit: int = 200_000) -> Run:
    """Run the ELF in unicorn from reset to `finish`, watching the stack pointer at every instruction."""
    with elf.open("rb") as file:
        parsed = ELFFile(file)
        segments = [(s["p_paddr"], s["p_vaddr"], s.data()) for s in parsed.iter_segments("PT_LOAD")]
        symbols = parsed.get_section_by_name(".symtab")
        address = {s.name: s["st_value"] for s in symbols.iter_symbols()}
        entry = parsed["e_entry"]
    if core.startswith("rv32"):
        engine = unicorn.Uc(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV32)
        pointer = riscv_const.UC_RISCV_REG_SP
    else:
        engine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        models = {"cortex-m0": arm_const.UC_CPU_ARM_CORTEX_M0, "cortex-m4": arm_const.UC_CPU_ARM_CORTEX_M4}
        engine.ctl_set_cpu_model(models[core])
        pointer = arm_const.UC_ARM_REG_SP
    engine.mem_map(FLASH, 0x40000)
    engine.mem_map(RAM, RAM_BYTES)
    for _, virtual, data in segments:
        engine.mem_write(virtual, data)
    top = address["stack_top"]
    engine.reg_write(pointer, top)
    lowest, count = top, 0

    def watch(uc: unicorn.Uc, _address: int, _size: int, _data: object) -> None:
        nonlocal lowest, count
        count += 1
        lowest = min(lowest, uc.reg_read(pointer))

    engine.hook_add(unicorn.UC_HOOK_CODE, watch)
    engine.emu_start(entry, address["finish"] & ~1, count=limit, timeout=20_000_000)
    assert count < limit, "the program did not finish"
    return Run(top - lowest, count)
