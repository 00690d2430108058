"""Graphs of operators that copy elements for the tests of every operator."""

from collections.abc import Callable

import numpy as np
from mcucompile.ir import Graph, Source, Tensor, build_graph
from mcucompile.ops import Affine, Concat, Relu, Take
from mcucompile.ops.take import FILL

_SOURCE = Source("test", "node", "Test")


def _affine(random: np.random.Generator, x: str, y: str) -> Affine:
    """Return a layer after, so that formats in the middle are int8."""
    scale = random.uniform(0.5, 2, 1).astype(np.float32)
    return Affine(name=y, inputs=(x,), output=y, source=_SOURCE, scale=scale, offset=np.float32([0.1]), axis=0)


def _take(shape: tuple[int, ...], *indices: list[int], fill: float = 0.0) -> Callable[[np.random.Generator], Graph]:
    def make(random: np.random.Generator) -> Graph:
        chosen = tuple(map(tuple, indices))
        take = Take(name="t", inputs=("x",), output="t", source=_SOURCE, indices=chosen, fill=fill)
        return build_graph("net", (Tensor("x", shape),), ("y",), (take, _affine(random, "t", "y")), _SOURCE)

    return make


def _concat(shape: tuple[int, ...], axis: int, *, alike: bool) -> Callable[[np.random.Generator], Graph]:
    """Join x with itself, with another format of itself and with half of it."""

    def make(random: np.random.Generator) -> Graph:
        half = tuple(tuple(range(n // 2 if i == axis else n)) for i, n in enumerate(shape))
        take = Take(name="h", inputs=("x",), output="h", source=_SOURCE, indices=half)
        relu = Relu(name="r", inputs=("b",), output="r", source=_SOURCE)
        inputs = ("x", "h", "x") if alike else ("b", "x", "r", "h")
        concat = Concat(name="c", inputs=inputs, output="c", source=_SOURCE, axis=axis)
        ops = (take, concat) if alike else (take, _affine(random, "x", "b"), relu, concat)
        return build_graph("net", (Tensor("x", shape),), ("y",), (*ops, _affine(random, "c", "y")), _SOURCE)

    return make


MOVEMENT_GRAPHS: dict[str, Callable[[np.random.Generator], Graph]] = {
    "take_slice": _take((3, 6, 8), [0, 1, 2], [1, 2, 3], [*range(8)]),
    "take_steps": _take((3, 6, 8), [2, 1, 0], [1, 3, 5], [7, 5, 3, 1]),
    "take_pad": _take((2, 3, 4), [FILL, 0, 1], [FILL, 0, 1, 2, FILL], [0, 1, 2, 3, FILL, FILL], fill=0.5),
    "take_edge": _take((4, 5), [0, 0, 1, 2, 3, 3, 3], [0, 0, 0, 1, 2, 3, 4]),
    "take_twice": _take((3, 4, 2), [0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2, 3, 3], [0, 1]),
    "take_repeat": _take((1, 4), [0, 0, 0], [0, 1, 2, 3, 0, 1, 2, 3]),
    "take_one": _take((5, 4, 3), [2], [3], [0, 2]),
    "take_largest_table": _take((3, 30000), [0, 0, 2], [0, 5, 7, 29999, FILL], fill=2.0),
    "concat_first": _concat((2, 3, 4), 0, alike=False),
    "concat_middle": _concat((2, 4, 3), 1, alike=True),
    "concat_last": _concat((2, 3, 4), 2, alike=False),
}
