"""Sizes and worst-case stack of built ELF files, against independent sources.

The independent sources: gcc's own `-fstack-usage`, objcopy's binary image, and what a run in unicorn really uses.
"""

import random
import re
import subprocess
from pathlib import Path

import pytest
from elf_builds import CORES, NOINLINE, RISCV, ROUTES, SOFT_HELPERS, TOOLCHAINS, build, require_compiler, run
from mcucompile.errors import ProjectError, ProofError
from mcucompile.targets.binary.image import read_image
from mcucompile.targets.binary.stack import EXCEPTION_ENTRY, function_stack, worst_case_stack
from mcucompile.targets.elf import ElfFacts, inspect_elf

EXCEPTION_BYTES = 36

# Functions with every kind of frame; the compiler must keep each as it is.
FRAMES = (
    NOINLINE
    + """
FAR void leaf(volatile uint32_t *p) { *p += 1; }
FAR uint32_t array(uint32_t n) { volatile uint32_t a[50]; for (uint32_t i = 0; i < 50; ++i) { a[i] = n; } return a[n]; }
FAR uint32_t large(uint32_t n) { volatile uint32_t a[3000]; a[n] = n; leaf(a); return a[1]; }
FAR uint32_t huge(uint32_t n) { volatile uint32_t a[20000]; a[n] = n; leaf(a); return a[1]; }
FAR uint32_t many(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e, uint32_t f, uint32_t g, uint32_t h,
                  uint32_t i, uint32_t j)
{
    leaf(&sink);
    return a + (b ^ c) + (d ^ e) + (f ^ g) + (h ^ i) + j;
}
FAR uint32_t outgoing(uint32_t n) { return many(n, n, 1, 2, 3, 4, 5, 6, 7, n) + 1; }
FAR uint32_t spill(uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    uint32_t r[14];
    for (uint32_t i = 0; i < 14; ++i) { r[i] = sink + i * a; }
    leaf(&sink);
    return r[0] + (r[1] ^ r[2]) + (r[3] ^ r[4]) + (r[5] ^ r[6]) + (r[7] ^ r[8]) + r[9] + r[10] + r[11] + r[12] + r[13]
        + b + c + d;
}
FAR void tail(void) { sink = 1; leaf(&sink); }
FAR uint32_t early(uint32_t n) { if (n == 0) { return 1; } leaf(&sink); return large(n) + sink; }
FAR uint32_t either(uint32_t n) { return n & 1 ? array(n) : large(n); }
void program(void)
{
    sink = array(3) + large(1) + huge(2) + outgoing(1) + spill(1, 2, 3, 4) + early(1) + either(1) + either(2);
    tail();
}
"""
)


def generated_program(seed: int) -> str:
    """A program whose functions call later functions on every path, so that a run reaches the worst case."""
    rng = random.Random(seed)
    count = 9
    text = []
    for index in reversed(range(count)):
        words = rng.choice([0, 0, 1, 3, 17, 50, 200, 1300, 6000])
        arguments = rng.choice([0, 1, 2, 5, 9])
        lines = [f"    uint32_t x = {' + '.join(f'a{i}' for i in range(arguments)) or 'sink'};"]
        if words:
            lines.append(f"    volatile uint32_t v[{words}];")
            lines.append(f"    for (uint32_t i = 0; i < {min(words, 8)}u; ++i) {{ v[i] = x + i; }}")
            lines.append(f"    x += v[x & {min(words, 8) - 1}u] % {words}u;")
        later = range(index + 1, count)
        calls = rng.sample(later, min(len(later), rng.choice([0, 1, 1, 2, 3])))
        for callee in calls[1:]:
            lines.append(f"    x ^= f{callee}{seed}(ARGUMENTS{callee}(x));")
        if calls and rng.random() < 0.5:
            lines.append(f"    return f{calls[0]}{seed}(ARGUMENTS{calls[0]}(x));")
        elif calls:
            lines.append(f"    return x ^ f{calls[0]}{seed}(ARGUMENTS{calls[0]}(x));")
        else:
            lines.append("    sink = x;\n    return x + 1;")
        values = ", ".join(f"(x) + {i}u" for i in range(arguments))
        parameters = ", ".join(f"uint32_t a{i}" for i in range(arguments)) or "void"
        text.append(f"#define ARGUMENTS{index}(x) {values}")
        text.append(f"FAR uint32_t f{index}{seed}({parameters})\n{{\n" + "\n".join(lines) + "\n}")
    calls_all = " ^ ".join(f"f{index}{seed}(ARGUMENTS{index}(sink))" for index in range(count))
    # Division by a constant: the programs of cores without one need these helpers.
    return NOINLINE + SOFT_HELPERS + "\n".join(text) + f"\nvoid program(void) {{ sink = {calls_all}; }}\n"


