"""Proofs about the built machine code: no multiply or divide, no floating point, no heap, no unknown bytes.

Each looks at every instruction of the executable sections, reachable or not, and at every direct call or jump to a
helper of the compiler's run-time library (libgcc or compiler-rt).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mcucompile.errors import ProofError
from mcucompile.targets.binary.image import Image, Instruction

# RISC-V ISA manual volume I, chapter "M": the whole extension.
_RISCV_MULTIPLY = frozenset(["mul", "mulh", "mulhsu", "mulhu", "div", "divu", "rem", "remu"])
# ARMv7-M Architecture Reference Manual (DDI 0403), A4.4.3 and A4.4.4: multiply, multiply accumulate and divide with
# the DSP extension. USADA8 (sum of absolute differences) multiplies nothing and is not among them.
_ARM_MULTIPLY = re.compile(
    r"(mul|mla|mls|[us]mull|[us]mlal|umaal|[us]div"
    r"|smul[bt][bt]|smulw[bt]|smla[bt][bt]|smlaw[bt]|smlal[bt][bt]"
    r"|sm[lu][as]dx?|sml[as]ldx?|smmulr?|smml[as]r?)"
)
# Soft helpers: RTABI (IHI 0043, section 4) for ARM, libgcc's "Integer library routines" and compiler-rt for all.
_MULTIPLY_HELPER = re.compile(
    r"__(mul|div|udiv|mod|umod|divmod|udivmod)[qhsdt]i[34]"
    r"|__(mulv|mulo)[sdt]i[34]|__u?mulsidi3|__mulxsi3"
    r"|__aeabi_(lmul|u?idiv|u?idivmod|u?ldivmod)|__udiv_w_sdiv|__(hidden___)?u?divsi3"
    r"|__riscv_(mul|u?div|u?rem).*"
)
_FLOAT_HELPER = re.compile(
    r"__(add|sub|mul|div|neg)([shdtx]f|tf|sc|dc)3?|__neg[shdtx]f2"
    r"|__(cmp|unord|eq|ne|ge|lt|le|gt)[shdtx]f2|__powi[shdtx]f2"
    r"|__(fix|fixuns)[shdtx]f[sdt]i|__(float|floatun|floatuns)[sdt]i[shdtx]f"
    r"|__(extend|trunc)[shdtx]f[shdtx]f2|__gnu_(f2h|h2f)_.*"
    r"|__aeabi_(c?[fd](add|sub|rsub|mul|div|neg|cmp\w*|2\w+)|(u?[il])2[fd]|cr?[fd]cmp\w*|h2[fd]\w*|[fd]2h\w*)"
    r"|(sqrt|exp|exp2|log|log2|log10|pow|sin|cos|tan|tanh|floor|ceil|round|trunc|fabs|fmod|rint|lrint|lround)[fl]?"
)
_HEAP = re.compile(
    r"_?(malloc|calloc|realloc|free|memalign|sbrk)(_r)?|aligned_alloc|posix_memalign|reallocarray|strdup|_Zn[wa]\w*"
    r"|_Zd[la]\w*|__libc_malloc|pvPortMalloc|vPortFree"
)
_RISCV_FLOAT = re.compile(r"f(?!ence).*")
_ARM_FLOAT = re.compile(r"v.*|f(ld|st)m.*")
_ADDRESS = re.compile(r"#?(-?(?:0x[0-9a-f]+|\d+))")


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that a firmware was promised not to hold.

    function: name of the function that holds it; address: of the instruction, or of the helper when nothing calls
    it directly; what: the instruction's text, or the helper's name.
    """

    function: str
    address: int
    what: str


def find_multiplies(image: Image) -> tuple[Violation, ...]:
    """Multiply, divide and remainder instructions, and uses of a soft helper for them, in address order."""
    if image.family == "riscv":
        instructions = _matching(image, lambda i: i.operation in _RISCV_MULTIPLY)
    else:
        instructions = _matching(image, lambda i: _ARM_MULTIPLY.fullmatch(i.operation) is not None)
    return _in_order(instructions, _helper_uses(image, _MULTIPLY_HELPER))


