"""Any function of one activation: a table of all codes, or of points of it with straight lines between them.

Some functions can be computed by CORDIC instead, if the user wants that.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.errors import QuantizationError
from mcucompile.ir import Array, Format, Op, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp, largest
from mcucompile.numerics import Int, Real
from mcucompile.ops.cordic_function import lower_by_cordic
from mcucompile.ops.formula import Formula, evaluate

# A result's table entries are stored in 16 bits.
_RESULT_STEPS = (1 << 15) - 1
# The largest value leaves room for the point after it, where a straight line ends.
_SCALED_STEPS = 32_000
# Straight lines between this many points plus one; the fewest whose error stays below one output code.
_SEGMENT_BITS = (5, 6, 7, 8, 9, 10)
# Fraction bits of a table entry where the output has 8 bits: one more and an unsigned entry would not fit 16 bits.
_EXTRA_BITS = 7


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Lookup(RealOp):
    """y = formula(x), element by element, real."""

    kind: ClassVar[str] = "lookup"
    takes_format: ClassVar[bool] = True
    formula: Formula

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return shapes[0]

    def run(self, *inputs: Array) -> Array:
        """Compute in float64, return float32."""
        with np.errstate(over="ignore"):
            return np.asarray(evaluate(self.formula, inputs[0]), dtype=np.float32)

    def permuted(self, _permutation: tuple[int, ...]) -> "Lookup":
        """The same operator."""
        return self

    def lower(self, lowering: Lowering) -> Lowered:
        """Tabulate the function of every 8-bit code; of a 16-bit code, enough points of it. Or take CORDIC."""
        source = lowering.formats[0]
        if source.bits > 16:
            raise QuantizationError(self.source, f"its input is {source}", "give it an 8-bit or 16-bit activation")
        computed = lower_by_cordic(self, self.formula, lowering) if lowering.by_cordic else None
        if computed is not None:
            return computed
        codes = np.arange(source.minimum, source.maximum + 1)
        exact = evaluate(self.formula, source.dequantize(codes))
        format_ = _output_format(lowering, exact)
        if source.bits == 8:
            table: Op = IntegerLookup(
                name=self.name,
                inputs=self.inputs,
                output=self.output,
                source=self.source,
                table=_entries(exact, format_, 0) if lowering.given is None else _given_entries(exact, format_),
                first=source.minimum,
            )
            return Lowered(table, format_)
        return Lowered(self._interpolated(exact, source, format_), format_)

    def _interpolated(self, exact: Real, source: Format, format_: Format) -> "IntegerInterpolation":
        """Return the table with the fewest points that is nowhere more than one code off, or the largest one."""
        extra = _EXTRA_BITS if format_.bits == 8 else 0
        low, high = _limits(format_)
        codes = np.arange(source.minimum, source.maximum + 1)
        wanted = np.clip(_finite(exact, format_) / format_.scale + format_.zero_point, low, high)
        for bits in _SEGMENT_BITS:
            shift = source.bits - bits
            # The last point lies one code beyond the last one, where the function may not be defined.
            ends = source.scale * (
                np.arange(0, (1 << source.bits) + 1, 1 << shift) + source.minimum - source.zero_point
            )
            op = IntegerInterpolation(
                name=self.name,
                inputs=self.inputs,
                output=self.output,
                source=self.source,
                table=_entries(evaluate(self.formula, ends), format_, extra),
                first=source.minimum,
                shift=shift,
                extra=extra,
            )
            if np.abs(op.run(codes) - wanted).max() <= 1:
                break
        return op


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerLookup(Op):
    """y = table[x - first].

    Attributes:
        table: (256,) output codes.
        first: the smallest code of x.
    """

    kind: ClassVar[str] = "lookup"
    is_elementwise: ClassVar[bool] = True
    table: Int
    first: int

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return shapes[0]

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        return np.asarray(self.table[inputs[0].astype(np.int64) - self.first])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerInterpolation(Op):
    """y = (t[i] * 2**shift + (t[i + 1] - t[i]) * f + half) >> (shift + extra), i and f the bits of x - first.

    Attributes:
        table: (segments + 1,) output codes with `extra` fraction bits, 16 bits each.
        first: the smallest code of x.
        shift: bits of f; the other bits of the 16 are i.
        extra: fraction bits of the entries.
    """

    kind: ClassVar[str] = "interpolation"
    is_elementwise: ClassVar[bool] = True
    table: Int
    first: int
    shift: int
    extra: int

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return shapes[0]

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes; between two entries that fit the output, no clamp is needed."""
        x = inputs[0].astype(np.int64) - self.first
        i, f = x >> self.shift, x & ((1 << self.shift) - 1)
        low = self.table[i]
        total = self.shift + self.extra
        scaled = (low << self.shift) + (self.table[i + 1] - low) * f + (1 << total >> 1)
        return np.asarray(scaled >> total, dtype=np.int64)


def _output_format(lowering: Lowering, exact: Real) -> Format:
    if lowering.given is not None or not lowering.is_result:
        return lowering.free_format()
    finite = exact[np.isfinite(exact)]
    # All codes are in the table, those too that no sample had, but they shall not cost the others their steps.
    peak = min(largest(finite), 2 * largest(lowering.output))
    return Format(32, True, peak / _SCALED_STEPS)


def _limits(format_: Format) -> tuple[int, int]:
    return (-_RESULT_STEPS, _RESULT_STEPS) if format_.bits == 32 else (format_.minimum, format_.maximum)


def _finite(values: Real, format_: Format) -> Real:
    """Return values with NaN as 0 and infinities as large numbers."""
    return np.nan_to_num(values, nan=0.0, posinf=format_.scale * 2.0**40, neginf=-format_.scale * 2.0**40)


def _given_entries(values: Real, format_: Format) -> Int:
    """Return the entries as runtimes of quantized models round them: in float32, ties to even."""
    codes = np.rint(_finite(values, format_).astype(np.float32) / np.float32(format_.scale)) + format_.zero_point
    return np.asarray(np.clip(codes, *_limits(format_)), dtype=np.int64)


def _entries(values: Real, format_: Format, extra: int) -> Int:
    low, high = _limits(format_)
    codes = _finite(values, format_) / format_.scale + format_.zero_point
    return np.asarray(np.floor(np.clip(codes, low, high) * (1 << extra) + 0.5), dtype=np.int64)
