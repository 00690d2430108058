"""Small graphs of element-wise operators for tests."""

from collections.abc import Callable

import numpy as np
from graphs_convolution import SOURCE
from mcucompile.ir import Graph, Op, Tensor, build_graph
from mcucompile.ops import Affine, Clip, Dense, Lookup, Relu, Reshape
from mcucompile.ops.formula import Formula, Step, X, applied

Make = Callable[[np.random.Generator], Graph]


def _graph(shape: tuple[int, ...], *ops: Op) -> Graph:
    return build_graph("net", (Tensor("x", shape),), (ops[-1].output,), ops, SOURCE)


def _named(kind: type[Op], name: str, inputs: tuple[str, ...], **fields: object) -> Op:
    return kind(name=name, inputs=inputs, output=name, source=SOURCE, **fields)


def _dense(r: np.random.Generator, x: str, y: str, n_in: int, n_out: int, **fields: object) -> Op:
    weight = r.normal(0, 1 / np.sqrt(n_in), (n_out, n_in)).astype(np.float32)
    return _named(Dense, y, (x,), weight=weight, bias=r.normal(0, 0.3, n_out).astype(np.float32), **fields)


def _between(formula: Formula) -> Make:
    """A function between two layers: an 8-bit table, or with 16-bit activations straight lines."""
    return lambda r: _graph(
        (1, 20),
        _dense(r, "x", "a", 20, 16),
        _named(Lookup, "f", ("a",), formula=formula),
        _dense(r, "f", "y", 16, 6),
    )


def _result(formula: Formula) -> Make:
    """A function that makes the result."""
    return lambda r: _graph((1, 20), _dense(r, "x", "a", 20, 7), _named(Lookup, "y", ("a",), formula=formula))


ELEMENTWISE_GRAPHS: dict[str, Make] = {
    "lookup_gelu": _between(applied("gelu")),
    "lookup_hard_swish": _between(applied("hard_swish")),
    "lookup_leaky_relu": _between(applied("leaky_relu", 0.1)),
    "lookup_exp": _between(applied("exp")),
    "lookup_tanh_result": _result(applied("tanh")),
    "lookup_sigmoid_result": _result(applied("sigmoid")),
    "lookup_of_input": lambda r: _graph(
        (2, 9), _named(Lookup, "f", ("x",), formula=applied("sin")), _dense(r, "f", "y", 9, 4)
    ),
    "lookup_fused": lambda r: _graph(
        (1, 12),
        _dense(r, "x", "a", 12, 8),
        _named(Lookup, "f", ("a",), formula=applied("abs")),
        _named(Affine, "g", ("f",), scale=np.float32([-0.5]), offset=np.float32([0.25]), axis=0),
        _named(Relu, "h", ("g",)),
        _named(Lookup, "y", ("h",), formula=(X, Step("sqrt"))),
    ),
    "clip": lambda r: _graph(
        (1, 12),
        _dense(r, "x", "a", 12, 8),
        _named(Clip, "c", ("a",), low=-0.5, high=0.75),
        _dense(r, "c", "y", 8, 4),
    ),
    "relu6": lambda r: _graph(
        (1, 12),
        _dense(r, "x", "a", 12, 8),
        _named(Reshape, "v", ("a",), shape=(1, 4, 2)),
        _named(Clip, "c", ("v",), low=0.0, high=0.5),
        _dense(r, "c", "y", 2, 4, relu=True, ceiling=0.75),
    ),
}
