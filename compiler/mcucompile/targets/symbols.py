"""Symbols and loadable segments of a firmware's ELF, as an emulator and its messages need them."""

import struct
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from mcucompile.errors import ProjectError


@dataclass(frozen=True, slots=True)
class Function:
    """A function's addresses start .. end - 1."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Image:
    """A firmware as it lies in flash.

    Attributes:
        is_riscv: else Arm.
        entry: address of the first instruction.
        segments: (load address, bytes).
        functions: in the order of their addresses.
    """

    is_riscv: bool
    entry: int
    segments: tuple[tuple[int, bytes], ...]
    functions: tuple[Function, ...]

    def function(self, name: str) -> Function:
        """Return the function of that name, also as a copy that a compiler has specialised (`name.constprop.0`).

        Raises:
            ProjectError: there is none.
        """
        for function in self.functions:
            if function.name.partition(".")[0] == name:
                return function
        raise ProjectError("firmware", f"has no function '{name}'", "build it with mcucompile, which keeps the symbols")

    def has_function(self, name: str) -> bool:
        """Return whether `function(name)` finds one."""
        return any(function.name.partition(".")[0] == name for function in self.functions)

    def code(self, address: int, size: int) -> tuple[int, ...]:
        """Return the half words, little-endian, of `size` bytes at an address in flash.

        Raises:
            ProjectError: the firmware has nothing there.
        """
        for start, data in self.segments:
            if start <= address and address + size <= start + len(data):
                return struct.unpack_from(f"<{size // 2}H", data, address - start)
        raise ProjectError("firmware", f"has no code at {address:#010x}", "build the project again")

    def instruction_bytes(self, half_word: int) -> int:
        """Return 2 or 4: the length of the instruction that starts with a half word.

        Source: RISC-V Unprivileged ISA, section 1.5; Armv7-M Architecture Reference Manual, section A5.1.
        """
        if self.is_riscv:
            return 4 if half_word & 0b11 == 0b11 else 2
        return 4 if half_word >> 11 >= 0b11101 else 2

    def describe_address(self, address: int) -> str:
        """Return the address with the name of the function it lies in, such as "0x20400120 in mcu_start"."""
        before = bisect_right(self.functions, address, key=lambda function: function.start)
        if before and address < self.functions[before - 1].end:
            return f"{address:#010x} in {self.functions[before - 1].name}"
        return f"{address:#010x}, outside all functions"


def load_image(elf: Path) -> Image:
    """Read a firmware.

    Raises:
        ProjectError: the file is missing or not an ELF.
    """
    try:
        with elf.open("rb") as stream:
            file = ELFFile(stream)
            segments = tuple(
                (segment["p_paddr"], segment.data()) for segment in file.iter_segments("PT_LOAD") if segment["p_filesz"]
            )
            functions = tuple(sorted(_functions(file), key=lambda function: function.start))
            return Image(file["e_machine"] == "EM_RISCV", file["e_entry"], segments, functions)
    except OSError as error:
        raise ProjectError(elf, f"cannot be read: {error.strerror}", "build the project again") from error
    except ELFError as error:
        raise ProjectError(elf, f"is not an ELF: {error}", "build the project again") from error


def _functions(file: ELFFile) -> list[Function]:
    functions = []
    for section in file.iter_sections():
        if not isinstance(section, SymbolTableSection):
            continue
        for symbol in section.iter_symbols():
            if symbol["st_info"]["type"] == "STT_FUNC":
                # Thumb functions carry their instruction set in bit 0; no instruction is at an odd address.
                start = symbol["st_value"] & ~1
                functions.append(Function(symbol.name, start, start + symbol["st_size"]))
    return functions
