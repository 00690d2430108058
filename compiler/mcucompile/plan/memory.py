"""Places intermediate tensors in one arena, so that those alive at the same time do not overlap."""

from collections.abc import Mapping
from dataclasses import dataclass

from mcucompile.ir import Graph

_ALIGNMENT = 4


@dataclass(frozen=True, slots=True)
class Buffer:
    """The bytes that a tensor, and every view of it, live in.

    Attributes:
        offset: in the arena, a multiple of 4.
        size: bytes.
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
        lower_bound: no plan can be smaller: the most bytes alive at one time.
        buffers: by name of the tensor that owns the bytes; the input and the result are the caller's.
        owner: tensor -> the tensor whose bytes it shares (itself, unless it is a view).
        peak: name of the layer that runs when most bytes are alive, empty without buffers.
    """

    bytes: int
    lower_bound: int
    buffers: Mapping[str, Buffer]
    owner: Mapping[str, str]
    peak: str


def plan_arena(graph: Graph) -> Arena:
    """Plan the arena: largest buffers first, each at the lowest offset that is free in its lifetime.

    The graph's input is read and its result written where the caller has them, so neither takes a place.
    """
    owner = _owners(graph)
    layers = graph.layers
    first = {owner[op.output]: i for i, op in enumerate(layers)}
    last: dict[str, int] = {}
    for i, op in enumerate(layers):
        for name in op.inputs:
            last[owner[name]] = i
    callers = {owner[graph.inputs[0]], owner[graph.outputs[0]]}
    lives = {
        name: (start, last.get(name, start), _aligned(graph.tensors[name].bytes))
        for name, start in first.items()
        if name not in callers
    }
    placed: dict[str, Buffer] = {}
    for name in sorted(lives, key=lambda key: (-lives[key][2], lives[key][0])):
        start, end, size = lives[name]
        offset = 0
        neighbours = [b for b in placed.values() if b.first <= end and start <= b.last]
        for buffer in sorted(neighbours, key=lambda b: b.offset):
            if offset + size <= buffer.offset:
                break
            offset = max(offset, buffer.offset + buffer.size)
        placed[name] = Buffer(offset, size, start, end)
    alive = [sum(size for start, end, size in lives.values() if start <= i <= end) for i in range(len(layers))]
    bound = max(alive, default=0)
    return Arena(
        bytes=max((b.offset + b.size for b in placed.values()), default=0),
        lower_bound=bound,
        buffers=placed,
        owner=owner,
        peak=layers[alive.index(bound)].name if bound else "",
    )


def _owners(graph: Graph) -> dict[str, str]:
    owner = {graph.inputs[0]: graph.inputs[0]}
    for op in graph.ops:
        owner[op.output] = owner[op.inputs[0]] if op.is_view else op.output
    return owner


def _aligned(size: int) -> int:
    return (size + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT
