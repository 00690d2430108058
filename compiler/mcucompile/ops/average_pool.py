"""Mean of the values under each window of an image (n, h, w, c)."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.ir import Array, Format, Op, RowAccess, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp
from mcucompile.numerics import Int, Real, Requantization, short_multipliers
from mcucompile.ops.linear import fitted_format
from mcucompile.ops.max_pool import pooled_shape
from mcucompile.ops.window import Window

Counts = tuple[tuple[int, ...], tuple[int, ...]]
# Where windows divide by different counts one output scale cannot fit them all: with more signed digits a
# multiplier is at most 0.4 % off.
_TERMS = 4
_WIDTH = 8


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AveragePool(RealOp):
    """x: (n, h, w, c) -> y: (n, rows, columns, c), real: y = sum of the window / (its row count * column count).

    Attributes:
        window: geometry; padding takes part as 0.
        counts: the factors of the divisor, for each row and for each column of y: with count_include_pad
            the taps in the padded image, without it those in the image.
    """

    kind: ClassVar[str] = "average_pool"
    takes_format: ClassVar[bool] = True
    window: Window
    counts: Counts

    def output_shape(self, *shapes: Shape) -> Shape:
        """(n, rows, columns, c)."""
        return _checked(self, shapes[0], self.window, self.counts)

    def run(self, *inputs: Array) -> Array:
        """Compute in float64, return float32."""
        x = inputs[0].astype(np.float64)
        y = _sums(x, self.window, (len(self.counts[0]), len(self.counts[1])), 0)
        rows, columns = (np.array(counts) for counts in self.counts)
        return np.asarray(y / rows[:, None, None] / columns[:, None], dtype=np.float32)

    def lower(self, lowering: Lowering) -> Lowered:
        """Choose an output scale for which the most frequent divisor has an exact multiplier."""
        source = lowering.formats[0]
        divisors, kinds = np.unique(np.multiply.outer(*self.counts), return_inverse=True)
        frequent = float(divisors[np.argmax(np.bincount(kinds.reshape(-1)))])
        format_ = fitted_format(lowering, source.scale / frequent, signed=source.minimum < source.zero_point)
        rows, columns = (tuple(sorted(set(counts))) for counts in self.counts)
        products: Real = np.multiply.outer(rows, columns).reshape(-1).astype(np.float64)
        terms, width = (lowering.terms, 4) if len(set(products)) == 1 else (max(lowering.terms, _TERMS), _WIDTH)
        reach = np.full(len(products), self.window.taps)
        requantize = lowering.requantize_to(
            format_,
            gain=source.scale / (products * format_.scale),
            bias=np.zeros(len(products)),
            bounds=(reach * (source.minimum - source.zero_point), reach * (source.maximum - source.zero_point)),
            multipliers=short_multipliers(terms, width),
            is_narrow=len(products) > 1,
        )
        op = IntegerAveragePool(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            window=self.window,
            requantize=requantize,
            rows=tuple(rows.index(count) for count in self.counts[0]),
            columns=tuple(columns.index(count) for count in self.counts[1]),
            zero_point=source.zero_point,
        )
        return Lowered(op, format_)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerAveragePool(Op):
    """y = requantize(sum of (x - zero_point) over the taps in the image): one rounding, ties up.

    Attributes:
        window: as of AveragePool.
        requantize: one multiplier for each pair of a row's and a column's divisor, row-major.
        rows, columns: which of the divisors each row and each column of y has.
        zero_point: of x.
    """

    kind: ClassVar[str] = "average_pool"
    window: Window
    requantize: Requantization
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    zero_point: int

    @property
    def divisors(self) -> Int:
        """The pair of divisors of each output: (rows, columns) indices into `requantize`."""
        return np.asarray(np.add.outer(np.array(self.rows) * (max(self.columns) + 1), self.columns), dtype=np.int64)

    def output_shape(self, *shapes: Shape) -> Shape:
        """(n, rows, columns, c)."""
        return _checked(self, shapes[0], self.window, (self.rows, self.columns))

    def row_access(self, *shapes: Shape) -> RowAccess | None:
        """One image: a window's rows; windows that follow each other can be summed up row by row."""
        if shapes[0][0] != 1:
            return None
        access = self.window.row_access(self, shapes[0][1], shapes[0][2])
        follows = access.stride == access.reach + 1 and access.before == 0 and self.window.dilations[0] == 1
        inside = access.rows * access.stride <= access.input_rows and not any((*self.window.before, *self.window.after))
        if not (follows and inside and access.stride > 1 and len(self.requantize.shift) == 1):
            return access
        return replace(access, state_bytes=4 * len(self.columns) * shapes[0][3])

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        acc = _sums(inputs[0].astype(np.int64) - self.zero_point, self.window, (len(self.rows), len(self.columns)), 0)
        divisors = self.divisors
        spread = replace(
            self.requantize,
            multiplier=self.requantize.multiplier[divisors],
            offset=self.requantize.offset[divisors],
            shift=self.requantize.shift[divisors],
        )
        return np.moveaxis(spread.apply(np.moveaxis(acc, -1, 0)), 0, -1)

    def accumulator_bounds(self, *formats: Format) -> tuple[Int, Int]:
        """Return the smallest and largest accumulator for any input, the same for every divisor."""
        ends = np.ones(len(self.requantize.shift), dtype=np.int64) * self.window.taps
        return ends * (formats[0].minimum - self.zero_point), ends * (formats[0].maximum - self.zero_point)


def _sums(x: Array, window: Window, outputs: tuple[int, int], fill: int) -> Array:
    taps = window.taps_of(x.reshape(-1, *x.shape[2:]), outputs, fill)
    y = next(taps).copy()
    for tap in taps:
        y += tap
    return y.reshape(*x.shape[:2], *outputs, x.shape[-1])


def _checked(op: Op, shape: Shape, window: Window, counts: tuple[tuple[int, ...], tuple[int, ...]]) -> Shape:
    pooled = pooled_shape(op, shape, window)
    if pooled[1:3] != (len(counts[0]), len(counts[1])):
        raise ModelError(op.source, f"has {pooled[1:3]} windows, not the declared number", "re-export the model")
    return pooled
