"""What is known about the registers and the stack at one instruction of a function.

Only what the stack analysis needs is tracked: constants, the values that registers had on entry (which tell a
return from an indirect jump), and addresses relative to the stack pointer on entry.
"""

from dataclasses import dataclass, field
from enum import Enum

_WORD = 1 << 32


@dataclass(frozen=True, slots=True)
class Entry:
    """The value that a register had when the function was entered."""

    register: str


@dataclass(frozen=True, slots=True)
class Frame:
    """The stack pointer on entry plus `offset` bytes; the stack grows down, so a local has offset < 0."""

    offset: int


Value = int | Entry | Frame  # an int is a constant, 0 .. 2**32 - 1; an unknown value is None


def add(value: Value | None, constant: int) -> Value | None:
    """Sum of a value and a constant, modulo 2**32; None when that is not tracked."""
    if isinstance(value, int):
        return (value + constant) % _WORD
    if isinstance(value, Frame):
        return Frame(value.offset + _signed(constant))
    return value if constant == 0 else None


def total(left: Value | None, right: Value | None) -> Value | None:
    """Sum of two values; None when that is not tracked."""
    if isinstance(right, int):
        return add(left, right)
    return add(right, left) if isinstance(left, int) else None


def difference(left: Value | None, right: Value | None) -> Value | None:
    """The first value minus the second; None when that is not tracked."""
    return add(left, -right) if isinstance(right, int) else None


def _signed(word: int) -> int:
    return (word + (_WORD >> 1)) % _WORD - (_WORD >> 1)


class FlowKind(Enum):
    """Where the program goes after an instruction."""

    NEXT = "next"
    JUMP = "jump"
    CALL = "call"
    TABLE = "table"
    EXCEPTION_RETURN = "exception return"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Flow:
    """One way on.

    targets: addresses as values; one for a jump or call, several for a table, None where unknown.
    skippable: the instruction may not take place (its condition is not met) and the next one follows.
    """

    kind: FlowKind
    targets: tuple[Value | None, ...] = ()
    skippable: bool = False


NEXT = Flow(FlowKind.NEXT)
STOP = Flow(FlowKind.STOP)


class StackMismatchError(Exception):
    """Two paths reach one instruction with different stack pointers."""


@dataclass(slots=True)
class State:
    """Registers and saved words; a key that is missing is unknown.

    Saved words are trusted to survive stores through pointers that are not relative to the stack pointer: correct
    C never writes there.
    """

    registers: dict[str, Value] = field(default_factory=dict)
    saved: dict[int, Value] = field(default_factory=dict)  # by Frame offset

    def copy(self) -> "State":
        """An independent copy."""
        return State(dict(self.registers), dict(self.saved))

    def get(self, register: str) -> Value | None:
        """Value of a register, None when unknown."""
        return self.registers.get(register)

    def set(self, register: str, value: Value | None) -> None:
        """Give a register a value; None forgets it."""
        if value is None:
            self.registers.pop(register, None)
        else:
            self.registers[register] = value

    def load(self, address: Value | None) -> Value | None:
        """A word from the tracked part of the stack."""
        return self.saved.get(address.offset) if isinstance(address, Frame) else None

    def store(self, address: Value | None, value: Value | None, size: int = 4) -> None:
        """Store `size` bytes; a store anywhere but in the tracked stack changes nothing that is tracked."""
        if not isinstance(address, Frame):
            return
        for offset in range(address.offset - 3, address.offset + size):
            self.saved.pop(offset, None)
        if value is not None and size == 4:
            self.saved[address.offset] = value

    def drop_below(self, offset: int) -> None:
        """Forget what lies below the stack pointer: a call overwrites it."""
        self.saved = {at: value for at, value in self.saved.items() if at >= offset}

    def merge(self, other: "State") -> bool:
        """Keep what both states agree on; returns True when that is less than this state knew.

        Raises:
            StackMismatchError: the stack pointers differ.
        """
        if self.registers.get("sp") != other.registers.get("sp"):
            raise StackMismatchError
        registers = {r: v for r, v in self.registers.items() if other.registers.get(r) == v}
        saved = {o: v for o, v in self.saved.items() if other.saved.get(o) == v}
        changed = len(registers) != len(self.registers) or len(saved) != len(self.saved)
        self.registers, self.saved = registers, saved
        return changed