def find_floats(image: Image) -> tuple[Violation, ...]:
    """Floating-point instructions and uses of a soft-float helper or of libm, in address order."""
    pattern = _RISCV_FLOAT if image.family == "riscv" else _ARM_FLOAT
    instructions = _matching(image, lambda i: pattern.fullmatch(i.operation) is not None)
    return _in_order(instructions, _helper_uses(image, _FLOAT_HELPER))


def find_heap(image: Image) -> tuple[Violation, ...]:
    """Uses of the heap, in address order; of a host object, also the names that it only refers to."""
    return _in_order(_helper_uses(image, _HEAP))


def find_undecoded(image: Image) -> tuple[Violation, ...]:
    """Bytes among the code that are no known instruction, and jumps to where no instruction begins.

    The other proofs cannot speak about such bytes, so these are violations of their own.
    """
    found = [Violation(image.function_at(a), a, "bytes that are no known instruction") for a in image.undecoded]
    for instruction, target in _direct_jumps(image):
        if not image.is_code(target):
            what = f"'{instruction.text}' goes to {target:#x}, where no instruction begins"
            found.append(Violation(image.function_at(instruction.address), instruction.address, what))
    return _in_order(found)


def require_none(violations: tuple[Violation, ...], elf: Path, promise: str, fix: str) -> None:
    """Raise a ProofError that names every function with a violation, or return.

    Args:
        violations: from one of the functions above.
        elf: the firmware that was looked at.
        promise: what the firmware should have: "no multiplication", "no floating point" ...
        fix: one thing to do.
    """
    if not violations:
        return
    by_function: dict[str, list[Violation]] = {}
    for violation in violations:
        by_function.setdefault(violation.function, []).append(violation)
    parts = []
    for function, found in by_function.items():
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        parts.append(f"'{function}' ({found[0].what} at {found[0].address:#x}{more})")
    raise ProofError(elf, f"the firmware was promised {promise}, but it is in {', '.join(parts)}", fix)


def _matching(image: Image, condition: Callable[[Instruction], bool]) -> list[Violation]:
    return [Violation(image.function_at(i.address), i.address, i.text) for i in image.instructions if condition(i)]


def _helper_uses(image: Image, pattern: re.Pattern[str]) -> list[Violation]:
    """Calls and jumps to helpers; a helper that nothing calls directly counts as a violation by itself."""
    helpers: dict[int, str] = {}
    found: list[Violation] = []
    for symbol in image.symbols:
        if pattern.fullmatch(symbol.name) and symbol.kind != "object":
            if symbol.kind == "undefined":
                found.append(Violation(symbol.name, 0, symbol.name))
            else:
                # Of several names of one helper the shortest is the one that people know.
                helpers[symbol.address] = min(helpers.get(symbol.address, symbol.name), symbol.name, key=len)
    called = set()
    for instruction, target in _direct_jumps(image):
        caller = image.function_at(instruction.address)
        if target in helpers and caller != helpers[target]:
            called.add(target)
            found.append(Violation(caller, instruction.address, helpers[target]))
    for address, name in helpers.items():
        if address not in called:
            found.append(Violation(name, address, name))
    return found


def _direct_jumps(image: Image) -> Iterator[tuple[Instruction, int]]:
    """Every branch, jump or call whose target is written in the code, with that target."""
    upper: dict[str, int] = {}  # registers set by the auipc just before
    for instruction in image.instructions:
        operation, operands = instruction.operation, instruction.operands
        if image.family == "arm":
            if operation in ("b", "bl", "cbz", "cbnz") and operands[-1].startswith("#"):
                yield instruction, int(operands[-1][1:], 0)
            continue
        if operation.startswith("b") or operation in ("j", "jal"):
            yield instruction, instruction.address + int(operands[-1], 0)
        elif operation in ("jr", "jalr"):
            base = operands[1] if len(operands) == 3 else operands[0]
            offset = int(operands[2], 0) if len(operands) == 3 else 0
            if base in upper:
                yield instruction, upper[base] + offset
        upper = {}
        if operation == "auipc":
            upper = {operands[0]: (instruction.address + (int(operands[1], 0) << 12)) % (1 << 32)}


def _in_order(*groups: list[Violation]) -> tuple[Violation, ...]:
    return tuple(sorted((v for group in groups for v in group), key=lambda v: (v.address, v.what)))
