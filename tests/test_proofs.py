"""Proofs about built ELF files: every multiply, floating-point operation and heap use is found, and nothing else."""

import shutil
import subprocess
from pathlib import Path

import pytest
from elf_builds import CORES, NOINLINE, RISCV, ROUTES, SOFT_HELPERS, TOOLCHAINS, build, require_compiler
from mcucompile.errors import ProofError
from mcucompile.targets.boards import list_boards
from mcucompile.targets.elf import inspect_elf, prove
from mcucompile.targets.firmware import firmware_files
from mcucompile.targets.toolchain import build_firmware


def words(text: str) -> list[str]:
    return text.split()


RISCV_MULTIPLY = [f"{name} a0, a0, a1" for name in words("mul mulh mulhsu mulhu div divu rem remu")]
CORTEX_M4_MULTIPLY = [
    *("muls r0, r1, r0", "mul r0, r1, r2", "mla r0, r1, r2, r3", "mls r0, r1, r2, r3"),
    *(f"{name} r0, r1, r2, r3" for name in words("umull smull umlal smlal umaal smlalbb smlalbt smlaltb smlaltt")),
    *(f"{name} r0, r1, r2, r3" for name in words("smlald smlaldx smlsld smlsldx")),
    *(f"{name} r0, r1, r2" for name in words("smulbb smulbt smultb smultt smulwb smulwt smuad smuadx smusd")),
    *(f"{name} r0, r1, r2" for name in words("smusdx smmul smmulr sdiv udiv")),
    *(f"{name} r0, r1, r2, r3" for name in words("smlabb smlabt smlatb smlatt smlawb smlawt smlad smladx smlsd")),
    *(f"{name} r0, r1, r2, r3" for name in words("smlsdx smmla smmlar smmls smmlsr")),
    "it eq; muleq r0, r1, r2",
]
NO_MULTIPLY = {
    "rv32imac": ["add a0, a0, a1", "slli a0, a0, 3", "sltu a0, a0, a1", "amoadd.w a0, a1, (a2)"],
    "rv32ec": ["add a0, a0, a1", "slli a0, a0, 3"],
    "cortex-m0": ["adds r0, r1", "lsls r0, r1, #3", "uxtb r0, r1", "sbcs r0, r1"],
    "cortex-m4": ["usada8 r0, r1, r2, r3", "usad8 r0, r1, r2", "sxtab r0, r1, r2", "uadd8 r0, r1, r2",
                  "sbfx r0, r1, #3, #4", "ssat r0, #8, r1", "pkhbt r0, r1, r2", "sel r0, r1, r2", "clz r0, r1",
                  "qadd r0, r1, r2", "bfi r0, r1, #1, #2"],
}  # fmt: skip


def asm_program(lines: list[str]) -> str:
    body = "\n".join(f'    __asm__ volatile("{line}");' for line in lines)
    return NOINLINE + f"FAR void marked(void)\n{{\n{body}\n}}\nvoid program(void) {{ marked(); }}\n"


def asm_flags(core: str) -> tuple[str, ...]:
    return ("-Os",) if core in RISCV else ("-Os", "-masm-syntax-unified")


@pytest.mark.parametrize(
    ("core", "lines"),
    [
        ("rv32imac", RISCV_MULTIPLY),
        ("cortex-m0", ["muls r0, r1, r0"]),
        ("cortex-m4", CORTEX_M4_MULTIPLY),
    ],
)
def test_every_multiply_instruction_is_found(core, lines, tmp_path):
    elf = build(asm_program(lines), core, "gcc", tmp_path, asm_flags(core))
    facts = inspect_elf(elf, core)
    assert len(facts.multiplies) == len(lines)
    for violation, line in zip(facts.multiplies, lines, strict=True):
        assert violation.function == "marked"
        assert violation.what.split()[0].split(".")[0] == line.split("; ")[-1].split()[0]
    with pytest.raises(ProofError, match=r"'marked'") as caught:
        prove(facts, elf, no_multiply=True)
    assert caught.value.exit_code == 1
    prove(facts, elf, no_multiply=False)


@pytest.mark.parametrize("core", CORES)
def test_other_instructions_are_no_multiply(core, tmp_path):
    elf = build(asm_program(NO_MULTIPLY[core]), core, "gcc", tmp_path, asm_flags(core))
    facts = inspect_elf(elf, core)
    assert facts.multiplies == facts.floats == facts.heap == facts.undecoded == ()
    prove(facts, elf, no_multiply=True)


