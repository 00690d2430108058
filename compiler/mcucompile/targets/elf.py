"""Facts about a built ELF: sizes, worst-case stack, and what it was promised not to hold."""

from dataclasses import dataclass
from pathlib import Path

from mcucompile.targets.binary.image import Image, Section, Symbol, read_image
from mcucompile.targets.binary.proofs import (
    Violation,
    find_floats,
    find_heap,
    find_multiplies,
    find_undecoded,
    require_none,
)
from mcucompile.targets.binary.stack import StackFrame, worst_case_stack

__all__ = ["ElfFacts", "StackFrame", "Symbol", "Violation", "inspect_elf", "prove"]


@dataclass(frozen=True, slots=True)
class ElfFacts:
    """What an ELF costs and holds.

    flash_bytes: everything that is stored in flash: code, constants and the initial values of `.data`.
    ram_bytes: `.data` and `.bss`, with the padding between them and without the stack.
    stack_bytes: worst case from the entry point, interrupts and faults included; None for the host.
    stack_path: the functions that reach it, outermost first; their bytes add up to stack_bytes.
    symbols: functions and objects with their sizes in bytes.
    multiplies, floats, heap, undecoded: violations, in address order; see `prove`.
    """

    flash_bytes: int
    ram_bytes: int
    stack_bytes: int | None
    stack_path: tuple[StackFrame, ...]
    symbols: tuple[Symbol, ...]
    multiplies: tuple[Violation, ...]
    floats: tuple[Violation, ...]
    heap: tuple[Violation, ...]
    undecoded: tuple[Violation, ...]


def inspect_elf(elf: Path, core: str) -> ElfFacts:
    """Read an ELF, compute its sizes and its worst-case stack, and look for violations.

    Args:
        elf: a linked firmware; for the core "host" a program or an object file. Of a host file only sizes and uses
            of the heap and of libm are looked at: the host's machine code is not what a user ships.
        core: the board's core: "rv32imac", "rv32ec", "cortex-m0", "cortex-m4" or "host".

    Raises:
        ProjectError: the file is no ELF or is built for another core.
        ProofError: it has no symbols, or its stack has no bound that can be computed; the function is named.
    """
    image = read_image(elf, core)
    flash_bytes, ram_bytes = _sizes(image)
    symbols = tuple(s for s in image.symbols if s.size and s.kind in ("function", "object"))
    if image.family == "host":
        return ElfFacts(flash_bytes, ram_bytes, None, (), symbols, (), find_floats(image), find_heap(image), ())
    floats = find_floats(image)
    stack = worst_case_stack(image, float_context=image.family == "arm" and bool(floats))
    return ElfFacts(
        flash_bytes=flash_bytes,
        ram_bytes=ram_bytes,
        stack_bytes=stack.bytes,
        stack_path=stack.path,
        symbols=symbols,
        multiplies=find_multiplies(image),
        floats=floats,
        heap=find_heap(image),
        undecoded=find_undecoded(image),
    )


def prove(facts: ElfFacts, elf: Path, *, no_multiply: bool) -> None:
    """Return when the firmware keeps its promises.

    No floating point and no heap is always promised; no multiplication when `no_multiply` is set.

    Raises:
        ProofError: it does not; the error names each function and what it holds.
    """
    require_none(
        facts.undecoded,
        elf,
        "code that can be read completely",
        "keep constants out of the code: mark them with .type @object or put them into .rodata",
    )
    require_none(facts.floats, elf, "no floating point", "write that function in integers")
    require_none(facts.heap, elf, "no heap", "use a static buffer in that function")
    if no_multiply:
        require_none(
            facts.multiplies,
            elf,
            "no multiplication or division",
            "use shifts and additions in that function, or compile without --no-multiply",
        )


def _sizes(image: Image) -> tuple[int, int]:
    stored = [(s.load_address, s) for s in image.sections if s.data is not None]
    in_ram = [(s.address, s) for s in image.sections if s.writable and "stack" not in s.name]
    return _occupied(stored), _occupied(in_ram)


def _occupied(placed: list[tuple[int, Section]]) -> int:
    """Bytes of the sections and of the padding that a section's alignment puts before it."""
    total = 0
    end: int | None = None
    for address, section in sorted(placed, key=lambda pair: pair[0]):
        if end is not None and 0 <= address - end < section.alignment:
            total += address - end
        total += section.size
        end = address + section.size
    return total