def program_bytes(facts: ElfFacts) -> int:
    """The worst case of the program alone: what lies above the frame of an exception."""
    names = [frame.function for frame in facts.stack_path]
    end = names.index(EXCEPTION_ENTRY) if EXCEPTION_ENTRY in names else len(names)
    return sum(frame.bytes for frame in facts.stack_path[:end])


@pytest.mark.parametrize(("core", "toolchain"), ROUTES)
@pytest.mark.parametrize("optimize", ["-Os", "-O2", "-O0"])
def test_the_bound_covers_a_run_of_every_frame(core, toolchain, optimize, tmp_path):
    elf = build(FRAMES + SOFT_HELPERS, core, toolchain, tmp_path, (optimize,))
    facts = inspect_elf(elf, core)
    assert sum(frame.bytes for frame in facts.stack_path) == facts.stack_bytes
    assert program_bytes(facts) == run(elf, core).stack_bytes
    assert "huge" in [frame.function for frame in facts.stack_path]


@pytest.mark.parametrize(("core", "toolchain"), ROUTES)
def test_the_bound_is_what_generated_programs_use(core, toolchain, tmp_path):
    for seed in range(6):
        optimize = ("-Os", "-O2", "-O1")[seed % 3]
        elf = build(generated_program(seed), core, toolchain, tmp_path / str(seed), (optimize,))
        bound = program_bytes(inspect_elf(elf, core))
        used = run(elf, core).stack_bytes
        assert bound == used, f"seed {seed}: computed {bound}, a run used {used}"


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("optimize", ["-Os", "-O2", "-O0"])
def test_frames_are_what_gcc_reports(core, optimize, tmp_path):
    elf = build(FRAMES, core, "gcc", tmp_path, (optimize, "-fstack-usage"))
    reports = list(tmp_path.glob("*program.su"))
    assert len(reports) == 1
    reported = dict(re.findall(r":(\w+)\t(\d+)\tstatic", reports[0].read_text()))
    assert len(reported) == 11
    image = read_image(elf, core)
    for function, size in reported.items():
        frame = function_stack(image, function).path[0]
        assert (frame.function, frame.bytes) == (function, int(size))


def expect_stack_error(source: str, core: str, toolchain: str, folder: Path, *flags: str) -> str:
    elf = build(NOINLINE + source, core, toolchain, folder, flags or ("-Os",))
    with pytest.raises(ProofError) as caught:
        inspect_elf(elf, core)
    assert caught.value.fix
    return caught.value.problem


