"""Runs a firmware in this process on unicorn's cores: the board's flash, RAM and UART, and nothing else.

The firmware runs only while the link waits for bytes, and stops where it asks for a byte that has not been
sent. So a session takes no time while nothing happens, and every run of it is the same.
"""

import contextlib
import importlib.util
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import capstone

from mcucompile.errors import LinkError, ToolError
from mcucompile.targets.boards import Board, Unicorn
from mcucompile.targets.counting import BlockCounter, CountingLink, plan_counting
from mcucompile.targets.cycles import DIVIDE, MULTIPLY, block_cycles
from mcucompile.targets.symbols import Image, load_image

_PAGE_BYTES = 4096

# x16 .. x31, which RV32E has not.
_UPPER_REGISTERS = re.compile(r"\b(?:a[67]|s[2-9]|s1[01]|t[3-6])\b")


def has_unicorn() -> bool:
    """Return whether unicorn is installed."""
    return importlib.util.find_spec("unicorn") is not None


@contextlib.contextmanager
def open_unicorn(
    elf: Path,
    board: Board,
    *,
    no_multiply: bool = False,
    layers: tuple[str, ...] | None = None,
    time_limit_s: float = 600.0,
) -> Iterator[CountingLink]:
    """Run a firmware until the end of the `with` block, and yield the link to it.

    Any access outside the board's flash, RAM and named register pages ends the session with the program counter
    and its function; so does an instruction that the board's core has not.

    Args:
        elf: built for the board.
        board: one with a [unicorn] section.
        no_multiply: also refuse every multiply and divide instruction.
        layers: names of the layers' functions, in order, for counts per layer; () counts the whole inference
            only, None does not count (fastest).
        time_limit_s: the firmware may run this long between two replies.
    Raises:
        ToolError: unicorn is not installed, or the board file has no [unicorn] section.
        LinkError: as the requests of a Link, and when the firmware does what the board does not allow.
    """
    if board.unicorn is None:
        raise ToolError(
            f"board '{board.name}'", "its file has no [unicorn] section", "use another emulator, or add the section"
        )
    if not has_unicorn():
        raise ToolError(
            f"board '{board.name}'",
            "the Python package unicorn is not installed",
            "pip install 'mcucompile[toolchain]'",
        )
    image = load_image(elf)
    counter = None if layers is None else _counter(board, image, layers)
    port = UnicornPort(board, board.unicorn, image, no_multiply=no_multiply, time_limit_s=time_limit_s, counter=counter)
    yield CountingLink(
        port,
        name=f"unicorn ({board.name})",
        describe_address=image.describe_address,
        read_counts=None if counter is None else lambda: counter.finished,
    )


def _counter(board: Board, image: Image, layers: tuple[str, ...]) -> BlockCounter:
    disassembler = _disassembler(board)
    return BlockCounter(
        plan_counting(image, layers),
        image,
        lambda code, address: block_cycles(disassembler, code, address, board.cycles),
        board.cycles.branch_taken - board.cycles.branch_not_taken,
    )


