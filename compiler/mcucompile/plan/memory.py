"""Places intermediate tensors in one arena, so that no byte is overwritten before its last reader has read it.

Two tensors alive at the same time lie apart, with one exception: a layer that goes through its input in order
may write its output over the part that it has read. How far below its input an output must begin follows
from the operator alone (`Op.row_access`); the code of the layer is the same.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from mcucompile.ir import Graph, Op
from mcucompile.plan.stream import Ring, Stream

_ALIGNMENT = 4
# Orders of placement that are tried: as many as this many steps allow, at most _MAX_TRIALS.
_STEPS, _MAX_TRIALS = 400_000, 300


@dataclass(frozen=True, slots=True)
class Buffer:
    """The bytes that a tensor, and every view of it, live in.

    Attributes:
        offset: in the arena, a multiple of 4.
        size: bytes; of a tensor that is never whole, its ring of rows.
        first, last: indices of the layers that write it and read it last.
    """

    offset: int
    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Arena:
    """The plan of the arena.

    Attributes:
        bytes: its size.
        lower_bound: no plan can be smaller: the most bytes needed while one layer runs.
        buffers: by name of the tensor that owns the bytes; the input and the result are the caller's.
        owner: tensor -> the tensor whose bytes it shares: itself, unless it is a view or lies in another's ring.
        streams: layers that run row by row.
        peak: name of the layer that runs when most bytes are alive, empty without buffers.
    """

    bytes: int
    lower_bound: int
    buffers: Mapping[str, Buffer]
    owner: Mapping[str, str]
    streams: tuple[Stream, ...]
    peak: str

    def stream_of(self, layer: int) -> Stream | None:
        """Return the stream that a layer, given by its index, is part of."""
        return next((stream for stream in self.streams if stream.first <= layer <= stream.last), None)


@dataclass(frozen=True, slots=True)
class _Life:
    """A buffer before it has a place; `below` says by how much an output that may lie over it must begin below it."""

    size: int
    first: int
    last: int
    below: Mapping[str, int]


def plan_arena(graph: Graph, streams: Sequence[Stream] = (), *, in_place: bool = True) -> Arena:
    """Plan the arena: each buffer in turn at the lowest place it may have, in the best of many orders.

    The graph's input is read and its result written where the caller has them, so neither takes a place.

    Args:
        graph: of integers.
        streams: which layers run row by row; all buffers of a stream live as long as it runs.
        in_place: outputs may lie over inputs; without it, for comparison, all that is alive lies apart.
    """
    owner = _owners(graph, streams)
    lives = _lives(graph, owner, streams)
    if not in_place:
        lives = {name: replace(life, below={}) for name, life in lives.items()}
    needs = _needs(graph, lives)
    bound = max(needs, default=0)
    neighbours = _neighbours(lives)
    best = _search(lives, neighbours, bound)
    return Arena(
        bytes=_extent(lives, best),
        lower_bound=bound,
        buffers={
            name: Buffer(best[name], lives[name].size, lives[name].first, lives[name].last) for name in sorted(best)
        },
        owner=owner,
        streams=tuple(streams),
        peak=graph.layers[needs.index(bound)].name if bound else "",
    )


def arena_bound(graph: Graph, streams: Sequence[Stream]) -> int:
    """Return the size below which no arena for these streams can be."""
    return max(_needs(graph, _lives(graph, _owners(graph, streams), streams)), default=0)


def _owners(graph: Graph, streams: Sequence[Stream]) -> dict[str, str]:
    shared = {name: ring for stream in streams for name, ring in stream.shared.items()}
    owner = {graph.inputs[0]: graph.inputs[0]}
    for op in graph.ops:
        owner[op.output] = owner[op.inputs[0]] if op.is_view else op.output
    for name in shared:
        ring = name
        while ring in shared:
            ring = shared[ring]
        owner[name] = ring
    return owner


def _lives(graph: Graph, owner: Mapping[str, str], streams: Sequence[Stream]) -> dict[str, _Life]:
    layers = graph.layers
    first_of, last_of = list(range(len(layers))), list(range(len(layers)))
    rings: dict[str, Ring] = {}
    for stream in streams:
        for i in range(stream.first, stream.last + 1):
            first_of[i], last_of[i] = stream.first, stream.last
        rings |= stream.rings
    callers = {owner[graph.inputs[0]], owner[graph.outputs[0]]}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    below: dict[str, dict[str, int]] = {}
    for i, op in enumerate(layers):
        first.setdefault(owner[op.output], first_of[i])
        for name in (op.output, *op.inputs):
            last[owner[name]] = last_of[i]
    for i, op in enumerate(layers):
        for name in op.inputs:
            is_last = last[owner[name]] == i and first_of[i] == last_of[i]
            distance = _distance(graph, op, name) if is_last else None
            if distance is not None:
                below.setdefault(owner[name], {})[op.output] = distance
    for stream in streams:
        for name in stream.rings:
            first[name], last[name] = stream.first, stream.last
    sizes = {name: rings[name].bytes if name in rings else graph.tensors[name].bytes for name in first}
    return {
        name: _Life(_aligned(sizes[name]), start, last[name], below.get(name, {}))
        for name, start in first.items()
        if name not in callers
    }


def _distance(graph: Graph, op: Op, name: str) -> int | None:
    """Return how many bytes below an input the output must begin to lie over what was read; None if it may not."""
    source, target = graph.tensors[name], graph.tensors[op.output]
    if op.is_elementwise:
        return _aligned(max(target.bytes - source.bytes, 0)) if source.size == target.size else None
    access = op.row_access(*graph.shapes_of(op))
    if access is None or access.is_scattered or source.bytes % access.input_rows or name in graph.inputs:
        return None
    written, read = target.bytes // access.rows, source.bytes // access.input_rows
    return _aligned(max((row + 1) * written - access.first(row) * read for row in range(access.rows)))


def _needs(graph: Graph, lives: Mapping[str, _Life]) -> list[int]:
    """Return for each layer the bytes that are alive while it runs, the best overlap taken off."""
    changes = [0] * (len(graph.layers) + 1)
    for life in lives.values():
        changes[life.first] += life.size
        changes[life.last + 1] -= life.size
    alive, total = [], 0
    for change in changes[:-1]:
        total += change
        alive.append(total)
    needs = list(alive)
    for life in lives.values():
        for output, distance in life.below.items():
            if output in lives:
                # Of several inputs that an output may lie over, the bound takes off the one that saves most.
                apart = life.size + lives[output].size
                together = max(lives[output].size, distance + life.size)
                layer = lives[output].first
                needs[layer] = min(needs[layer], alive[layer] - max(apart - together, 0))
    return needs


def _neighbours(lives: Mapping[str, _Life]) -> dict[str, list[str]]:
    """Return for each buffer those that are alive at the same time."""
    found: dict[str, list[str]] = {name: [] for name in lives}
    active: list[str] = []
    for name in sorted(lives, key=lambda key: lives[key].first):
        active = [other for other in active if lives[other].last >= lives[name].first]
        for other in active:
            found[name].append(other)
            found[other].append(name)
        active.append(name)
    return found


def _search(lives: Mapping[str, _Life], neighbours: Mapping[str, Sequence[str]], bound: int) -> dict[str, int]:
    """Return the best plan of several greedy orders and of random changes to the best one; always the same."""
    random = Random(0)
    work = 1 + sum((len(some) + 1) ** 2 for some in neighbours.values())
    best: dict[str, int] = {}
    order: list[str] = []
    for candidate in _orders(lives):
        places = _place(candidate, lives, neighbours)
        if not order or _extent(lives, places) < _extent(lives, best):
            best, order = places, candidate
    for _ in range(min(_MAX_TRIALS, _STEPS // work)):
        if _extent(lives, best) <= bound:
            break
        changed = list(order)
        changed.insert(random.randrange(len(changed)), changed.pop(random.randrange(len(changed))))
        places = _place(changed, lives, neighbours)
        if _extent(lives, places) <= _extent(lives, best):
            best, order = places, changed
    return best


def _orders(lives: Mapping[str, _Life]) -> Iterator[list[str]]:
    """Yield the largest first, the longest-lived first, the last written first, the first written first."""
    yield sorted(lives, key=lambda name: (-lives[name].size, lives[name].first))
    yield sorted(lives, key=lambda name: (-(lives[name].last - lives[name].first), -lives[name].size))
    yield sorted(lives, key=lambda name: -lives[name].first)
    yield sorted(lives, key=lambda name: lives[name].first)


def _place(order: Sequence[str], lives: Mapping[str, _Life], neighbours: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Give each buffer in turn the lowest offset that it may have."""
    places: dict[str, int] = {}
    for name in order:
        around = [other for other in neighbours[name] if other in places]
        places[name] = min(
            offset
            for offset in _candidates(name, around, places, lives)
            if all(_may(name, offset, other, places[other], lives) for other in around)
        )
    return places


def _candidates(
    name: str, around: Sequence[str], places: Mapping[str, int], lives: Mapping[str, _Life]
) -> Iterator[int]:
    """Yield the offsets among which the lowest allowed one is."""
    yield 0
    for other in around:
        yield places[other] + lives[other].size
        if name in lives[other].below and places[other] >= lives[other].below[name]:
            yield places[other] - lives[other].below[name]
        if other in lives[name].below:
            yield places[other] + lives[name].below[other]


def _may(name: str, offset: int, other: str, place: int, lives: Mapping[str, _Life]) -> bool:
    """Return whether a buffer may lie at an offset, as far as one neighbour is concerned."""
    if offset < 0:
        return False
    if offset + lives[name].size <= place or place + lives[other].size <= offset:
        return True
    if name in lives[other].below:
        return offset + lives[other].below[name] <= place
    if other in lives[name].below:
        return place + lives[name].below[other] <= offset
    return False


def _extent(lives: Mapping[str, _Life], places: Mapping[str, int]) -> int:
    return max((offset + lives[name].size for name, offset in places.items()), default=0)


def _aligned(size: int) -> int:
    return math.ceil(size / _ALIGNMENT) * _ALIGNMENT
