"""Graphs of pooling and reductions for the tests of every operator."""

from collections.abc import Callable

import numpy as np
from mcucompile.ir import Graph, Source, Tensor, build_graph
from mcucompile.ops import Affine, ArgMax, AveragePool, MaxPool, Reduce
from mcucompile.ops.window import Window

_SOURCE = Source("test", "node", "Test")
_SHAPE = (2, 7, 6, 3)


def _affine(random: np.random.Generator, x: str, y: str, *, relu: bool = False) -> Affine:
    """Return a layer before or after, so that formats in the middle are int8 and results int32."""
    scale = random.uniform(0.5, 2, 1).astype(np.float32)
    return Affine(
        name=y, inputs=(x,), output=y, source=_SOURCE, scale=scale, offset=np.float32([0.1]), axis=0, relu=relu
    )


def _max(window: Window) -> Callable[[np.random.Generator], Graph]:
    def make(random: np.random.Generator) -> Graph:
        pool = MaxPool(name="p", inputs=("x",), output="p", source=_SOURCE, window=window)
        ops = (pool, _affine(random, "p", "y"))
        return build_graph("net", (Tensor("x", _SHAPE),), ("y",), ops, _SOURCE)

    return make


def _average(
    window: Window, rows: tuple[int, ...], columns: tuple[int, ...], *, last: bool = False
) -> Callable[[np.random.Generator], Graph]:
    def make(random: np.random.Generator) -> Graph:
        pool = AveragePool(name="p", inputs=("x",), output="p", source=_SOURCE, window=window, counts=(rows, columns))
        ops = (pool,) if last else (pool, _affine(random, "p", "y", relu=True))
        return build_graph("net", (Tensor("x", _SHAPE),), (ops[-1].output,), ops, _SOURCE)

    return make


def _reduce(function: str, shape: tuple[int, int, int], *, last: bool = False) -> Callable[..., Graph]:
    def make(random: np.random.Generator) -> Graph:
        reduce = Reduce(name="r", inputs=("x",), output="r", source=_SOURCE, function=function)
        ops = (reduce,) if last else (reduce, _affine(random, "r", "y"))
        return build_graph("net", (Tensor("x", shape),), (ops[-1].output,), ops, _SOURCE)

    return make


def _arg_extreme(*, smallest: bool, last: bool) -> Callable[[np.random.Generator], Graph]:
    def make(_random: np.random.Generator) -> Graph:
        op = ArgMax(name="i", inputs=("x",), output="i", source=_SOURCE, keep_axis=False, smallest=smallest, last=last)
        return build_graph("net", (Tensor("x", (3, 5)),), ("i",), (op,), _SOURCE)

    return make


WINDOW_GRAPHS: dict[str, Callable[[np.random.Generator], Graph]] = {
    "max_pool": _max(Window((2, 2), (2, 2))),
    "max_pool_padded": _max(Window((3, 3), (2, 1), (1, 1), (1, 1), (1, 1))),
    "max_pool_dilated": _max(Window((2, 3), (1, 2), (3, 2), (0, 1), (0, 2))),
    "average_pool": _average(Window((3, 2), (2, 2)), (3, 3, 3), (2, 2, 2)),
    "average_pool_padded": _average(
        Window((3, 3), (1, 2), (1, 1), (1, 1), (1, 1)), (2, 3, 3, 3, 3, 3, 2), (2, 3, 3), last=True
    ),
    "average_pool_counting_padding": _average(Window((3, 3), (2, 1), (1, 1), (1, 1), (1, 1)), (3, 3, 3, 3), (3,) * 6),
    "reduce_mean": _reduce("mean", (2, 35, 3)),
    "reduce_mean_result": _reduce("mean", (1, 49, 5), last=True),
    "reduce_sum": _reduce("sum", (3, 10, 1)),
    "reduce_magnitudes": _reduce("magnitudes", (1, 9, 4)),
    "reduce_max": _reduce("max", (2, 5, 3)),
    "reduce_min": _reduce("min", (2, 5, 3), last=True),
    "arg_min_last": _arg_extreme(smallest=True, last=True),
    "arg_max_last": _arg_extreme(smallest=False, last=True),
}
