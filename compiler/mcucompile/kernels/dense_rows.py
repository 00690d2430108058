"""Dense layer with few distinct weights as code, by rows: a load and an addition for each weight.

The inputs of one value are summed first. That sum is added wherever the value, in canonical signed digits, has a
digit, to a few partial sums that lie some bits apart; between them it is shifted in place. A value that is near
another one, or near a shifted one, can leave its sum to it: sum_a a + sum_b b = (a - b) sum_a + b (sum_a + sum_b),
and a - b may have fewer digits than a.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from mcucompile.kernels.assembly import Assembly
from mcucompile.kernels.dense import Sums
from mcucompile.kernels.dense_code import Block, DenseCode, Step, factors
from mcucompile.numerics import Int, canonical_signed_digits

_MAX_LINK_SHIFT = 4


@dataclass(frozen=True, slots=True)
class Level:
    """Inputs of one value, and the partial sums that they go to.

    Attributes:
        plus, minus: what is added and subtracted; the first is added unless `continues`.
        continues: the sum begins with that of the level before.
        steps: what is done with the sum.
        shift: how far it is shifted then, for the level that continues it.
    """

    plus: tuple[int, ...]
    minus: tuple[int, ...]
    continues: bool
    steps: tuple[Step, ...]
    shift: int


@dataclass(frozen=True, slots=True)
class Row:
    """The levels of an output; its partial sums are `spacing` bits apart."""

    levels: tuple[Level, ...]
    spacing: int


@dataclass(frozen=True, slots=True)
class Link:
    """A value that leaves its sum to another: value = rest + sign * following << shift."""

    value: int
    following: int
    shift: int
    sign: int
    rest: int
    gain: int


@dataclass(frozen=True, slots=True)
class DenseRows(DenseCode):
    """For few distinct weights.

    Attributes:
        pointers: how many it has registers for.
    """

    pointers: int

    def blocks(self, sums: Sums) -> Iterator[Block]:
        """Yield the code of each output."""
        values = factors(sums)
        n_out, n_in = values.shape
        reach = self.assembly.reach(sums.input)
        for output, row in enumerate(values):
            start = output // (n_out // sums.groups) * n_in
            magnitudes = [int(v) for v in np.unique(np.abs(row)) if v]
            top = max((canonical_signed_digits(v)[0][1] for v in magnitudes), default=0)
            spacing = math.ceil((top + 1) / self.sums)
            partials = top // spacing + 1
            code = Row(tuple(_levels(row, magnitudes, start, spacing)), spacing)
            needed = math.ceil(n_in / reach)
            bases = tuple(start + reach * i for i in range(min(needed, self.pointers)))
            lines = tuple(self._lines(code, partials, bases, sums))
            yield Block(output, partials, (False,) * partials, (False,) * partials, code, lines, bases)

    def _lines(self, row: Row, partials: int, bases: tuple[int, ...], sums: Sums) -> Iterator[str]:
        assembly = self.assembly
        if not row.levels:
            return
        unused = set(range(partials))
        for level in row.levels:
            if not level.continues:
                yield from self._load("v", level.plus[0], bases, sums)
            for i in level.plus[not level.continues :]:
                yield from self._load("t", i, bases, sums)
                yield assembly.add("v", "t")
            for i in level.minus:
                yield from self._load("t", i, bases, sums)
                yield assembly.add("v", "t", minus=True)
            yield from self._distributed(level, unused)
        for k in sorted(unused):
            yield from assembly.zero(f"sum_{k}")
        for k in range(partials - 1, 0, -1):
            if assembly.shifts_operands:
                yield assembly.add(f"sum_{k - 1}", f"sum_{k}", shift=row.spacing)
            else:
                yield assembly.shift(f"sum_{k}", row.spacing)
                yield assembly.add(f"sum_{k - 1}", f"sum_{k}")

    def _distributed(self, level: Level, unused: set[int]) -> Iterator[str]:
        """Yield what adds v to partial sums; those still unused begin with it."""
        assembly = self.assembly
        for step in level.steps:
            if step.shift:
                yield assembly.shift("v", step.shift)
            for minus, chosen in ((False, step.plus), (True, step.minus)):
                for k in chosen:
                    if k in unused:
                        yield from assembly.start(f"sum_{k}", "v", minus=minus)
                    else:
                        yield assembly.add(f"sum_{k}", "v", minus=minus)
                    unused.discard(k)
        if level.shift:
            yield assembly.shift("v", level.shift)

    def _load(self, target: str, index: int, bases: tuple[int, ...], sums: Sums) -> Iterator[str]:
        reach = self.assembly.reach(sums.input)
        nearest = min((index - bases[0]) // reach, len(bases) - 1)
        offset = index - bases[nearest]
        if offset < reach:
            yield from self.assembly.load(target, f"x_{nearest}", offset, sums.input)
        else:
            yield from self.assembly.load_far(target, f"x_{nearest}", offset, sums.input)


def _levels(row: Int, magnitudes: list[int], start: int, spacing: int) -> Iterator[Level]:
    """Yield the levels of an output, those that continue another behind it."""
    links = {link.value: link for link in _links(tuple(magnitudes), spacing)}
    followers = {link.following for link in links.values()}
    for head in (value for value in magnitudes if value not in followers):
        value, continues = head, False
        sign = 1 if (row == head).any() else -1
        while True:
            link = links.get(value)
            plus, minus = (tuple(int(i) + start for i in np.flatnonzero(row == s * value)) for s in (sign, -sign))
            steps, shifted = _steps(sign * (link.rest if link else value), spacing)
            yield Level(plus, minus, continues, steps, link.shift - shifted if link else 0)
            if link is None:
                break
            value, continues, sign = link.following, True, sign * link.sign


def _steps(value: int, spacing: int) -> tuple[tuple[Step, ...], int]:
    """Return how a sum times a value is added to the partial sums, and how far it is shifted then."""
    digits = canonical_signed_digits(value)
    steps = []
    shifted = 0
    for rest in sorted({bit % spacing for _, bit in digits}):
        partial = [(sign, bit // spacing) for sign, bit in digits if bit % spacing == rest]
        steps.append(Step(rest - shifted, tuple(p for s, p in partial if s > 0), tuple(p for s, p in partial if s < 0)))
        shifted = rest
    return tuple(steps), shifted


def _instructions(steps: tuple[Step, ...]) -> int:
    return sum((step.shift > 0) + len(step.plus) + len(step.minus) for step in steps)


@cache
def _links(values: tuple[int, ...], spacing: int) -> tuple[Link, ...]:
    """Choose the links that save most, the best first: each value leads to one other, and none back to itself."""
    last: dict[int, int] = {value: value for value in values}
    chosen: list[Link] = []
    for link in sorted(_possible_links(values, spacing), key=lambda link: -link.gain):
        leads = {link.value for link in chosen}
        follows = {link.following for link in chosen}
        if link.value in leads or link.following in follows or last[link.following] == link.value:
            continue
        chosen.append(link)
        # The end of the chain that a value is in.
        end = last[link.following]
        last = {value: end if of == link.value else of for value, of in last.items()}
    return tuple(chosen)


def _possible_links(values: tuple[int, ...], spacing: int) -> Iterator[Link]:
    """Yield every link that saves instructions; one addition more continues a sum instead of beginning one."""
    for value in values:
        alone = _instructions(_steps(value, spacing)[0])
        for following in values:
            for shift, sign in itertools.product(range(_MAX_LINK_SHIFT + 1), (1, -1)):
                rest = value - sign * (following << shift)
                steps, shifted = _steps(rest, spacing)
                gain = alone - _instructions(steps) - (shift > shifted) - 1
                if following != value and shifted <= shift and gain > 0 and abs(rest) <= max(values):
                    yield Link(value, following, shift, sign, rest, gain)


_NAME, _TEMPLATE = "row code", "kernels/dense_rows.c.j2"
# Registers left for partial sums and pointers, and bytes of an instruction.
DENSE_ROWS = tuple(
    DenseRows(_NAME, "dense", _TEMPLATE, Assembly(core), sums, line_bytes, pointers)
    for core, sums, pointers, line_bytes in (
        ("host", 8, 2, 4.0),
        ("rv32imac", 16, 4, 3.1),
        ("rv32ec", 7, 1, 3.1),
        ("cortex-m0", 4, 2, 2.0),
        ("cortex-m4", 8, 1, 3.0),
    )
)
