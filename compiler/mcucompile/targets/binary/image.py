"""Reads an ELF and decodes its code: every byte that the core could execute, and no data.

Where code ends and data begins comes from the mapping symbols `$t`, `$a`, `$x` (code) and `$d` (data) of the
ARM ELF specification (IHI 0044, section 4.5.6) and the RISC-V psABI (chapter "Mapping Symbol"), from the
symbols of functions (always code) and of objects (always data). What no symbol claims counts as code: a proof
may look at too much, never at too little.
"""

import bisect
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import capstone
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section as ElfSection
from elftools.elf.sections import SymbolTableSection

from mcucompile.errors import ProjectError, ProofError

Family = Literal["riscv", "arm", "host"]

CORE_FAMILY: dict[str, Family] = {
    "host": "host",
    "rv32imac": "riscv",
    "rv32ec": "riscv",
    "cortex-m0": "arm",
    "cortex-m4": "arm",
}
_MACHINE = {"EM_RISCV": "riscv", "EM_ARM": "arm"}
_LLD_THUMB_FILLER = b"\xd4\xd4"  # LLVM lld/ELF/Arch/ARM.cpp, trapInstr
_SLOT_BYTES = 8
_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Symbol:
    """A named address. `address` has no Thumb bit; `size` in bytes, 0 when the ELF does not give it."""

    name: str
    address: int
    size: int
    kind: Literal["function", "object", "label", "undefined"]


@dataclass(frozen=True, slots=True)
class Section:
    """A section that occupies memory. `load_address` is where its bytes are stored (flash for `.data`)."""

    name: str
    address: int
    load_address: int
    size: int
    alignment: int
    writable: bool
    executable: bool
    data: bytes | None  # None: nothing is stored, the memory is zeroed or left alone at start


@dataclass(frozen=True, slots=True)
class Instruction:
    """One decoded instruction.

    operation: for ARM without condition, width and flag suffix ("add" for "addseq.w"); for RISC-V without "c.".
    operands: text, split at the commas outside brackets and braces.
    writes: registers that the instruction changes; empty where the step functions know better.
    conditional: executed only under a condition (an IT block or a conditional ARM branch).
    """

    address: int
    size: int
    operation: str
    text: str
    operands: tuple[str, ...]
    writes: tuple[str, ...]
    conditional: bool


@dataclass(frozen=True)
class Image:
    """An ELF file as the tool sees it; `instructions` is in address order."""

    path: Path
    family: Family
    entry: int
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]
    instructions: tuple[Instruction, ...]
    undecoded: tuple[int, ...]  # addresses of code that is no known instruction
    data_ranges: tuple[tuple[int, int], ...]  # data inside executable sections, [start, end)

    @cached_property
    def at(self) -> dict[int, Instruction]:
        """Instruction by address."""
        return {instruction.address: instruction for instruction in self.instructions}

    @cached_property
    def functions(self) -> dict[int, str]:
        """Name of each function by its first address; a global name wins over its aliases by coming first."""
        found: dict[int, str] = {}
        for symbol in self.symbols:
            # A ".cold" part is the far half of another function's body, entered with that function's frame.
            if symbol.kind == "function" and not _is_cold_part(symbol.name):
                found.setdefault(symbol.address, symbol.name)
        return found

    @cached_property
    def _named(self) -> tuple[list[int], list[Symbol]]:
        ranked = sorted(
            (s for s in self.symbols if s.kind in ("function", "label")),
            key=lambda s: (s.address, s.kind != "function", -s.size),
        )
        unique: dict[int, Symbol] = {}
        for symbol in ranked:
            unique.setdefault(symbol.address, symbol)
        return list(unique), list(unique.values())

    def function_at(self, address: int) -> str:
        """Name of the function that holds the address: by its range, else the nearest symbol before it."""
        addresses, symbols = self._named
        last = bisect.bisect_right(addresses, address) - 1
        for index in range(last, -1, -1):
            symbol = symbols[index]
            if symbol.kind == "function" and (
                address < symbol.address + symbol.size or (symbol.size == 0 and index == last)
            ):
                return symbol.name
        return symbols[last].name if last >= 0 else hex(address)

    def slots_of(self, function: str) -> tuple[int, ...]:
        """Return where the runtime's own assembler may jump to by a number that it reads.

        Slots of eight bytes lie between the symbols `<function>_slots` and `<function>_slots_end`; that the numbers
        are theirs is the compiler's, which writes the tables of them.
        """
        places = {symbol.name: symbol.address for symbol in self.symbols}
        first, end = (places.get(f"{function}_{name}") for name in ("slots", "slots_end"))
        return () if first is None or end is None else tuple(range(first, end, _SLOT_BYTES))

    def is_code(self, address: int) -> bool:
        """True when an instruction starts at the address."""
        return address in self.at

    def read_bytes(self, address: int, size: int) -> bytes:
        """Bytes that the program cannot change; empty where they are not stored in one read-only section."""
        for section in self.sections:
            offset = address - section.address
            if 0 <= offset <= section.size - size and section.data is not None and not section.writable:
                return section.data[offset : offset + size]
        return b""

    def read_constant(self, address: int) -> int | None:
        """The little-endian word at an address that the program cannot change, else None."""
        word = self.read_bytes(address, 4)
        return int.from_bytes(word, "little") if word else None


