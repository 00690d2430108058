"""How templates see a requantization: literal shifts if all channels share them, else tables."""

from dataclasses import dataclass

from mcucompile.ir import Format
from mcucompile.numerics import Requantization, canonical_signed_digits


@dataclass(frozen=True, slots=True)
class RequantizeCode:
    """A requantization as C writes it.

    Attributes:
        digits: of each channel, n > 0 for + 2**(n-1), n < 0 for - 2**(-n-1), padded with 0.
        shifts: of each channel.
        offsets: of each channel, the rounding half included.
        is_uniform: one multiplier and one shift serve all channels: they become literals.
        clamps: the output can leave its format, so a clamp is needed.
    """

    digits: tuple[tuple[int, ...], ...]
    shifts: tuple[int, ...]
    offsets: tuple[int, ...]
    minimum: int
    maximum: int
    is_uniform: bool
    clamps: bool

    @property
    def digit_count(self) -> int:
        """Signed powers of two in a multiplier."""
        return len(self.digits[0])

    @property
    def table_bytes(self) -> int:
        """Bytes of flash the tables take."""
        per_channel = 0 if self.is_uniform else self.digit_count + 1
        offsets = 4 * len(self.offsets) if len(self.offsets) > 1 else 0
        return offsets + per_channel * len(self.digits)


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
    return RequantizeCode(
        digits=padded,
        shifts=shifts,
        offsets=tuple(int(v) for v in requantize.offset + requantize.half()),
        minimum=requantize.minimum,
        maximum=requantize.maximum,
        is_uniform=is_uniform,
        clamps=output.bits < 32 or (requantize.minimum, requantize.maximum) != (output.minimum, output.maximum),
    )
