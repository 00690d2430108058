"""One Thumb instruction at a time, as far as stack and control flow need it.

Source: ARMv6-M (DDI 0419) and ARMv7-M (DDI 0403) Architecture Reference Manuals, as capstone spells the
instructions.
"""

import dataclasses
import re

from mcucompile.targets.binary.image import Image, Instruction
from mcucompile.targets.binary.state import (
    NEXT,
    STOP,
    Flow,
    FlowKind,
    State,
    Value,
    add,
    difference,
    total,
)

REGISTERS = (*(f"r{number}" for number in range(9)), "sb", "sl", "fp", "ip", "sp", "lr")
LINK_REGISTERS = ("lr",)
_WORD = 1 << 32
_STORE_BYTES = {"str": 4, "strh": 2, "strb": 1, "strd": 8}
_STORE_MULTIPLE = ("push", "stm", "stmdb", "vpush", "vstmia", "vstmdb")
_LOAD_MULTIPLE = ("pop", "ldm", "ldmdb", "vpop", "vldmia", "vldmdb")


def step(instruction: Instruction, state: State, image: Image) -> Flow:
    """Apply the instruction to the state and tell where the program goes.

    Raises:
        StackMismatchError: an instruction that may be skipped (IT block) moves the stack pointer and goes on.
    """
    before = state.copy() if instruction.conditional else None
    flow = _step(instruction, state, image)
    if before is None:
        return flow
    if flow.kind is FlowKind.NEXT:
        state.merge(before)
        return NEXT
    return dataclasses.replace(flow, skippable=True)


def _step(instruction: Instruction, state: State, image: Image) -> Flow:  # noqa: PLR0911 (one per kind)
    operation, operands = instruction.operation, instruction.operands
    match operation:
        case "b" | "cbz" | "cbnz":
            target = int(operands[-1].removeprefix("#"), 0)
            return Flow(FlowKind.JUMP, (target,), skippable=operation != "b")
        case "bl" | "blx":
            target_value = _code_address(_value(instruction, state, operands[0]))
            state.set("lr", (instruction.address + instruction.size) | 1)
            return Flow(FlowKind.CALL, (target_value,))
        case "bx":
            return Flow(FlowKind.JUMP, (_code_address(state.get(operands[0])),))
        case "tbb" | "tbh":
            return Flow(FlowKind.TABLE, _table(instruction, image))
        case "udf":
            return STOP
        case "msr" if operands[0] == "msp":
            state.set("sp", state.get(operands[1]))
            return NEXT
        case _ if operation in _STORE_MULTIPLE + _LOAD_MULTIPLE:
            return _multiple(instruction, state)
        case "ldr" | "ldrd":
            return _load(instruction, state, image)
        case _ if operation in _STORE_BYTES:
            _store(instruction, state)
            return NEXT
    return _assign(instruction, state)


def _assign(instruction: Instruction, state: State) -> Flow:
    """An instruction that only computes: its result, or None in every register that it writes."""
    value = _result(instruction, state)
    for register in instruction.writes:
        if register in REGISTERS:
            state.set(register, value)
    if "pc" in instruction.writes:
        return Flow(FlowKind.JUMP, (_code_address(value),))
    return NEXT


def _result(instruction: Instruction, state: State) -> Value | None:
    operands = instruction.operands
    if not operands or operands[-1].startswith(("lsl ", "lsr ", "asr ", "ror ", "rrx")):
        return None
    last = _value(instruction, state, operands[-1])
    first = _value(instruction, state, operands[-2]) if len(operands) > 1 else None
    result: Value | None = None
    match instruction.operation:
        case "mov" | "movw":
            result = last
        case "movt":
            if isinstance(first, int) and isinstance(last, int):
                result = (first & 0xFFFF) | (last << 16)
        case "mvn":
            result = _WORD - 1 - last if isinstance(last, int) else None
        case "add" | "addw":
            result = total(first, last)
        case "sub" | "subw":
            result = difference(first, last)
        case "adr":
            result = total(_value(instruction, state, "pc"), last)
        case "rsb":
            result = difference(last, first)
        case "lsl" if isinstance(first, int) and isinstance(last, int):
            result = (first << last) % _WORD
        case "lsr" if isinstance(first, int) and isinstance(last, int):
            result = first >> last
    return result