def read_image(elf: Path, core: str) -> Image:
    """Read an ELF built for the core and decode its code.

    Args:
        elf: a linked firmware, or a host object or program (whose code is not decoded).
        core: a core of the board files: "rv32imac", "rv32ec", "cortex-m0", "cortex-m4" or "host".

    Raises:
        ProjectError: the file cannot be read, is no ELF, or was built for another core.
        ProofError: the ELF has no symbols, so that nothing can be named or proved.
    """
    family = CORE_FAMILY[core]
    try:
        with elf.open("rb") as file:
            parsed = ELFFile(file)
            machine = parsed["e_machine"]
            if _MACHINE.get(machine, "host") != family:
                raise ProjectError(elf, f"is built for {machine}, the board's core is {core}", "build it again")
            sections = tuple(_sections(parsed))
            symbols = tuple(_symbols(parsed, family))
            entry = int(parsed["e_entry"])
    except (OSError, ELFError) as error:
        raise ProjectError(elf, f"cannot be read as an ELF file ({error})", "build the project again") from error
    if not symbols:
        raise ProofError(elf, "has no symbols, nothing can be proved about it", "link without -s and build with -g")
    instructions: list[Instruction] = []
    undecoded: list[int] = []
    data_ranges: list[tuple[int, int]] = []
    if family != "host":
        marks = _marks(symbols)
        first = min((s.load_address for s in sections if s.data is not None), default=0)
        for section in sections:
            if section.executable and section.data is not None:
                vectors = family == "arm" and section.load_address == first
                code, data = _split(section, marks, symbols, begins_with_vectors=vectors)
                data_ranges += data
                for start, end in code:
                    decoded, unknown = _decode(section, start, end, family)
                    instructions += decoded
                    undecoded += unknown
    return Image(
        path=elf,
        family=family,
        entry=entry & ~1 if family == "arm" else entry,
        sections=sections,
        symbols=tuple(s for s in symbols if not s.name.startswith("$")),
        instructions=tuple(sorted(instructions, key=lambda i: i.address)),
        undecoded=tuple(sorted(undecoded)),
        data_ranges=tuple(sorted(data_ranges)),
    )


def _is_cold_part(name: str) -> bool:
    return name.endswith(".cold") or ".cold." in name


def _sections(parsed: ELFFile) -> list[Section]:
    found = []
    for raw in parsed.iter_sections():
        flags, address, size = raw["sh_flags"], int(raw["sh_addr"]), int(raw["sh_size"])
        if not flags & _SHF_ALLOC or size == 0:
            continue
        stored = raw["sh_type"] != "SHT_NOBITS"
        found.append(
            Section(
                name=raw.name,
                address=address,
                load_address=_load_address(parsed, raw),
                size=size,
                alignment=max(1, int(raw["sh_addralign"])),
                writable=bool(flags & _SHF_WRITE),
                executable=bool(flags & _SHF_EXECINSTR),
                data=raw.data() if stored else None,
            )
        )
    return found


def _load_address(parsed: ELFFile, raw: ElfSection) -> int:
    for segment in parsed.iter_segments("PT_LOAD"):
        if segment["p_vaddr"] <= raw["sh_addr"] < segment["p_vaddr"] + segment["p_memsz"]:
            return int(segment["p_paddr"] + raw["sh_addr"] - segment["p_vaddr"])
    return int(raw["sh_addr"])


def _symbols(parsed: ELFFile, family: Family) -> list[Symbol]:
    table = parsed.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        return []
    flags = {index: int(section["sh_flags"]) for index, section in enumerate(parsed.iter_sections())}
    kinds: dict[str, Literal["function", "object"]] = {"STT_FUNC": "function", "STT_OBJECT": "object"}
    found = []
    for raw in table.iter_symbols():
        index = raw["st_shndx"]
        if not raw.name or raw["st_info"]["type"] in ("STT_FILE", "STT_SECTION"):
            continue
        if isinstance(index, int) and not flags.get(index, 0) & _SHF_ALLOC:
            continue  # debug information: its addresses are offsets
        kind: Literal["function", "object", "label", "undefined"]
        if index == "SHN_UNDEF":
            kind = "undefined"
        else:
            kind = kinds.get(raw["st_info"]["type"], "label")
            if kind == "label" and not flags.get(index, 0) & _SHF_EXECINSTR:
                kind = "object"  # a linker script's name for an address
        address = int(raw["st_value"])
        if family == "arm" and kind == "function":
            address &= ~1
        found.append((raw["st_info"]["bind"] != "STB_GLOBAL", Symbol(raw.name, address, int(raw["st_size"]), kind)))
    return [symbol for _, symbol in sorted(found, key=lambda pair: pair[0])]