@pytest.mark.parametrize(("core", "toolchain"), ROUTES)
def test_what_has_no_bound_is_an_error_that_names_the_function(core, toolchain, tmp_path):
    recursion = """
    FAR uint32_t down(uint32_t n) { return n == 0 ? 1 : n ^ (down(n - 1) + sink); }
    void program(void) { sink = down(sink); }
    """
    problem = expect_stack_error(recursion, core, toolchain, tmp_path / "recursion")
    assert "'down' is recursive (down -> down)" in problem
    mutual = """
    uint32_t odd(uint32_t n);
    FAR uint32_t even(uint32_t n) { return n == 0 ? 1 : odd(n - 1) ^ sink; }
    FAR uint32_t odd(uint32_t n) { return n == 0 ? 0 : even(n - 1) + sink; }
    void program(void) { sink = even(sink); }
    """
    problem = expect_stack_error(mutual, core, toolchain, tmp_path / "mutual")
    assert "'even' is recursive (even -> odd -> even)" in problem
    pointer = """
    FAR uint32_t one(uint32_t n) { return n + sink; }
    uint32_t (*volatile chosen)(uint32_t) = one;
    FAR uint32_t indirect(uint32_t n) { return chosen(n) + 1; }
    FAR uint32_t indirect_tail(uint32_t n) { return chosen(n + 1); }
    void program(void) { sink = CALLED(sink); }
    """
    for called in ("indirect", "indirect_tail"):
        source = pointer.replace("CALLED", called)
        assert f"'{called}' " in expect_stack_error(source, core, toolchain, tmp_path / called)
    variable = """
    FAR uint32_t use(volatile uint32_t *p) { return p[0]; }
    FAR uint32_t variable(uint32_t n) { volatile uint32_t a[n]; a[0] = n; return use(a) + a[0]; }
    void program(void) { sink = variable(sink); }
    """
    problem = expect_stack_error(variable, core, toolchain, tmp_path / "variable")
    assert "'variable' gives the stack pointer a value that is not known" in problem


SWITCH = """
FAR uint32_t choose(uint32_t n)
{
    switch (n) {
    case 0: return sink + 1;
    case 1: return sink ^ 77;
    case 2: { volatile uint32_t a[40]; a[n] = n; return a[1]; }
    case 3: return sink << 3;
    case 4: return sink - 9;
    case 5: sink = 3; return 8;
    case 6: return sink | 4;
    default: return 5;
    }
}
void program(void) { for (uint32_t i = 0; i < 9; ++i) { sink = choose(i); } }
"""


@pytest.mark.parametrize(("core", "toolchain"), [p for p in ROUTES if "cortex-m4" not in p.id])
def test_a_switch_table_elsewhere_is_an_error_with_its_remedy(core, toolchain, tmp_path):
    flags = ("-O2", "-fjump-tables")
    elf = build(NOINLINE + SWITCH, core, toolchain, tmp_path, flags)
    try:
        facts = inspect_elf(elf, core)
    except ProofError as error:
        assert "choose" in error.problem or "__gnu_thumb1_case" in error.problem
        assert "-fno-jump-tables" in error.fix
    else:  # the compiler made no table of it
        assert program_bytes(facts) == run(elf, core).stack_bytes


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
def test_a_thumb2_switch_table_is_followed(toolchain, tmp_path):
    elf = build(NOINLINE + SWITCH, "cortex-m4", toolchain, tmp_path, ("-O2", "-fjump-tables"))
    assert any(i.operation in ("tbb", "tbh") for i in read_image(elf, "cortex-m4").instructions)
    assert program_bytes(inspect_elf(elf, "cortex-m4")) == run(elf, "cortex-m4").stack_bytes


