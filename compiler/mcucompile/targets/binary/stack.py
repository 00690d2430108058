"""Worst-case stack of a firmware, computed from its machine code.

Every function that the entry point can reach is followed along all its paths with the value of the stack pointer;
a call adds the worst case of the function it calls. Recursion, a call or jump to an address that is not known, and
a stack pointer that is not known are errors: the bound is exact about what it covers or it is not given. Assembler of
the runtime may jump into slots that symbols of its own name (`Image.slots_of`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from mcucompile.errors import ProofError
from mcucompile.targets.binary import riscv, thumb
from mcucompile.targets.binary.image import Image, Instruction
from mcucompile.targets.binary.state import Entry, Flow, FlowKind, Frame, StackMismatchError, State, Value

# ARMv7-M Architecture Reference Manual (DDI 0403), B1.5.6: 8 words are pushed on exception entry, or 26 with the
# floating-point context, and one word more where the stack pointer has to be aligned to 8 bytes.
_EXCEPTION_FRAME_BYTES = 36
_EXCEPTION_FRAME_FLOAT_BYTES = 108
EXCEPTION_ENTRY = "(exception entry)"
# ARMv7-M B1.5.2: word 0 of the vector table is the initial stack pointer, word 1 the reset handler.
_FIRST_EXCEPTION_VECTOR = 2

_Step = Callable[[Instruction, State, Image], Flow]


@dataclass(frozen=True, slots=True)
class StackFrame:
    """A function on the worst path and the bytes that it holds there while it calls the next one."""

    function: str
    bytes: int


@dataclass(frozen=True, slots=True)
class StackUse:
    """Worst-case stack in bytes and the path that reaches it; the frames of the path add up to it."""

    bytes: int
    path: tuple[StackFrame, ...]

    def under(self, frame: StackFrame) -> "StackUse":
        """This use, below one more frame."""
        return StackUse(frame.bytes + self.bytes, (frame, *self.path))


@dataclass(frozen=True, slots=True)
class _Function:
    """What a caller has to know of a function.

    restarts: it gives the stack pointer its first value again, so its use does not add to what was there.
    """

    use: StackUse
    returns: bool
    clobbers: frozenset[str]
    restarts: bool


def worst_case_stack(image: Image, *, float_context: bool = False) -> StackUse:
    """The most stack that the firmware can use, from its entry point on.

    To the use of the program itself comes one interrupt (the deepest handler that returns) and on top one fault
    handler (the deepest one that does not return), each with the frame that the hardware pushes. Interrupts are
    taken not to nest: the firmware gives them all one priority. A handler that sets the stack pointer to a constant
    takes the whole stack for itself and counts alone.

    Args:
        image: a linked firmware for a RISC-V or Cortex-M core.
        float_context: the code uses floating-point registers, which exception entry then saves as well.

    Raises:
        ProofError: the worst case cannot be computed; the error names the function and says why.
    """
    analysis = _Analysis(image)
    if image.family == "riscv":
        use = analysis.function(image.entry, ()).use
        handlers, entry_bytes = analysis.trap_handlers, 0
    else:
        vectors = _vector_table(image)
        use = analysis.function(vectors[1] & ~1, ()).use
        handlers = {vector & ~1 for vector in vectors[_FIRST_EXCEPTION_VECTOR:] if vector}
        entry_bytes = _EXCEPTION_FRAME_FLOAT_BYTES if float_context else _EXCEPTION_FRAME_BYTES
    functions = [analysis.function(address, ()) for address in sorted(handlers)]
    for returning in (True, False):
        uses = [
            StackUse(0, ()) if function.restarts else function.use
            for function in functions
            if function.returns is returning
        ]
        if uses:
            worst = max(uses, key=lambda use: use.bytes)
            if entry_bytes:
                worst = worst.under(StackFrame(EXCEPTION_ENTRY, entry_bytes))
            use = StackUse(use.bytes + worst.bytes, use.path + worst.path)
    restarted = [function.use for function in functions if function.restarts]
    return max([use, *restarted], key=lambda use: use.bytes)


def function_stack(image: Image, name: str) -> StackUse:
    """Worst-case stack of one function and of what it calls, interrupts not counted.

    Raises:
        ProofError: the firmware has no such function, or its worst case cannot be computed.
    """
    for address, function in image.functions.items():
        if function == name:
            return _Analysis(image).function(address, ()).use
    raise ProofError(image.path, f"has no function '{name}'", "keep its symbol in the ELF")


def _vector_table(image: Image) -> list[int]:
    """The words of the vector table, which begins where the flash image begins."""
    first = min((s for s in image.sections if s.data is not None), key=lambda s: s.load_address)
    end = first.address + first.size
    sizes = [s.size for s in image.symbols if s.kind == "object" and s.address == first.address and s.size]
    ranges = [stop - start for start, stop in image.data_ranges if start == first.address]
    size = min([*sizes, *ranges, end - first.address])
    table = image.read_bytes(first.address, size - size % 4)
    words = [int.from_bytes(table[i : i + 4], "little") for i in range(0, len(table), 4)]
    if len(words) < 2 or words[1] & ~1 != image.entry:
        raise ProofError(
            image.path,
            f"section '{first.name}' at {first.address:#x} is no vector table for the entry point {image.entry:#x}",
            "link the vector table first in flash and make its reset handler the entry point",
        )
    return words


class _Analysis:
    """Summaries of functions, each computed once; `trap_handlers` collects what is written to mtvec."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.trap_handlers: set[int] = set()
        self._done: dict[int, _Function] = {}
        self._step: _Step = riscv.step if image.family == "riscv" else thumb.step
        registers = riscv.REGISTERS if image.family == "riscv" else thumb.REGISTERS
        self._entry_values: dict[str, Value] = {name: Entry(name) for name in registers}
        self._entry_values["sp"] = Frame(0)
        self._links = riscv.LINK_REGISTERS if image.family == "riscv" else thumb.LINK_REGISTERS

    def function(self, address: int, callers: tuple[int, ...]) -> _Function:
        """Summary of the function at the address; `callers` is the chain of calls that leads to it."""
        if address in callers:
            chain = [self.image.function_at(a) for a in (*callers[callers.index(address) :], address)]
            raise ProofError(
                self.image.path,
                f"'{chain[0]}' is recursive ({' -> '.join(chain)}): its stack has no bound",
                f"write '{chain[0]}' as a loop",
            )
        if address not in self._done:
            self._done[address] = _Walk(self, address, (*callers, address)).run()
        return self._done[address]

    def is_function(self, address: int) -> bool:
        """True when the address begins a function, so that a jump to it is a tail call."""
        return address in self.image.functions or address in self._done

    def step(self, instruction: Instruction, state: State) -> Flow:
        """Apply one instruction."""
        return self._step(instruction, state, self.image)

    def entry_state(self) -> State:
        """What is known on entry to any function."""
        return State(dict(self._entry_values))

    def is_return(self, target: Value | None) -> bool:
        """True when the target is the address that the caller put into a link register."""
        return isinstance(target, Entry) and target.register in self._links

    def clobbered(self, state: State) -> frozenset[str]:
        """Registers that do not hold what they held on entry."""
        return frozenset(r for r, value in self._entry_values.items() if state.registers.get(r) != value)