@pytest.mark.parametrize("core", ["rv32ec", "cortex-m0"])
def test_each_soft_multiply_and_divide_of_libgcc_is_found(core, tmp_path):
    operations = {
        "multiply": "(uint32_t)a * b",
        "divide": "(int32_t)a / (int32_t)b",
        "divide_unsigned": "(uint32_t)a / (uint32_t)b",
        "modulo": "(int32_t)a % (int32_t)b",
        "modulo_unsigned": "(uint32_t)a % (uint32_t)b",
        "multiply_long": "a * b",
        "divide_long": "(int64_t)a / (int64_t)b",
        "divide_long_unsigned": "a / b",
        "modulo_long": "(int64_t)a % (int64_t)b",
        "modulo_long_unsigned": "a % b",
    }
    functions = [
        f"FAR uint64_t {name}(uint64_t a, uint64_t b) {{ return {text}; }}" for name, text in operations.items()
    ]
    calls = " ^ ".join(f"{name}(sink, sink)" for name in operations)
    source = NOINLINE + "\n".join(functions) + f"\nvoid program(void) {{ sink = {calls}; }}\n"
    facts = inspect_elf(build(source, core, "gcc", tmp_path), core)
    found = {violation.function: violation.what for violation in facts.multiplies}
    for name in operations:
        if (core, name) != ("cortex-m0", "multiply"):
            assert found[name].startswith("__"), f"{name}: {found.get(name)}"
    assert facts.floats == ()


@pytest.mark.parametrize(("core", "toolchain"), ROUTES)
def test_helpers_of_every_tool_chain_are_found_by_name(core, toolchain, tmp_path):
    names = {
        "multiplies": [*words("__mulsi3 __muldi3 __divsi3 __udivsi3 __modsi3 __umodsi3 __divdi3 __udivdi3 __moddi3"),
                       *words("__umoddi3 __udivmodsi4 __udivmoddi4 __aeabi_idiv __aeabi_uidiv __aeabi_idivmod"),
                       *words("__aeabi_uidivmod __aeabi_lmul __aeabi_ldivmod __aeabi_uldivmod __mulosi4")],
        "floats": [*words("__addsf3 __subsf3 __mulsf3 __divsf3 __adddf3 __muldf3 __floatsisf __floatunsisf __fixsfsi"),
                   *words("__fixunssfsi __extendsfdf2 __truncdfsf2 __ltsf2 __gesf2 __unordsf2 __negsf2 __aeabi_fadd"),
                   *words("__aeabi_fmul __aeabi_dadd __aeabi_i2f __aeabi_ui2d __aeabi_f2iz __aeabi_f2uiz __aeabi_d2f"),
                   *words("__aeabi_fcmplt __aeabi_cfcmple __aeabi_l2f __floatdisf sqrtf expf floor")],
        "heap": words("malloc calloc realloc free sbrk _sbrk _malloc_r"),
    }  # fmt: skip
    everything = [name for group in names.values() for name in group]
    functions = [f"FAR void {name}(void) {{ sink += {i}; }}" for i, name in enumerate(everything)]
    callers = [f"FAR void uses_{name}(void) {{ {name}(); sink = 2; }}" for name in everything]
    calls = " ".join(f"uses_{name}();" for name in everything)
    source = "\n".join([NOINLINE, *functions, *callers, f"void program(void) {{ {calls} }}"])
    facts = inspect_elf(build(source, core, toolchain, tmp_path, ("-O1", "-fno-inline", "-w")), core)
    for kind, expected in names.items():
        found = {violation.function: violation.what for violation in getattr(facts, kind)}
        assert found == {f"uses_{name}": name for name in expected}, kind


def test_harmless_names_are_no_helpers(tmp_path):
    names = words("multiply freeze formatted __ashldi3 __lshrdi3 __clzsi2 memcpy digits_divide logits_run round_shift")
    functions = [f"FAR void {name}(void) {{ sink += {i}; }}" for i, name in enumerate(names)]
    source = "\n".join([NOINLINE, *functions, f"void program(void) {{ {' '.join(f'{n}();' for n in names)} }}"])
    facts = inspect_elf(build(source, "rv32ec", "gcc", tmp_path, ("-Os", "-w")), "rv32ec")
    assert facts.multiplies == facts.floats == facts.heap == ()


FLOAT = (
    NOINLINE
    + "volatile float real;\nFAR void scale(void) { real = real * 1.5f + 2; }\nvoid program(void) { scale(); }\n"
)