ARM_START = """
extern char stack_top;
void program(void);
void finish(void) { for (;;) { __asm__ volatile(""); } }
void _start(void) { program(); finish(); }
static volatile unsigned counter;
__attribute__((noinline)) void deep(void) { volatile unsigned a[25]; a[0] = counter; counter += a[0]; }
__attribute__((used)) void tick(void) { deep(); counter += 1; }
__attribute__((used)) void fault(void) { volatile unsigned a[9]; for (;;) { a[0] = counter; } }
__attribute__((section(".vectors"), used)) const void *const vectors[16] = {
    &stack_top, (const void *)_start, (const void *)fault, (const void *)fault, [15] = (const void *)tick,
};
"""
RISCV_START = """
void program(void);
static volatile unsigned counter;
void finish(void) { for (;;) { __asm__ volatile(""); } }
__attribute__((used)) void report(void) { volatile unsigned a[200]; for (;;) { a[0] = counter; } }
__attribute__((interrupt, aligned(4))) void tick(void) { volatile unsigned a[25]; a[0] = counter; counter = a[0]; }
__attribute__((naked, used, aligned(4))) void trap(void) { __asm__ volatile("la sp, stack_top; j report"); }
__attribute__((naked, used)) void _start(void)
{
    __asm__ volatile("la sp, stack_top; la a0, HANDLER; csrw mtvec, a0; call program; call finish");
}
"""
SMALL = NOINLINE + "void program(void) { volatile uint32_t a[10]; a[0] = sink; sink = a[0]; }\n"


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4"])
def test_exceptions_of_cortex_m_add_their_frames(core, tmp_path):
    elf = build(SMALL, core, "gcc", tmp_path, start=ARM_START)
    image = read_image(elf, core)
    program = function_stack(image, "_start").bytes
    tick, fault = function_stack(image, "tick").bytes, function_stack(image, "fault").bytes
    assert program >= 40
    assert tick >= 100
    assert fault >= 36
    # One interrupt, and a fault on top of it, each with the frame that the hardware pushes.
    assert worst_case_stack(image).bytes == program + EXCEPTION_BYTES + tick + EXCEPTION_BYTES + fault
    floating = worst_case_stack(image, float_context=True)
    assert floating.bytes == worst_case_stack(image).bytes + 2 * 18 * 4
    names = [frame.function for frame in floating.path]
    assert names == ["_start", "program", EXCEPTION_ENTRY, "tick", "deep", EXCEPTION_ENTRY, "fault"]


@pytest.mark.parametrize("core", RISCV)
def test_traps_of_riscv_are_found_through_mtvec(core, tmp_path):
    interrupt = build(SMALL, core, "gcc", tmp_path / "tick", start=RISCV_START.replace("HANDLER", "tick"))
    image = read_image(interrupt, core)
    tick = function_stack(image, "tick").bytes
    assert tick >= 100
    assert worst_case_stack(image).bytes == function_stack(image, "_start").bytes + tick
    # A handler that takes the whole stack for itself does not add to what was there.
    restarting = build(SMALL, core, "gcc", tmp_path / "trap", start=RISCV_START.replace("HANDLER", "trap"))
    use = worst_case_stack(read_image(restarting, core))
    assert use.bytes >= 800
    assert [frame.function for frame in use.path] == ["trap", "report"]


def test_an_arm_image_without_vector_table_is_an_error(tmp_path):
    start = "void program(void);\nvoid _start(void) { program(); for (;;) { } }\n"
    elf = build(SMALL, "cortex-m0", "gcc", tmp_path, start=start)
    with pytest.raises(ProofError, match="no vector table"):
        inspect_elf(elf, "cortex-m0")


@pytest.mark.parametrize(("core", "toolchain"), ROUTES)
def test_sizes_are_those_of_the_flash_image(core, toolchain, tmp_path):
    source = (
        NOINLINE
        + """
    FAR const uint8_t table[333] = {1, 2, 3};
    volatile uint32_t initialised[7] = {1, 2, 3};
    volatile uint8_t zeroed[1001];
    void program(void) { sink = table[sink & 255] + initialised[sink & 3] + zeroed[sink & 511]; }
    """.replace("FAR const", "const")
    )
    elf = build(source, core, toolchain, tmp_path)
    objcopy = "riscv64-unknown-elf-objcopy" if core in RISCV else "arm-none-eabi-objcopy"
    require_compiler(core, "gcc")
    subprocess.run([objcopy, "-O", "binary", elf, tmp_path / "image.bin"], check=True, timeout=30)
    facts = inspect_elf(elf, core)
    assert facts.flash_bytes == (tmp_path / "image.bin").stat().st_size
    assert 28 + 4 + 1001 <= facts.ram_bytes <= 28 + 4 + 1001 + 16
    sizes = {symbol.name: (symbol.size, symbol.kind) for symbol in facts.symbols}
    assert sizes["table"] == (333, "object")
    assert sizes["zeroed"] == (1001, "object")
    assert sizes["program"][1] == "function"