class _Walk:
    """Follows one function along all its paths."""

    def __init__(self, analysis: _Analysis, address: int, callers: tuple[int, ...]) -> None:
        self._analysis = analysis
        self._image = analysis.image
        self._address = address
        self._callers = callers
        self._name = analysis.image.function_at(address)
        self._states: dict[int, State] = {}
        self._pending: list[int] = []
        self._use = StackUse(0, (StackFrame(self._name, 0),))
        self._returns = False
        self._restarts = False
        self._clobbers: frozenset[str] = frozenset()

    def run(self) -> _Function:
        self._reach(self._address, self._analysis.entry_state())
        while self._pending:
            self._visit(self._pending.pop())
        return _Function(self._use, self._returns, self._clobbers, self._restarts)

    def _visit(self, at: int) -> None:
        instruction = self._image.at.get(at)
        if instruction is None:
            raise self._error(f"runs into {at:#x}, which holds no code")
        before = self._states[at]
        state = before.copy()
        try:
            flow = self._without_far_jump(self._analysis.step(instruction, state))
        except StackMismatchError:
            raise self._error(f"may or may not move the stack pointer at {at:#x} ({instruction.text})") from None
        depth = self._depth(instruction, state)
        self._record(StackUse(0, ()), depth)
        if riscv.TRAP_VECTOR in state.registers:
            self._note_trap_handler(instruction, state)
        following = at + instruction.size
        match flow.kind:
            case FlowKind.NEXT:
                self._continue(following, state, instruction)
            case FlowKind.CALL:
                called = self._call(instruction, flow.targets[0], state, depth)
                if flow.skippable:
                    state.merge(before)
                if called.returns or flow.skippable:
                    self._continue(following, state, instruction)
            case FlowKind.JUMP | FlowKind.TABLE:
                for target in flow.targets:
                    self._jump(instruction, target, state, depth)
                if flow.skippable:
                    self._continue(following, before, instruction)
            case FlowKind.EXCEPTION_RETURN:
                self._leave(instruction, state)
            case FlowKind.STOP:
                pass

    def _depth(self, instruction: Instruction, state: State) -> int:
        """Bytes of stack in use after the instruction."""
        pointer = state.get("sp")
        if isinstance(pointer, int) and self._may_restart():
            # Start-up code gives the stack pointer its first value: the stack is empty here. RISC-V needs two
            # instructions for an address; the value is whole after the second.
            self._restarts = True
            following = self._image.at.get(instruction.address + instruction.size)
            half = instruction.operation in ("lui", "auipc")
            if not half or following is None or following.writes != ("sp",):
                state.set("sp", Frame(0))
                state.saved.clear()
            return 0
        if not isinstance(pointer, Frame) or pointer.offset > 0:
            raise self._error(
                f"gives the stack pointer a value that is not known before it runs, at {instruction.address:#x} "
                f"({instruction.text})",
                "use arrays of fixed size, without alloca or more alignment than the stack has",
            )
        return -pointer.offset

    def _may_restart(self) -> bool:
        """True for start-up code, and for a handler that has not used the stack of what it interrupted."""
        return len(self._callers) == 1 and (self._address == self._image.entry or self._use.bytes == 0)

    def _note_trap_handler(self, instruction: Instruction, state: State) -> None:
        handler = state.registers.pop(riscv.TRAP_VECTOR)
        # The two low bits choose the vector mode (privileged specification, section 3.1.7).
        if not isinstance(handler, int) or not self._image.is_code(handler & ~3):
            raise self._error(f"sets a trap handler that is not known, at {instruction.address:#x}")
        self._analysis.trap_handlers.add(handler & ~3)

    def _call(self, instruction: Instruction, target: Value | None, state: State, depth: int) -> _Function:
        if not isinstance(target, int):
            raise self._unknown_target(instruction, "calls a function through a pointer")
        called = self._analysis.function(target, self._callers)
        self._record(called.use, depth)
        for register in called.clobbers - {"sp"}:
            state.set(register, None)
        state.drop_below(-depth)
        return called

    def _without_far_jump(self, flow: Flow) -> Flow:
        """Return a call to the middle of the same function as what it is: the only jump of Armv6-M that goes far."""
        if flow.kind is not FlowKind.CALL:
            return flow
        target = flow.targets[0]
        if not isinstance(target, int) or self._analysis.is_function(target):
            return flow
        return Flow(FlowKind.JUMP, flow.targets) if self._image.function_at(target) == self._name else flow

    def _jump(self, instruction: Instruction, target: Value | None, state: State, depth: int) -> None:
        if self._analysis.is_return(target):
            self._leave(instruction, state)
        elif not isinstance(target, int):
            slots = self._image.slots_of(self._name)
            if not slots:
                raise self._unknown_target(instruction, "jumps to an address computed at run time")
            for slot in slots:
                self._reach(slot, state)
        elif target != self._address and self._analysis.is_function(target):
            self._tail_call(instruction, target, state, depth)
        else:
            self._reach(target, state)

    def _continue(self, following: int, state: State, instruction: Instruction) -> None:
        stops = instruction.operation in ("ebreak", "bkpt") and not self._image.is_code(following)
        if stops:
            return
        if following in self._image.functions and following != self._address:
            if instruction.operation not in ("ebreak", "bkpt"):
                self._tail_call(instruction, following, state, self._depth(instruction, state))
        else:
            self._reach(following, state)

    def _tail_call(self, instruction: Instruction, target: int, state: State, depth: int) -> None:
        called = self._analysis.function(target, self._callers)
        self._record(called.use, depth)
        if called.returns:
            self._leave(instruction, state, called.clobbers)

    def _leave(self, instruction: Instruction, state: State, clobbers: frozenset[str] = frozenset()) -> None:
        if state.get("sp") != Frame(0):
            raise self._error(
                f"leaves at {instruction.address:#x} with another stack pointer than it was entered with",
                "build without -msave-restore",
            )
        self._returns = True
        self._clobbers |= self._analysis.clobbered(state) | clobbers

    def _record(self, called: StackUse, depth: int) -> None:
        use = called.under(StackFrame(self._name, depth))
        if use.bytes > self._use.bytes:
            self._use = use

    def _reach(self, address: int, state: State) -> None:
        known = self._states.get(address)
        if known is None:
            self._states[address] = state.copy()
            self._pending.append(address)
            return
        try:
            changed = known.merge(state)
        except StackMismatchError:
            raise self._error(f"reaches {address:#x} with different stack pointers") from None
        if changed and address not in self._pending:
            self._pending.append(address)

    def _unknown_target(self, instruction: Instruction, what: str) -> ProofError:
        return self._error(
            f"{what}, at {instruction.address:#x} ({instruction.text})",
            f"call by name in '{self._name}' and build with -fno-jump-tables",
        )

    def _error(self, problem: str, fix: str = "write the function in C, or give it a fixed frame") -> ProofError:
        return ProofError(self._image.path, f"worst-case stack: '{self._name}' {problem}", fix)