class UnicornPort:
    """The firmware's UART as a port. `read` runs the firmware until it waits for input.

    Emulated time has no clock to compare with, so `timeout` only says how far the firmware has gone astray: it
    may run for ten times that long, and at most for the time limit.

    Args:
        board: memories and core.
        machine: the board's [unicorn] section.
        image: the firmware.
        no_multiply: refuse multiply and divide instructions.
        time_limit_s: for one `read`.
        counter: told every block that runs, if any.
    """

    def __init__(
        self,
        board: Board,
        machine: Unicorn,
        image: Image,
        *,
        no_multiply: bool,
        time_limit_s: float,
        counter: BlockCounter | None,
    ) -> None:
        self.timeout: float | None = None
        self._name = f"unicorn ({board.name})"
        self._machine = machine
        self._image = image
        self._time_limit_s = time_limit_s
        self._sent: deque[int] = deque()
        self._received = bytearray()
        self._polls = 0
        self._failure = ""
        self._core = _Core(board)
        self._map(board)
        self._watch(board, no_multiply, counter)
        self._resume_at = self._core.reset(image)

    def write(self, data: bytes) -> int:
        """Queue bytes for the firmware."""
        self._sent.extend(data)
        return len(data)

    def read(self, size: int = 1) -> bytes:
        """Return up to `size` bytes of what the firmware sends until it waits for input."""
        if len(self._received) < size:
            self._run()
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def _run(self) -> None:
        self._polls = 0
        started = time.monotonic()
        limit_s = self._time_limit_s if self.timeout is None else min(self._time_limit_s, 10 * self.timeout)
        try:
            self._core.run(self._resume_at, limit_s)
        except self._core.unicorn.UcError as error:
            raise self._trap(self._failure or str(error)) from error
        if self._failure:
            raise self._trap(self._failure)
        if time.monotonic() - started >= limit_s:
            raise self._trap(f"no reply in {limit_s:g} s")
        self._resume_at = self._core.program_counter()

    def _trap(self, problem: str) -> LinkError:
        where = self._image.describe_address(self._core.program_counter())
        return LinkError(
            self._name, f"the firmware stopped: {problem}, at {where}", "report it with the model: this is a fault"
        )

    def _map(self, board: Board) -> None:
        import unicorn  # noqa: PLC0415 - an optional package

        engine, memory = self._core.engine, board.memory
        engine.mem_map(memory.flash_origin, _pages(memory.flash_bytes), unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        engine.mem_map(memory.ram_origin, _pages(memory.ram_bytes), unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        for address, data in self._image.segments:
            engine.mem_write(address, data)
        for page in self._machine.peripherals:
            engine.mmio_map(page, _PAGE_BYTES, self._read_register, page, self._write_register, page)

    def _watch(self, board: Board, no_multiply: bool, counter: BlockCounter | None) -> None:
        engine, unicorn, memory = self._core.engine, self._core.unicorn, board.memory

        def stop(problem: str) -> None:
            self._failure = self._failure or problem
            engine.emu_stop()

        def on_stray(_engine: Any, access: int, address: int, size: int, _value: int, _data: Any) -> bool:
            writes = access in {unicorn.UC_MEM_WRITE, unicorn.UC_MEM_WRITE_UNMAPPED, unicorn.UC_MEM_WRITE_PROT}
            stop(f"{'wrote' if writes else 'read'} {size} bytes at {address:#010x}, which is not the board's memory")
            return False

        engine.hook_add(unicorn.UC_HOOK_MEM_INVALID, on_stray)
        # Memory is mapped in pages; a smaller RAM is watched in the rest of its last page.
        end = memory.ram_origin + memory.ram_bytes
        if end % _PAGE_BYTES:
            kinds = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE
            last = memory.ram_origin + _pages(memory.ram_bytes) - 1
            engine.hook_add(kinds, on_stray, begin=end, end=last)
        if no_multiply or board.core == "rv32ec":
            engine.hook_add(unicorn.UC_HOOK_EDGE_GENERATED, self._inspector(board, no_multiply, stop))
        if counter is not None:
            engine.hook_add(unicorn.UC_HOOK_BLOCK, counter.on_block)

    def _inspector(self, board: Board, no_multiply: bool, stop: Callable[[str], None]) -> Callable[..., None]:
        """Return a hook that looks at every block once, before it runs for the first time."""
        disassembler = _disassembler(board)
        has_multiply = board.has_multiplier and not no_multiply
        has_upper_registers = board.core != "rv32ec"

        def on_new_block(engine: Any, block: Any, _previous: Any, _data: Any) -> None:
            code = bytes(engine.mem_read(block.pc, block.size))
            for address, _, mnemonic, operands in disassembler.disasm_lite(code, block.pc):
                text = f"{mnemonic} {operands}".strip()
                multiplies = not has_multiply and (MULTIPLY.match(mnemonic) or DIVIDE.match(mnemonic))
                if multiplies or (not has_upper_registers and _UPPER_REGISTERS.search(operands)):
                    stop(f"'{text}' at {self._image.describe_address(address)} is no instruction of this core")

        return on_new_block

    def _read_register(self, engine: Any, offset: int, _size: int, page: int) -> int:
        address, machine = page + offset, self._machine
        if address == machine.uart_status:
            # A transmitter's flags may be in the same register: the second poll in a row waits for input.
            self._polls += 1
            if not self._sent and self._polls > 1:
                engine.emu_stop()
            if address != machine.uart_receive or not self._sent:
                return machine.uart_status_ready if self._sent else machine.uart_status_idle
        if address == machine.uart_receive and self._sent:
            self._polls = 0
            return self._sent.popleft()
        return machine.constants.get(address, 0)

    def _write_register(self, _engine: Any, offset: int, _size: int, value: int, page: int) -> None:
        if page + offset == self._machine.uart_transmit:
            self._polls = 0
            self._received.append(value & 0xFF)


class _Core:
    """A unicorn engine for the board's core, and the few things that differ between RISC-V and Arm."""

    def __init__(self, board: Board) -> None:
        # An optional package, and one that tells a type checker too little.
        self.unicorn: Any = importlib.import_module("unicorn")
        self._is_riscv = board.core.startswith("rv32")
        if self._is_riscv:
            constants: Any = importlib.import_module("unicorn.riscv_const")
            self.engine = self.unicorn.Uc(self.unicorn.UC_ARCH_RISCV, self.unicorn.UC_MODE_RISCV32)
            self._pc_register = constants.UC_RISCV_REG_PC
        else:
            constants = importlib.import_module("unicorn.arm_const")
            mode = self.unicorn.UC_MODE_THUMB | self.unicorn.UC_MODE_MCLASS
            self.engine = self.unicorn.Uc(self.unicorn.UC_ARCH_ARM, mode)
            model = f"UC_CPU_ARM_{board.core.upper().replace('-', '_')}"
            self.engine.ctl_set_cpu_model(getattr(constants, model))
            self._pc_register = constants.UC_ARM_REG_PC
            self._sp_register = constants.UC_ARM_REG_SP

    def reset(self, image: Image) -> int:
        """Do what the core does at reset; return where it starts."""
        if self._is_riscv:
            return image.entry
        # Armv7-M Architecture Reference Manual, B1.5.5: the vector table begins with stack pointer and entry.
        table = min(address for address, _ in image.segments)
        words = self.engine.mem_read(table, 8)
        self.engine.reg_write(self._sp_register, int.from_bytes(words[:4], "little"))
        return int.from_bytes(words[4:], "little") & ~1

    def run(self, address: int, time_limit_s: float) -> None:
        """Run from an address until something stops the engine."""
        thumb = 0 if self._is_riscv else 1
        self.engine.emu_start(address | thumb, 0xFFFF_FFFF, timeout=int(time_limit_s * 1_000_000))

    def program_counter(self) -> int:
        """Return the address of the instruction that runs next."""
        return int(self.engine.reg_read(self._pc_register)) & ~1


def _disassembler(board: Board) -> capstone.Cs:
    """Return a disassembler for the core, which passes over what is no instruction."""
    if board.core.startswith("rv32"):
        disassembler = capstone.Cs(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV32 | capstone.CS_MODE_RISCVC)
    else:
        disassembler = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    disassembler.skipdata = True
    return disassembler


def _pages(size: int) -> int:
    return -(-size // _PAGE_BYTES) * _PAGE_BYTES