@pytest.mark.parametrize(
    ("core", "flags"),
    [
        ("rv32imac", ("-Os",)),
        ("rv32imac", ("-Os", "-march=rv32imafc", "-mabi=ilp32f")),
        ("rv32ec", ("-Os",)),
        ("cortex-m0", ("-Os",)),
        ("cortex-m4", ("-Os",)),
        ("cortex-m4", ("-Os", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard")),
    ],
)
def test_floating_point_is_found(core, flags, tmp_path):
    elf = build(FLOAT, core, "gcc", tmp_path, flags)
    facts = inspect_elf(elf, core)
    assert "scale" in [violation.function for violation in facts.floats]
    with pytest.raises(ProofError, match=r"no floating point.*'scale'"):
        prove(facts, elf, no_multiply=False)


def test_the_heap_is_found(tmp_path):
    source = (
        NOINLINE
        + """
    FAR void *malloc(uint32_t bytes) { static uint8_t pool[64]; return pool + bytes; }
    FAR void grow(void) { *(volatile uint8_t *)malloc(sink) = 1; }
    void program(void) { grow(); }
    """
    )
    elf = build(source, "rv32imac", "gcc", tmp_path, ("-Os", "-w"))
    with pytest.raises(ProofError, match=r"no heap.*'grow' \(malloc at"):
        prove(inspect_elf(elf, "rv32imac"), elf, no_multiply=False)


def test_a_helper_that_is_only_pointed_to_is_found(tmp_path):
    source = NOINLINE + SOFT_HELPERS + "void program(void) { sink = (uint32_t)(uintptr_t)&__mulsi3; }\n"
    facts = inspect_elf(build(source, "rv32ec", "gcc", tmp_path, ("-Os", "-ffunction-sections")), "rv32ec")
    assert "__mulsi3" in [violation.what for violation in facts.multiplies]


@pytest.mark.parametrize("core", CORES)
def test_unknown_bytes_are_reported_and_data_is_not(core, tmp_path):
    word = ".insn 0x0000707f" if core in RISCV else ".inst.w 0xffffffff"
    hidden = NOINLINE + f'FAR void odd(void) {{ if (sink > 5) {{ __asm__ volatile("{word}"); }} sink = 3; }}\n'
    elf = build(hidden + "void program(void) { odd(); }\n", core, "gcc", tmp_path / "odd")
    with pytest.raises(ProofError, match="'odd'"):
        prove(inspect_elf(elf, core), elf, no_multiply=False)
    # The same bytes as constants of the code: a literal pool, a table in .text.
    constants = (
        NOINLINE
        + """
    __attribute__((section(".text.table"))) const uint32_t table[4] = {
        0xffffffffu, 0x02b50533u, 0x43484348u, 0xfb01f000u};
    void program(void) { sink = table[sink & 3] + 0x43484348u + (sink ^ 0xfb01f203u); }
    """
    )
    elf = build(constants, core, "gcc", tmp_path / "constants", ("-Os", "-w"))
    facts = inspect_elf(elf, core)
    assert facts.undecoded == facts.multiplies == ()


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize("board", [board for board in list_boards() if not board.is_host], ids=lambda b: b.name)
def test_the_firmware_of_every_board_keeps_its_promises(board, toolchain, tmp_path):
    require_compiler(board.core, toolchain)
    project = tmp_path / "project"
    shutil.copytree(Path(__file__).parent / "sample_project", project)
    for name, text in firmware_files(board).items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    elf = build_firmware(project, board, toolchain=toolchain, no_multiply=True)
    facts = inspect_elf(elf, board.core)
    prove(facts, elf, no_multiply=True)
    assert 0 < facts.stack_bytes < 512
    assert facts.ram_bytes + facts.stack_bytes <= board.memory.ram_bytes
    assert "mcu_link_serve" in [frame.function for frame in facts.stack_path]
    assert {"sample_run", "mcu_link_observe_layer"} <= {symbol.name for symbol in facts.symbols}


def test_a_host_file_has_sizes_and_heap_uses(tmp_path):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("a host C compiler is missing: apt-get install gcc")
    source = tmp_path / "model.c"
    source.write_text("#include <stdlib.h>\nint table[100];\nvoid *get(void) { return malloc(sizeof table); }\n")
    subprocess.run([compiler, "-c", source, "-o", tmp_path / "model.o"], check=True, timeout=60)
    facts = inspect_elf(tmp_path / "model.o", "host")
    assert facts.stack_bytes is None
    assert facts.ram_bytes >= 400
    assert [violation.what for violation in facts.heap] == ["malloc"]