def _marks(symbols: tuple[Symbol, ...]) -> dict[int, bool]:
    """Address -> True where code begins, False where data begins."""
    marks: dict[int, bool] = {}
    for symbol in symbols:
        if symbol.name.startswith("$d"):
            marks[symbol.address] = False
    for symbol in symbols:
        # The name of a function settles the matter: a file without mapping symbols may follow one with them.
        if symbol.kind == "function" or symbol.name.startswith(("$t", "$x", "$a")):
            marks[symbol.address] = True
    return marks


def _split(
    section: Section, marks: dict[int, bool], symbols: tuple[Symbol, ...], *, begins_with_vectors: bool
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Cut an executable section into ranges of code and of data.

    begins_with_vectors: the section holds the vector table of a Cortex-M, which ends where the first function begins.
    """
    begin, end = section.address, section.address + section.size
    inside = {address: code for address, code in marks.items() if begin <= address < end}
    for symbol in symbols:
        if symbol.kind == "object" and symbol.size and begin <= symbol.address < end:
            inside[symbol.address] = False
            # After an object without mapping symbols comes code again, unless something else says so.
            inside.setdefault(symbol.address + symbol.size, True)
    for symbol in symbols:
        if symbol.kind == "function" and symbol.size and begin <= symbol.address < end:
            _skip_filler(section, symbol.address + symbol.size, inside)
    inside.setdefault(begin, not begins_with_vectors)
    cuts = sorted(address for address in inside if address < end)
    code: list[tuple[int, int]] = []
    data: list[tuple[int, int]] = []
    for start, stop in zip(cuts, [*cuts[1:], end], strict=True):
        (code if inside[start] else data).append((start, stop))
    return code, data


def _skip_filler(section: Section, address: int, inside: dict[int, bool]) -> None:
    """Mark what lld puts between Thumb functions to align them: 0xd4d4, which would decode as a branch."""
    assert section.data is not None
    start, position = address, address - section.address
    while address not in inside and section.data[position : position + 2] == _LLD_THUMB_FILLER:
        address, position = address + 2, position + 2
    if address > start:
        inside[start] = False
        inside.setdefault(address, True)


def _decode(section: Section, start: int, end: int, family: Family) -> tuple[list[Instruction], list[int]]:
    """Decode one range of code; returns the instructions and the addresses of what is none."""
    engine = _engine(family)
    assert section.data is not None
    base = section.address
    instructions: list[Instruction] = []
    undecoded: list[int] = []
    address = start
    while address < end:
        for raw in engine.disasm(section.data[address - base : end - base], address):
            instructions.append(_arm(engine, raw) if family == "arm" else _riscv(raw))
            address = raw.address + raw.size
        if address < end:
            undecoded.append(address)
            address += 2
    return instructions, undecoded


def _engine(family: Family) -> capstone.Cs:
    if family == "riscv":
        return capstone.Cs(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV32 | capstone.CS_MODE_RISCVC)
    engine = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    engine.detail = True
    return engine


def _arm(engine: capstone.Cs, raw: capstone.CsInsn) -> Instruction:
    return Instruction(
        address=raw.address,
        size=raw.size,
        operation=engine.insn_name(raw.id),
        text=f"{raw.mnemonic} {raw.op_str}".strip(),
        operands=_operands(raw.op_str),
        writes=tuple(engine.reg_name(register) for register in raw.regs_access()[1]),
        conditional=raw.cc not in (capstone.arm.ARM_CC_AL, capstone.arm.ARM_CC_INVALID),
    )


_RISCV_NO_RESULT = ("b", "s", "fence", "ecall", "ebreak", "mret", "wfi", "nop", "unimp", "j", "csrw", "csrs", "csrc")
_RISCV_RESULT = ("sub", "sll", "slt", "sra", "srl", "sltu", "seqz", "snez", "sgtz", "sltz", "sc.w")


def _riscv(raw: capstone.CsInsn) -> Instruction:
    operation = raw.mnemonic.removeprefix("c.")
    operands = _operands(raw.op_str)
    # The first operand is the result, except in stores, branches and plain writes to a control register.
    no_result = operation.startswith(_RISCV_NO_RESULT) and not operation.startswith(_RISCV_RESULT)
    return Instruction(
        address=raw.address,
        size=raw.size,
        operation=operation,
        text=f"{raw.mnemonic} {raw.op_str}".strip(),
        operands=operands,
        writes=() if no_result or not operands else operands[:1],
        conditional=False,
    )


def _operands(text: str) -> tuple[str, ...]:
    parts: list[str] = []
    depth = 0
    current = ""
    for letter in text:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += letter
    if current.strip():
        parts.append(current.strip())
    return tuple(parts)