def _value(instruction: Instruction, state: State, operand: str) -> Value | None:
    if operand.startswith("#"):
        text = operand[1:]
        return int(text, 0) % _WORD if re.fullmatch(r"-?(0x[0-9a-f]+|\d+)", text) else None
    if operand == "pc":
        return instruction.address + 4 & ~3
    return state.get(operand)


def _code_address(value: Value | None) -> Value | None:
    return value & ~1 if isinstance(value, int) else value


@dataclasses.dataclass(frozen=True, slots=True)
class _Memory:
    """A memory operand: where it reads or writes, and what its base register holds afterwards."""

    address: Value | None
    base: str
    new_base: Value | None
    writes_back: bool


def _memory(instruction: Instruction, state: State) -> _Memory:
    index = next(i for i, operand in enumerate(instruction.operands) if operand.startswith("["))
    operand = instruction.operands[index]
    inner = [part.strip() for part in operand.rstrip("!")[1:-1].split(",")]
    base = _value(instruction, state, inner[0])
    address = base
    if len(inner) == 2:
        address = total(base, _value(instruction, state, inner[1]))
    elif len(inner) > 2:
        address = None
    if operand.endswith("!"):
        return _Memory(address, inner[0], address, writes_back=True)
    if index + 1 < len(instruction.operands):
        moved = total(base, _value(instruction, state, instruction.operands[index + 1]))
        return _Memory(address, inner[0], moved, writes_back=True)
    return _Memory(address, inner[0], base, writes_back=False)


def _read(address: Value | None, state: State, image: Image) -> Value | None:
    return image.read_constant(address) if isinstance(address, int) else state.load(address)


def _load(instruction: Instruction, state: State, image: Image) -> Flow:
    memory = _memory(instruction, state)
    words = 2 if instruction.operation == "ldrd" else 1
    values = [_read(add(memory.address, 4 * i), state, image) for i in range(words)]
    if memory.writes_back:
        state.set(memory.base, memory.new_base)
    for register, value in zip(instruction.operands[:words], values, strict=True):
        if register == "pc":
            return Flow(FlowKind.JUMP, (_code_address(value),))
        state.set(register, value)
    return NEXT


def _store(instruction: Instruction, state: State) -> None:
    memory = _memory(instruction, state)
    size = _STORE_BYTES[instruction.operation]
    if size == 8:
        for index, register in enumerate(instruction.operands[:2]):
            state.store(add(memory.address, 4 * index), state.get(register))
    else:
        state.store(memory.address, state.get(instruction.operands[0]), size)
    if memory.writes_back:
        state.set(memory.base, memory.new_base)


def _multiple(instruction: Instruction, state: State) -> Flow:
    """push, pop, ldm, stm and their floating-point forms."""
    operation = instruction.operation
    registers = [name.strip() for name in instruction.operands[-1].strip("{}").split(",")]
    base = "sp" if operation.endswith(("push", "pop")) else instruction.operands[0].rstrip("!")
    writes_back = operation.endswith(("push", "pop")) or instruction.operands[0].endswith("!")
    loads = operation in _LOAD_MULTIPLE
    down = operation in ("push", "vpush") or operation.endswith("db")
    word = 8 if registers[0].startswith("d") else 4
    length = word * len(registers)
    start = add(state.get(base), -length if down else 0)
    moved = add(state.get(base), -length if down else length)
    values = [state.load(add(start, word * index)) for index in range(len(registers))]
    target: Value | None = None
    for index, register in enumerate(registers):
        if not loads:
            state.store(add(start, word * index), state.get(register) if word == 4 else None, word)
        elif register == "pc":
            target = values[index]
        elif word == 4:
            state.set(register, values[index])
    if writes_back and not (loads and base in registers):
        state.set(base, moved)
    if loads and "pc" in registers:
        return Flow(FlowKind.JUMP, (_code_address(target),))
    return NEXT


def _table(instruction: Instruction, image: Image) -> tuple[Value | None, ...]:
    """Targets of a branch table that lies right behind the instruction; unknown when it lies elsewhere."""
    start = instruction.address + instruction.size
    end = next((stop for begin, stop in image.data_ranges if begin == start), start)
    if not instruction.operands[0].startswith("[pc") or end == start:
        return (None,)
    width = 2 if instruction.operation == "tbh" else 1
    offsets = image.read_bytes(start, end - start)
    found = {start + 2 * int.from_bytes(offsets[i : i + width], "little") for i in range(0, len(offsets), width)}
    # A padding byte at the end of the table would point into the table itself.
    return tuple(sorted(target for target in found if target >= end))
