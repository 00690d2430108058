"""Tokens of runtime_c/mcu_lanes.h: sums of table rows, with signs and powers of two, in registers.

A negative sign is the words negated before and after the rows are added, so that rows are only ever added.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mcucompile.numerics import Int

_ROWS = 8
_SLOT = 8
_DOUBLE, _NEGATE, STORE, ADD, SKIP, STORE_END, ADD_END = range(_SLOT * _ROWS, _SLOT * (_ROWS + 7), _SLOT)


@dataclass(frozen=True, slots=True)
class StreamCount:
    """What the tokens of sums do, without their ends.

    Attributes:
        rows: that are added.
        eights, rests: jumps to eight of them, and to fewer.
        doubles, negates: of all words.
    """

    rows: int
    eights: int
    rests: int
    doubles: int
    negates: int

    @property
    def tokens(self) -> int:
        """How many there are."""
        return self.rows + self.eights + self.rests + self.doubles + self.negates


def sum_tokens(shifts: Sequence[int], plus: Sequence[Int], minus: Sequence[Int]) -> Iterator[int]:
    """Yield the tokens of a sum: for each step, sum = (sum << shift) + rows `plus` - rows `minus`.

    Args:
        shifts: of each step.
        plus, minus: of each step, where rows begin, in bytes.
    """
    counts = (np.array([[len(rows)] for rows in of_steps]) for of_steps in (plus, minus))
    negative = bool(_best_start(*counts)[0])
    started = False
    for shift, *signed in zip(shifts, plus, minus, strict=True):
        if started:
            yield from [_DOUBLE] * shift
        first = signed[negative]
        yield from _row_tokens(first)
        if len(signed[not negative]):
            if started or len(first):
                yield _NEGATE
            negative = not negative
            yield from _row_tokens(signed[negative])
        started = started or len(signed[0]) + len(signed[1]) > 0
    if negative and started:
        yield _NEGATE


def count_sums(shifts: Sequence[int], plus: Int, minus: Int) -> StreamCount:
    """Return what the tokens of many sums do together. plus, minus: (steps, sums) how many rows there are."""
    started = np.cumsum(plus + minus, axis=0) > 0
    return StreamCount(
        int((plus + minus).sum()),
        int((plus // _ROWS + minus // _ROWS).sum()),
        int(np.count_nonzero(plus % _ROWS) + np.count_nonzero(minus % _ROWS)),
        int((started[:-1] * np.array(shifts[1:], dtype=np.int64)[:, None]).sum()),
        int(np.minimum(_negations(plus, minus, start=False), _negations(plus, minus, start=True)).sum()),
    )


def _best_start(plus: Int, minus: Int) -> Int:
    """Return for each sum whether it is made with the opposite sign at first. plus, minus: (steps, sums)."""
    return np.asarray(_negations(plus, minus, start=True) < _negations(plus, minus, start=False))


def _negations(plus: Int, minus: Int, *, start: bool) -> Int:
    """Return how often each sum is negated that begins with the opposite sign, or with its own. (steps, sums) each."""
    negative = np.full(plus.shape[1], start)
    started = np.zeros(plus.shape[1], dtype=np.bool_)
    count = np.zeros(plus.shape[1], dtype=np.int64)
    for of_plus, of_minus in zip(plus > 0, minus > 0, strict=True):
        first, second = np.where(negative, of_minus, of_plus), np.where(negative, of_plus, of_minus)
        count += second & (started | first)
        negative ^= second
        started |= first | second
    return np.asarray(count + (negative & started))


def _row_tokens(places: Int) -> Iterator[int]:
    rest = len(places) % _ROWS
    if rest:
        yield _SLOT * rest
        yield from map(int, places[:rest])
    for first in range(rest, len(places), _ROWS):
        yield 0
        yield from map(int, places[first : first + _ROWS])
