"""Chooses which layers run row by row, for a board whose RAM cannot hold whole tensors."""

from collections.abc import Iterator, Sequence
from functools import cache

from mcucompile.ir import Graph
from mcucompile.plan.memory import arena_bound
from mcucompile.plan.stream import Stream, can_stream, plan_stream

_Runs = tuple[tuple[int, int], ...]


def choose_streams(graph: Graph) -> tuple[Stream, ...]:
    """Return the streams with the smallest arena that splitting and shortening the longest possible ones finds."""

    @cache
    def stream(first: int, last: int) -> Stream | None:
        return plan_stream(graph, first, last)

    def streams(runs: _Runs) -> tuple[Stream, ...]:
        return tuple(found for found in (stream(first, last) for first, last in runs) if found is not None)

    best = _longest(graph)
    size = arena_bound(graph, streams(best))
    while True:
        sized = [(arena_bound(graph, streams(runs)), runs) for runs in _changed(best)]
        smallest, runs = min(sized, default=(size, best))
        if smallest >= size:
            return streams(best)
        best, size = runs, smallest


def _longest(graph: Graph) -> _Runs:
    """Return the longest runs of at least two layers that can run row by row, from the front."""
    runs = []
    first, count = 0, len(graph.layers)
    while first < count:
        last = first
        while last < count and can_stream(graph, first, last):
            last += 1
        if last - first > 1:
            runs.append((first, last - 1))
        first = max(last, first + 1)
    return tuple(runs)


def _changed(runs: Sequence[tuple[int, int]]) -> Iterator[_Runs]:
    """Yield the runs with one of them split in two, or without its first or last layer, or left out."""
    for i, (first, last) in enumerate(runs):
        before, after = tuple(runs[:i]), tuple(runs[i + 1 :])
        yield (*before, *after)
        for cut in range(first, last):
            parts = tuple((a, b) for a, b in ((first, cut), (cut + 1, last)) if b > a)
            yield (*before, *parts, *after)
