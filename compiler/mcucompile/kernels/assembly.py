"""The few instructions that weights become, as each core spells them.

Straight-line code for a core's number of registers cannot be had from compilers: they reorder it, share parts of
it, and then have too few registers. Operands are names of an assembler statement's, written %[name].
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mcucompile.ir import Format

_ARM = "cortex-m"


@dataclass(frozen=True, slots=True)
class Assembly:
    """Spells instructions for a core.

    Attributes:
        core: as a board file names it.
    """

    core: str

    @property
    def is_arm(self) -> bool:
        """Whether the core is an Arm."""
        return self.core.startswith(_ARM)

    @property
    def guard(self) -> str:
        """The C condition under which the instructions can be used."""
        return {
            "cortex-m0": "defined(__ARM_ARCH_6M__)",
            "cortex-m4": "defined(__ARM_ARCH_7EM__)",
        }.get(self.core, "defined(__riscv)")

    @property
    def low(self) -> str:
        """The constraint of a register that every instruction takes; the others of Thumb are "h"."""
        return "l" if self.core == "cortex-m0" else "r"

    @property
    def shifts_operands(self) -> bool:
        """Whether an addition can shift what it adds."""
        return self.core == "cortex-m4"

    def reach(self, format_: Format) -> int:
        """Return how many elements a load can see from a pointer."""
        return {"cortex-m0": 32, "cortex-m4": 2048 if format_.bits > 8 else 4096}.get(
            self.core, 2048 // format_.item_bytes
        )

    def load(self, target: str, pointer: str, index: int, format_: Format) -> tuple[str, ...]:
        """Return target = pointer[index], index below `reach`."""
        offset = index * format_.item_bytes
        is_wide, is_signed = format_.bits > 8, format_.signed
        if not self.is_arm:
            return (f"{'lh' if is_wide else 'lb'}{'' if is_signed else 'u'} %[{target}], {offset}(%[{pointer}])",)
        width = "h" if is_wide else "b"
        if self.core == "cortex-m0" and is_signed:
            # Its loads with a sign have no offset.
            return (f"ldr{width} %[{target}], [%[{pointer}], #{offset}]", f"sxt{width} %[{target}], %[{target}]")
        return (f"ldr{'s' if is_signed else ''}{width} %[{target}], [%[{pointer}], #{offset}]",)

    @property
    def word_reach(self) -> int:
        """How many words a load of one can see from a pointer; on the smallest cores, a load of two bytes."""
        return {"cortex-m0": 32, "cortex-m4": 1024, "rv32ec": 32}.get(self.core, 512)

    def load_word(self, target: str, pointer: str, index: int) -> str:
        """Return target = word `index` behind a pointer, index below `word_reach`."""
        if self.is_arm:
            return f"ldr %[{target}], [%[{pointer}], #{4 * index}]"
        return f"lw %[{target}], {4 * index}(%[{pointer}])"

    def load_far(self, target: str, pointer: str, index: int, format_: Format) -> tuple[str, ...]:
        """Return target = pointer[index], index beyond `reach`."""
        offset = index * format_.item_bytes
        kind = f"{'s' if format_.signed else ''}{'h' if format_.bits > 8 else 'b'}"
        if self.core == "cortex-m0" and offset < 256:
            return (f"movs %[{target}], #{offset}", f"ldr{kind} %[{target}], [%[{pointer}], %[{target}]]")
        if self.core == "cortex-m0":
            return (
                f"movs %[{target}], #{offset >> 8}",
                f"lsls %[{target}], %[{target}], #8",
                f"adds %[{target}], #{offset & 255}",
                f"ldr{kind} %[{target}], [%[{pointer}], %[{target}]]",
            )
        if self.is_arm:
            return (f"movw %[{target}], #{offset}", f"ldr{kind} %[{target}], [%[{pointer}], %[{target}]]")
        upper = (offset + 2048) >> 12
        name = f"l{'h' if format_.bits > 8 else 'b'}{'' if format_.signed else 'u'}"
        return (
            f"lui %[{target}], {upper}",
            f"add %[{target}], %[{target}], %[{pointer}]",
            f"{name} %[{target}], {offset - (upper << 12)}(%[{target}])",
        )

    def move_pointer(self, pointer: str, step: int) -> tuple[str, ...]:
        """Return pointer += step, in bytes, at most as far as a load sees."""
        if self.core == "cortex-m0":
            return (f"adds %[{pointer}], #{step}",)
        largest = 2044
        name = "add.w" if self.is_arm else "addi"
        steps = [min(largest, step - done) for done in range(0, step, largest)]
        return tuple(f"{name} %[{pointer}], %[{pointer}], {'#' if self.is_arm else ''}{n}" for n in steps)

    def add(self, target: str, source: str, *, minus: bool = False, high: bool = False, shift: int = 0) -> str:
        """Return target += or -= source; high: a register that Thumb can only add to; shift: of the source."""
        name = "sub" if minus else "add"
        if high:
            return f"add %[{target}], %[{source}]"
        shifted = f", lsl #{shift}" if shift else ""
        if self.core == "cortex-m0":
            name += "s"
        return f"{name} %[{target}], %[{target}], %[{source}]{shifted}"

    def move(self, target: str, source: str) -> str:
        """Return target = source."""
        return f"{'mov' if self.is_arm else 'mv'} %[{target}], %[{source}]"

    def shift(self, target: str, bits: int) -> str:
        """Return target <<= bits."""
        if self.is_arm:
            return f"lsls %[{target}], %[{target}], #{bits}"
        return f"slli %[{target}], %[{target}], {bits}"

    def start(self, target: str, source: str, *, minus: bool, shift: int = 0) -> Iterator[str]:
        """Yield target = source or -source; shift: of the source, where `shifts_operands`."""
        if minus:
            yield f"rsbs %[{target}], %[{source}], #0" if self.is_arm else f"neg %[{target}], %[{source}]"
        elif not shift:
            yield self.move(target, source)
        if shift:
            yield f"lsls %[{target}], %[{target if minus else source}], #{shift}"

    def negate(self, target: str) -> str:
        """Return target = -target."""
        return next(self.start(target, target, minus=True))

    def zero(self, target: str) -> tuple[str, ...]:
        """Return target = 0."""
        return (f"movs %[{target}], #0",) if self.is_arm else (f"li %[{target}], 0",)

    def skip_zero(self, source: str) -> tuple[str, ...]:
        """Jump to the next label 1 if source is 0."""
        return (f"cmp %[{source}], #0", "beq 1f") if self.is_arm else (f"beqz %[{source}], 1f",)
