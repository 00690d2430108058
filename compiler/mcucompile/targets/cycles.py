"""Estimates the cycles of a block of instructions from the times that a board file gives for each class.

The memories never wait, a load always pays for its result being used at once, and a transfer of several registers
takes a cycle for each one more. A branch counts as not taken here; who sees where it goes adds the rest.
"""

import re
import struct

import capstone

from mcucompile.targets.boards import Cycles

# Multiply and divide instructions of RV32M, Thumb and the DSP extension.
MULTIPLY = re.compile(r"mul|mla|mls|smla|smls|smm|smu|umla|umul|umaal")
DIVIDE = re.compile(r"[su]?div|rem")
_SEVERAL = re.compile(r"ldm|stm|push|pop|ldrd|strd")
_LOAD_NARROW = re.compile(r"(?:c\.)?l[bh]u?$|ldrs?[bh]")
_LOAD = re.compile(r"(?:c\.)?lw|ldr|ldm|pop")
_STORE = re.compile(r"(?:c\.)?s[bhw](?:sp)?$|str|stm|push")
_RISCV_BRANCH = r"(?:c\.)?(?:b(?:eq|ne|lt|ge|gt|le)[uz]*|j|jal|jr|jalr|ret)$"
_ARM_BRANCH = r"(?:bl?x?|b(?:eq|ne|hs|cs|lo|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le))(?:\.w)?$|cbn?z|tb[bh]"
_BRANCH = re.compile(f"{_RISCV_BRANCH}|{_ARM_BRANCH}")


def block_cycles(disassembler: capstone.Cs, half_words: tuple[int, ...], address: int, cycles: Cycles) -> int:
    """Return the cycles of straight-line code, the branch at its end not taken."""
    code = struct.pack(f"<{len(half_words)}H", *half_words)
    return sum(_instruction(name, operands, cycles) for *_, name, operands in disassembler.disasm_lite(code, address))


def _instruction(name: str, operands: str, cycles: Cycles) -> int:
    """Return the cycles of one instruction, as a disassembler writes it."""
    more = _registers(operands) - 1 if _SEVERAL.match(name) else 0
    for pattern, each in (
        (MULTIPLY, cycles.multiply),
        (DIVIDE, cycles.divide),
        (_LOAD_NARROW, cycles.load_narrow),
        (_LOAD, cycles.load),
        (_STORE, cycles.store),
        (_BRANCH, cycles.branch_not_taken),
    ):
        if pattern.match(name):
            return each + more
    return cycles.alu


def _registers(operands: str) -> int:
    """Return how many registers `{r0, r4, pc}` or the pair `r0, r1, [...]` names."""
    if "{" in operands:
        return operands[operands.index("{") :].count(",") + 1
    return 2
