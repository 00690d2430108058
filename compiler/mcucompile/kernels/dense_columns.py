"""Dense layer with power-of-two weights as code, by columns: one addition or subtraction for each weight.

x is loaded once for the outputs whose sums are in registers, and shifted in place from one exponent to the next.

Behind a ReLU, and in images, many x are 0: a comparison and a branch leave all of the column out. That is worth its
cost if the samples show enough zeros.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mcucompile.kernels.assembly import Assembly
from mcucompile.kernels.dense import Sums, sums_of
from mcucompile.kernels.dense_code import Block, DenseCode, Step, expected_zeros, factors
from mcucompile.kernels.kernel import Core, Layer
from mcucompile.numerics import Int, canonical_signed_digits

# Below this share of zeros among x, it takes longer to look for them.
_FEWEST_ZEROS = 0.1


@dataclass(frozen=True, slots=True)
class Column:
    """An input, and what the sums of a block do with it."""

    input: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class DenseColumns(DenseCode):
    """For weights that are powers of two, or signs.

    Attributes:
        high: how many more sums are in registers that Thumb can only add to.
        skips: whether the column of an x that is 0 is left out.
    """

    high: int
    skips: bool

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse weights that are no powers of two."""
        # A class with slots is made twice, and `super()` without arguments knows the first.
        reason = DenseCode.refusal(self, layer, core)
        if reason is None and self.skips and expected_zeros(layer) < _FEWEST_ZEROS:
            return "expects few zeros"
        magnitudes = np.abs(factors(sums_of(layer)))
        return reason or ("needs power-of-two weights" if (magnitudes & (magnitudes - 1)).any() else None)

    def blocks(self, sums: Sums) -> Iterator[Block]:
        """Yield the outputs of each group, a few at a time, in parts of nearly the same size."""
        values = factors(sums)
        n_out, n_in = values.shape
        of_group = n_out // sums.groups
        parts = math.ceil(of_group / (self.sums + self.high))
        for group in range(sums.groups):
            for part in np.array_split(np.arange(group * of_group, (group + 1) * of_group), parts):
                yield self._block(sums, int(part[0]), values[part], group * n_in)

    def _block(self, sums: Sums, first: int, weights: Int, start: int) -> Block:
        high, negated = places_of(weights, self.sums)
        signed = np.where(np.array(negated)[:, None], -weights, weights)
        columns = tuple(column for i in range(weights.shape[1]) if (column := column_of(start + i, signed[:, i])).steps)
        lines = tuple(self._lines(columns, high, sums))
        block = Block(first, len(weights), negated, high, columns, lines)
        if not self.skips:
            return block
        skipped = sum(sum(1 for _ in column_lines(self.assembly, column, high, set())) for column in columns)
        return replace(block, labels=len(columns), skipped=skipped)

    def _lines(self, columns: tuple[Column, ...], high: tuple[bool, ...], sums: Sums) -> Iterator[str]:
        assembly, format_ = self.assembly, sums.input
        place = 0
        unused = set(range(len(high)))
        if self.skips:
            yield from self._zeros(unused)
            unused = set()
        for column in columns:
            while column.input - place >= assembly.reach(format_):
                yield from assembly.move_pointer("x_0", assembly.reach(format_) * format_.item_bytes)
                place += assembly.reach(format_)
            yield from assembly.load("v", "x_0", column.input - place, format_)
            if self.skips:
                yield from assembly.skip_zero("v")
            yield from column_lines(assembly, column, high, unused)
            if self.skips:
                yield "1:"
        if not self.skips:
            yield from self._zeros(unused)

    def _zeros(self, sums: set[int]) -> Iterator[str]:
        """Yield sums = 0."""
        yield from self.assembly.zero("v")
        for k in sorted(sums):
            yield self.assembly.move(f"sum_{k}", "v")


def places_of(weights: Int, low: int) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """Return which sums are high and which negated: high are those that are nearly always added to.

    Args:
        weights: (sums, columns).
        low: how many sums are in registers that every instruction takes.
    """
    balance = np.sign(weights).sum(axis=1)
    chosen = set(np.argsort(-np.abs(balance), kind="stable")[: max(len(weights) - low, 0)].tolist())
    high = tuple(o in chosen for o in range(len(weights)))
    return high, tuple(is_high and int(b) < 0 for is_high, b in zip(high, balance, strict=True))


def column_lines(assembly: Assembly, column: Column, high: tuple[bool, ...], unused: set[int]) -> Iterator[str]:
    """Yield what a column does with x in register v.

    Args:
        high: of each sum, whether it is in a register that Thumb can only add to.
        unused: sums that hold nothing yet; those that now do are taken out.
    """
    negative = False
    shifted = 0
    for step in column.steps:
        if assembly.shifts_operands:
            shifted += step.shift
        elif step.shift:
            yield assembly.shift("v", step.shift)
        signs = dict.fromkeys(step.plus, False) | dict.fromkeys(step.minus, True)
        for k in [k for k in signs if not high[k]]:
            minus = signs[k] != negative
            if k in unused:
                yield from assembly.start(f"sum_{k}", "v", minus=minus, shift=shifted)
            else:
                yield assembly.add(f"sum_{k}", "v", minus=minus, shift=shifted)
        # A high register only adds: first those that need v as it is, then those that need it negated.
        for sign in (negative, not negative):
            of_sign = [k for k, minus in signs.items() if high[k] and minus == sign]
            if of_sign and sign != negative:
                yield assembly.negate("v")
                negative = sign
            for k in of_sign:
                yield assembly.move(f"sum_{k}", "v") if k in unused else assembly.add(f"sum_{k}", "v", high=True)
        unused.difference_update(signs)


def column_of(index: int, weights: Int) -> Column:
    """Return what sums 0, 1, ... do with an input: an addition or subtraction for each signed digit of a weight."""
    digits = [canonical_signed_digits(int(weight)) for weight in weights]
    steps = []
    shifted = 0
    for exponent in sorted({shift for each in digits for _, shift in each}):
        plus = tuple(o for o, each in enumerate(digits) if (1, exponent) in each)
        minus = tuple(o for o, each in enumerate(digits) if (-1, exponent) in each)
        steps.append(Step(exponent - shifted, plus, minus))
        shifted = exponent
    return Column(index, tuple(steps))


# Registers left for sums, low and high, and bytes of an instruction.
_CORES = (
    ("host", 8, 0, 4.0),
    ("rv32imac", 20, 0, 2.6),
    ("rv32ec", 8, 0, 2.6),
    ("cortex-m0", 5, 3, 2.0),
    ("cortex-m4", 8, 0, 4.0),
)


def _columns(name: str, *, skips: bool) -> tuple[DenseColumns, ...]:
    template = "kernels/dense_columns.c.j2"
    return tuple(
        DenseColumns(name, "dense", template, Assembly(core), sums, line_bytes, high, skips)
        for core, sums, high, line_bytes in _CORES
    )


DENSE_COLUMNS = _columns("column code", skips=False)
SKIPPING_COLUMNS = _columns("skipping column code", skips=True)
