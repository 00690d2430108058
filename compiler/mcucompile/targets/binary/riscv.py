"""One RISC-V instruction at a time, as far as stack and control flow need it.

Source: The RISC-V Instruction Set Manual, volume I (RV32I, C), volume II (machine-level CSRs), as capstone spells
the instructions.
"""

import re

from mcucompile.targets.binary.image import Image, Instruction
from mcucompile.targets.binary.state import NEXT, STOP, Flow, FlowKind, State, Value, add, difference, total


def _numbered(letter: str, count: int) -> tuple[str, ...]:
    return tuple(f"{letter}{number}" for number in range(count))


REGISTERS = ("ra", "sp", "gp", "tp", *_numbered("t", 7), *_numbered("s", 12), *_numbered("a", 8))
LINK_REGISTERS = ("ra", "t0")  # both are link registers in the calling convention (millicode uses t0)
TRAP_VECTOR = "mtvec"
_MEMORY = re.compile(r"(-?\w+)?\((\w+)\)")
_STORE_BYTES = {"sw": 4, "swsp": 4, "sh": 2, "sb": 1}
_BRANCHES = frozenset(
    f"b{condition}{zero}"
    for condition in ("eq", "ne", "lt", "ge", "gt", "le", "ltu", "geu", "gtu", "leu")
    for zero in ("", "z")
)


def step(instruction: Instruction, state: State, image: Image) -> Flow:  # noqa: PLR0911 (one per kind)
    """Apply the instruction to the state and tell where the program goes.

    A write of mtvec with a known value appears in the state as the pseudo-register "mtvec".
    """
    operation, operands = instruction.operation, instruction.operands
    if operation in _BRANCHES:
        target = instruction.address + int(operands[-1], 0)
        return Flow(FlowKind.JUMP, (target,), skippable=True)
    if operation == "j" or (operation == "jal" and operands[0] == "zero"):
        return Flow(FlowKind.JUMP, (instruction.address + int(operands[-1], 0),))
    if operation == "jal":
        link = operands[0] if len(operands) == 2 else "ra"
        return _call(instruction, state, link, instruction.address + int(operands[-1], 0))
    if operation in ("jr", "jalr", "ret"):
        return _jump_register(instruction, state)
    if operation == "mret":
        return Flow(FlowKind.EXCEPTION_RETURN)
    if operation == "unimp":
        return STOP
    if operation in _STORE_BYTES:
        _store(state, operands[1], state.get(operands[0]), _STORE_BYTES[operation])
        return NEXT
    if operation == "csrw" and operands[0] == TRAP_VECTOR:
        state.set(TRAP_VECTOR, state.get(operands[1]))
        return NEXT
    value = _result(instruction, state, image)
    for register in instruction.writes:
        if register != "zero":
            state.set(register, value)
    return NEXT


def _call(instruction: Instruction, state: State, link: str, target: Value | None) -> Flow:
    state.set(link, instruction.address + instruction.size)
    return Flow(FlowKind.CALL, (target,))


def _jump_register(instruction: Instruction, state: State) -> Flow:
    operands = instruction.operands
    link, base, offset = ("zero", "ra", 0) if instruction.operation == "ret" else ("zero", operands[0], 0)
    if instruction.operation == "jalr":
        link = "ra"
        if len(operands) == 3:
            link, base, offset = operands[0], operands[1], int(operands[2], 0)
    target = add(state.get(base), offset)
    if link == "zero":
        return Flow(FlowKind.JUMP, (target,))
    return _call(instruction, state, link, target)


def _address(state: State, operand: str) -> Value | None:
    match = _MEMORY.fullmatch(operand)
    if match is None:
        return None
    base = 0 if match[2] == "zero" else state.get(match[2])
    return add(base, int(match[1] or "0", 0))


def _store(state: State, operand: str, value: Value | None, size: int) -> None:
    state.store(_address(state, operand), value, size)


def _result(instruction: Instruction, state: State, image: Image) -> Value | None:  # noqa: PLR0911 (one per kind)
    """Value that the instruction gives its first operand, None when it is not tracked."""
    operation, operands = instruction.operation, instruction.operands

    def register(index: int) -> Value | None:
        return 0 if operands[index] == "zero" else state.get(operands[index])

    match operation:
        case "li":
            return int(operands[1], 0) % (1 << 32)
        case "lui":
            return (int(operands[1], 0) << 12) % (1 << 32)
        case "auipc":
            return (instruction.address + (int(operands[1], 0) << 12)) % (1 << 32)
        case "mv":
            return register(1)
        case "addi" | "addi4spn" | "addi16sp":
            return add(register(len(operands) - 2), int(operands[-1], 0))
        case "add":
            return total(register(len(operands) - 2), register(-1))
        case "sub":
            return difference(register(len(operands) - 2), register(-1))
        case "neg":
            return difference(0, register(1))
        case "slli":
            value = register(len(operands) - 2)
            return (value << int(operands[-1], 0)) % (1 << 32) if isinstance(value, int) else None
        case "lw" | "lwsp":
            address = _address(state, operands[1])
            return image.read_constant(address) if isinstance(address, int) else state.load(address)
    return None