@pytest.mark.parametrize(("core", "toolchain"), ROUTES)
def test_instructions_are_those_that_binutils_sees(core, toolchain, tmp_path):
    require_compiler(core, "gcc")
    elf = build(generated_program(2), core, toolchain, tmp_path, ("-O2",))
    objdump = "riscv64-unknown-elf-objdump" if core in RISCV else "arm-none-eabi-objdump"
    listing = subprocess.run(
        [objdump, "-d", "-z", "--no-show-raw-insn", elf], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    expected = {
        int(address, 16)
        for address, text in re.findall(r"^ *([0-9a-f]+):\t(.*)$", listing, re.M)
        if not text.startswith((".word", ".short", ".byte", "bmi.n")) or text.startswith("bmi.n\t0x0")
    }
    found = {instruction.address for instruction in read_image(elf, core).instructions}
    assert len(found) > 100
    assert expected == found


def test_what_is_no_firmware_of_the_core_is_a_clear_error(tmp_path):
    elf = build(SMALL, "rv32imac", "gcc", tmp_path)
    with pytest.raises(ProjectError, match="is built for EM_RISCV"):
        inspect_elf(elf, "cortex-m4")
    truncated = tmp_path / "truncated.elf"
    truncated.write_bytes(elf.read_bytes()[:40])
    empty = tmp_path / "empty.elf"
    empty.write_bytes(b"")
    for broken in (truncated, empty, tmp_path / "missing.elf", Path(__file__)):
        with pytest.raises(ProjectError, match="cannot be read as an ELF file"):
            inspect_elf(broken, "rv32imac")
    half = tmp_path / "half.elf"
    half.write_bytes(elf.read_bytes()[: elf.stat().st_size // 2])
    with pytest.raises((ProjectError, ProofError)):
        inspect_elf(half, "rv32imac")
    stripped = tmp_path / "stripped.elf"
    subprocess.run(["riscv64-unknown-elf-strip", "-o", stripped, elf], check=True, timeout=30)
    with pytest.raises(ProofError, match="no symbols"):
        inspect_elf(stripped, "rv32imac")


# Frames as compilers write them seldom: each line of `marked` must be understood for the bound to be exact.
THUMB2_FORMS = r"""
__asm__(".syntax unified\n.thumb\n.text\n"
        ".macro function name\n .balign 4\n .thumb_func\n .type \\name, %function\n \\name:\n .endm\n"
        "function pre_index\n str lr, [sp, #-4]!\n strd r4, r5, [sp, #-16]!\n bl leaf_form\n"
        " ldrd r4, r5, [sp], #16\n ldr pc, [sp], #4\n .size pre_index, . - pre_index\n"
        "function leaf_form\n push {r0-r7}\n add sp, #32\n bx lr\n .size leaf_form, . - leaf_form\n"
        "function multiple\n stmdb sp!, {r4-r11, lr}\n movw r4, #4096\n sub sp, sp, r4\n bl leaf_form\n"
        " movw r4, #0x1000\n add sp, r4\n ldmia.w sp!, {r4-r11, pc}\n .size multiple, . - multiple\n"
        "function literal\n push {r4, lr}\n ldr r4, =-5000\n add sp, r4\n bl leaf_form\n"
        " ldr r4, =5000\n add sp, r4\n pop {r4, pc}\n .ltorg\n .size literal, . - literal\n"
        "function conditional\n push {r4, lr}\n cmp r0, #0\n it eq\n popeq {r4, pc}\n sub sp, #64\n cmp r0, #1\n"
        " it eq\n bleq leaf_form\n cmp r0, #1\n ite eq\n moveq r4, r0\n movne r4, #3\n add sp, #64\n"
        " pop {r4, lr}\n b.w pre_index\n .size conditional, . - conditional\n"
        "function framed\n push {r7, lr}\n mov r7, sp\n sub sp, #40\n bl leaf_form\n mov sp, r7\n pop {r7, lr}\n"
        " mov r3, lr\n bx r3\n .size framed, . - framed\n"
        "function pointed\n push {r4, lr}\n movw r4, #:lower16:framed\n movt r4, #:upper16:framed\n blx r4\n"
        " pop {r4, pc}\n .size pointed, . - pointed\n"
        "function far_jump\n push {r4, lr}\n push {r5}\n bl 1f\n 2: pop {r5}\n pop {r4, pc}\n .balign 4096\n"
        " 1: bl leaf_form\n b.w 2b\n .size far_jump, . - far_jump\n");
uint32_t far_jump(uint32_t);
uint32_t pre_index(uint32_t); uint32_t multiple(uint32_t); uint32_t literal(uint32_t); uint32_t conditional(uint32_t);
uint32_t pointed(uint32_t);
void program(void) { FORM(1); }
"""
RISCV_FORMS = r"""
__asm__(".text\n"
        ".macro function name\n .balign 4\n .type \\name, @function\n \\name:\n .endm\n"
        "function leaf_form\n addi sp, sp, -16\n addi sp, sp, 16\n ret\n .size leaf_form, . - leaf_form\n"
        "function outlined\n addi sp, sp, -8\n sw a0, 4(sp)\n addi sp, sp, 8\n jr t0\n .size outlined, . - outlined\n"
        "function framed\n addi sp, sp, -32\n sw ra, 28(sp)\n sw s0, 24(sp)\n addi s0, sp, 32\n addi sp, sp, -48\n"
        " call leaf_form\n addi sp, s0, -32\n lw s0, 24(sp)\n lw ra, 28(sp)\n addi sp, sp, 32\n ret\n"
        " .size framed, . - framed\n"
        "function far_frame\n addi sp, sp, -16\n sw ra, 12(sp)\n li t0, -8192\n add sp, sp, t0\n call leaf_form\n"
        " li t0, 8192\n add sp, sp, t0\n lw ra, 12(sp)\n addi sp, sp, 16\n ret\n .size far_frame, . - far_frame\n"
        "function millicode\n jal t0, outlined\n mv t1, ra\n call leaf_form\n jr t1\n .size millicode, . - millicode\n"
        "function pointed\n addi sp, sp, -16\n sw ra, 12(sp)\n la t0, framed\n jalr t0\n lw ra, 12(sp)\n"
        " addi sp, sp, 16\n ret\n .size pointed, . - pointed\n"
        "function tail_far\n beqz a0, framed\n .option push\n .option norelax\n tail far_frame\n .option pop\n"
        " .size tail_far, . - tail_far\n");
uint32_t framed(uint32_t); uint32_t far_frame(uint32_t); uint32_t millicode(uint32_t); uint32_t pointed(uint32_t);
uint32_t tail_far(uint32_t);
void program(void) { FORM(1); }
"""


@pytest.mark.parametrize(
    ("core", "source", "form", "frame"),
    [
        *(("cortex-m4", THUMB2_FORMS, form, frame) for form, frame in [
            ("pre_index", 20 + 32), ("multiple", 36 + 4096 + 32), ("literal", 8 + 5000 + 32),
            ("conditional", 8 + 64 + 32), ("pointed", 8 + 8 + 40 + 32), ("far_jump", 12 + 32)]),
        *((core, RISCV_FORMS, form, frame) for core in RISCV for form, frame in [
            ("framed", 80 + 16), ("far_frame", 16 + 8192 + 16), ("millicode", 16), ("pointed", 16 + 80 + 16),
            ("tail_far", 16 + 8192 + 16)]),
    ],
)  # fmt: skip
def test_seldom_forms_are_understood(core, source, form, frame, tmp_path):
    elf = build(NOINLINE + source.replace("FORM", form), core, "gcc", tmp_path)
    assert function_stack(read_image(elf, core), form).bytes == frame
    assert program_bytes(inspect_elf(elf, core)) == run(elf, core).stack_bytes
