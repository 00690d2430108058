"""How templates see a requantization: literal shifts if all channels share them, else tables."""

from dataclasses import dataclass

from mcucompile.ir import Format
from mcucompile.kernels.kernel import Core
from mcucompile.numerics import Requantization, canonical_signed_digits

_WORD = 32
# Instructions that rounding as float32 does takes: about five for each bit of a sum beyond 24, and thirty.
_FLOAT32_ROUNDING = 130
# Instructions of a requantization by literals and by tables, two digits in each, and of the loop around it.
_PER_ACCUMULATOR = {"rv32imac": (16, 29), "rv32ec": (20, 38), "cortex-m0": (24, 42), "cortex-m4": (15, 29)}


@dataclass(frozen=True, slots=True)
class RequantizeCode:
    """A requantization as C writes it.

    Attributes:
        digits: of each channel, n > 0 for + 2**(n-1), n < 0 for - 2**(-n-1), padded with 0.
        shifts: of each channel.
        offsets: of each channel, the rounding half included unless ties go to even codes.
        is_uniform: one multiplier and one shift serve all channels: they become literals.
        clamps: the output can leave its format, so a clamp is needed.
        is_wide: products are made in two words; `offsets` have 64 bits.
        tie_window, even, zero_point: as of Requantization.
    """

    digits: tuple[tuple[int, ...], ...]
    shifts: tuple[int, ...]
    offsets: tuple[int, ...]
    minimum: int
    maximum: int
    is_uniform: bool
    clamps: bool
    is_wide: bool = False
    tie_window: int = 0
    even: int = 0
    zero_point: int | None = None

    @property
    def digit_count(self) -> int:
        """Signed powers of two in a multiplier."""
        return len(self.digits[0])

    @property
    def table_bytes(self) -> int:
        """Bytes of flash the tables take."""
        per_channel = 0 if self.is_uniform else self.digit_count + 1
        offsets = (8 if self.is_wide else 4) * len(self.offsets) if len(self.offsets) > 1 else 0
        return offsets + per_channel * len(self.digits)

    @property
    def digit_shift(self) -> int:
        """How far to shift an index to find digits that take a power of two of bytes, 4 or more."""
        return max((self.digit_count - 1).bit_length(), 2)

    @property
    def padded_digits(self) -> tuple[int, ...]:
        """All digits, each channel's padded to 2**digit_shift."""
        width = 1 << self.digit_shift
        return sum((digits + (0,) * (width - len(digits)) for digits in self.digits), start=())

    @property
    def even_exponents(self) -> tuple[tuple[int, ...], ...]:
        """Exponents of each channel's first digit, of its second, ...; each channel has as many, none of them 0."""
        return tuple(tuple(abs(d) - 1 for d in column) for column in zip(*self._even_digits(), strict=True))

    @property
    def even_signs(self) -> tuple[tuple[int, ...], ...]:
        """Signs of the same: 0 to add and -1 to subtract."""
        return tuple(tuple(-(d < 0) for d in column) for column in zip(*self._even_digits(), strict=True))

    def _even_digits(self) -> tuple[tuple[int, ...], ...]:
        return tuple(_lengthened([d for d in digits if d], self.digit_count) for digits in self.digits)

    @property
    def instructions(self) -> int:
        """Instructions for one accumulator: a wide digit takes six in place and twelve from a table."""
        rounding = 12 if self.zero_point is None else 12 + _FLOAT32_ROUNDING
        return rounding + self.is_wide * self.digit_count * (6 if self.is_uniform else 12)

    def instructions_on(self, core: Core) -> int:
        """Instructions for one accumulator in a loop of a core."""
        uniform, table = core.pick(_PER_ACCUMULATOR)
        rounding = 0 if self.zero_point is None else _FLOAT32_ROUNDING
        wide = self.is_wide * self.digit_count * (6 if self.is_uniform else 12)
        return (uniform if self.is_uniform else table) + rounding + wide

    def literal_instructions_on(self, core: str) -> int:
        """Instructions for one accumulator, every number a literal: an offset, a shift, a clamp and a store."""
        digits = sum(1 for digit in self.digits[0] if digit)
        beside = {"cortex-m4": 0, "cortex-m0": 9}.get(core, 8)
        return 12 + self.is_wide * digits * 6 if self.is_wide else beside + 2 * digits

    @property
    def high_words(self) -> tuple[int, ...]:
        """Upper halves of wide offsets, signed."""
        return tuple(offset >> _WORD for offset in self.offsets)

    @property
    def low_words(self) -> tuple[int, ...]:
        """Lower halves of wide offsets, unsigned."""
        return tuple(offset & ((1 << _WORD) - 1) for offset in self.offsets)


def _lengthened(digits: list[int], count: int) -> tuple[int, ...]:
    """Return the same number in more digits: a power of two is twice it less itself."""
    while len(digits) < count:
        last = digits.pop()
        digits += [last + (1 if last > 0 else -1), -last]
    return tuple(digits)


def signed_digits(multiplier: int) -> tuple[int, ...]:
    """Return a multiplier as C sees it: n for + 2**(n-1), -n for - 2**(n-1), highest first."""
    return tuple(sign * (shift + 1) for sign, shift in canonical_signed_digits(multiplier))


def requantize_code(requantize: Requantization, output: Format) -> RequantizeCode:
    """Translate a requantization for the templates."""
    digits = [signed_digits(int(m)) for m in requantize.multiplier]
    width = max(map(len, digits))
    padded = tuple(digit + (0,) * (width - len(digit)) for digit in digits)
    shifts = tuple(int(s) for s in requantize.shift)
    is_uniform = len(set(padded)) == 1 and len(set(shifts)) == 1
    has_ties = requantize.tie_window > 0 or requantize.zero_point is not None
    return RequantizeCode(
        digits=padded,
        shifts=shifts,
        offsets=tuple(int(v) for v in requantize.offset + (0 if has_ties else requantize.half())),
        minimum=requantize.minimum,
        maximum=requantize.maximum,
        is_uniform=is_uniform,
        clamps=output.bits < 32 or (requantize.minimum, requantize.maximum) != (output.minimum, output.maximum),
        is_wide=requantize.is_wide,
        tie_window=requantize.tie_window,
        even=requantize.even,
        zero_point=requantize.zero_point,
    )
