"""Small graphs of element-wise operators for tests."""

from collections.abc import Callable

import numpy as np
from graphs_convolution import SOURCE
from mcucompile.ir import Graph, Op, Tensor, build_graph
from mcucompile.ops import (
    Add,
    Affine,
    Clip,
    Dense,
    Extremum,
    LogSoftmax,
    Lookup,
    MatMul,
    Multiply,
    Normalize,
    PRelu,
    Reduce,
    Relu,
    Reshape,
    Softmax,
    Transpose,
)
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


def _functions(r: np.random.Generator) -> Graph:
    """Layers with a function after each: all that CORDIC covers, behind scales, rectifiers and clips."""
    formulas = {
        "tanh": applied("tanh"),
        "sigmoid": (X, Step("affine", (-2.0, 0.5)), Step("sigmoid")),
        "exp": (X, Step("clip", (-2.0, 1.0)), Step("exp")),
        "sine": (X, Step("relu"), Step("sin")),
        "cosine": applied("cos"),
    }
    ops, x, n_in = [], "x", 20
    for name, formula in formulas.items():
        ops += [_dense(r, x, f"{name}_sum", n_in, 9), _named(Lookup, name, (f"{name}_sum",), formula=formula)]
        x, n_in = name, 9
    return _graph((1, 20), *ops, _dense(r, x, "scores", n_in, 5), _named(Softmax, "y", ("scores",)))


def _pair(
    kind: type[Op],
    shape: tuple[int, ...],
    small: tuple[int, ...] | None = None,
    *,
    unsigned: bool = False,
    **fields: object,
) -> Make:
    """Two layers' outputs combined; the second one, of fewer elements, is broadcast if it has a shape."""

    def make(r: np.random.Generator) -> Graph:
        size, other = int(np.prod(shape)), int(np.prod(small or shape))
        return _graph(
            (1, 20),
            _dense(r, "x", "a", 20, size, relu=unsigned),
            _dense(r, "x", "b", 20, other, relu=unsigned),
            _named(Reshape, "av", ("a",), shape=shape),
            _named(Reshape, "bv", ("b",), shape=small or shape),
            _named(kind, "c", ("av", "bv"), **fields),
            _named(Reshape, "cv", ("c",), shape=(1, size)),
            _dense(r, "cv", "y", size, 5),
        )

    return make


def _squeeze_excite(r: np.random.Generator) -> Graph:
    """Channels of an image times factors of their own, channels last: the small operand is turned, not the image."""
    return _graph(
        (1, 3, 4, 5),
        _named(Lookup, "f", ("x",), formula=applied("tanh")),
        _named(Transpose, "t", ("f",), permutation=(0, 2, 3, 1)),
        _dense(r, "t", "d", 3, 6),
        _named(Transpose, "u", ("d",), permutation=(0, 3, 1, 2)),
        _named(Reshape, "p", ("u",), shape=(6, 20, 1)),
        _named(Reduce, "m", ("p",), function="mean"),
        _named(Reshape, "g", ("m",), shape=(1, 6, 1, 1)),
        _named(Lookup, "s", ("g",), formula=applied("sigmoid")),
        _named(Multiply, "y", ("u", "s")),
    )


def _rows(kind: type[Op], shape: tuple[int, ...], *, last: bool = False, **fields: object) -> Make:
    """An operator over rows of a layer's output, with a layer after it or not."""

    def make(r: np.random.Generator) -> Graph:
        size = int(np.prod(shape))
        ops = [
            _dense(r, "x", "a", 20, size),
            _named(Reshape, "v", ("a",), shape=shape),
            _named(kind, "y" if last else "n", ("v",), **fields),
        ]
        after = [_named(Reshape, "w", ("n",), shape=(1, size)), _dense(r, "w", "y", size, 5)]
        return _graph((1, 20), *ops, *([] if last else after))

    return make


def _attention(r: np.random.Generator) -> Graph:
    """Softmax of products of two activations, times a third one."""
    return _graph(
        (1, 6, 8),
        _dense(r, "x", "q", 8, 4),
        _dense(r, "x", "k", 8, 4),
        _dense(r, "x", "v", 8, 5, relu=True),
        _named(Transpose, "t", ("k",), permutation=(0, 2, 1)),
        _named(MatMul, "s", ("q", "t")),
        _named(Softmax, "p", ("s",)),
        _named(MatMul, "y", ("p", "v")),
    )


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
    "lookup_rectified_sine": _between((X, Step("relu"), Step("sin"))),
    "lookup_functions": _functions,
    "lookup_fused": lambda r: _graph(
        (1, 12),
        _dense(r, "x", "a", 12, 8),
        _named(Lookup, "f", ("a",), formula=applied("abs")),
        _named(Affine, "g", ("f",), scale=np.float32([-0.5]), offset=np.float32([0.25]), axis=0),
        _named(Relu, "h", ("g",)),
        _named(Lookup, "y", ("h",), formula=(X, Step("sqrt"))),
    ),
    "subtract": _pair(Add, (1, 16), subtracts=True),
    "subtract_broadcast": _pair(Add, (2, 3, 4), (1, 3, 1), subtracts=True, relu=True, ceiling=1.0),
    "add_broadcast": _pair(Add, (2, 3, 4), (2, 1, 4)),
    "multiply": _pair(Multiply, (1, 16)),
    "multiply_unsigned": _pair(Multiply, (1, 16), unsigned=True),
    "multiply_rows": _pair(Multiply, (2, 3, 4), (1, 1, 4)),
    "multiply_channels": _pair(Multiply, (1, 3, 2, 4), (1, 3, 1, 1)),
    "multiply_scalar": _pair(Multiply, (2, 6), (1, 1)),
    "multiply_result": lambda r: _graph(
        (1, 20), _dense(r, "x", "a", 20, 6), _dense(r, "x", "b", 20, 6), _named(Multiply, "y", ("a", "b"))
    ),
    "squeeze_excite": _squeeze_excite,
    "maximum": _pair(Extremum, (1, 16), largest=True),
    "minimum_broadcast": _pair(Extremum, (2, 3, 4), (2, 3, 1), largest=False),
    "maximum_one_format": lambda r: _graph(
        (2, 8),
        _dense(r, "x", "a", 8, 6),
        _named(Transpose, "t", ("a",), permutation=(1, 0)),
        _named(Reshape, "u", ("t",), shape=(2, 6)),
        _named(Extremum, "m", ("a", "u"), largest=True),
        _dense(r, "m", "y", 6, 3),
    ),
    "prelu": lambda r: _graph(
        (1, 20),
        _dense(r, "x", "a", 20, 12),
        _named(Reshape, "v", ("a",), shape=(1, 4, 3)),
        _named(PRelu, "p", ("v",), slope=np.float32([0.25, -0.5, 0.0, 1.7]), axis=1),
        _dense(r, "p", "y", 3, 5),
    ),
    "affine_with_zeros": lambda r: _graph(
        (1, 20),
        _dense(r, "x", "a", 20, 5),
        _named(Relu, "r", ("a",)),
        _named(
            Affine, "y", ("r",), scale=np.float32([0, 1, -2, 0, 1e-9]), offset=np.float32([0.5, 0, 1, -2, 3]), axis=1
        ),
    ),
    "log_softmax": _rows(LogSoftmax, (2, 7), last=True),
    "log_softmax_dense": _rows(LogSoftmax, (1, 12)),
    "layer_norm": _rows(Normalize, (4, 6, 1), function="deviation", epsilon=1e-5),
    "layer_norm_result": _rows(Normalize, (1, 30, 1), last=True, function="deviation", epsilon=1e-5),
    "instance_norm": _rows(Normalize, (1, 10, 3), function="deviation", epsilon=1e-3),
    "rms_norm": _rows(Normalize, (3, 8, 1), function="root_mean_square", epsilon=1e-5),
    "l2_norm": _rows(Normalize, (3, 8, 1), function="l2"),
    "l1_norm": _rows(Normalize, (2, 5, 2), last=True, function="l1"),
    "attention": _attention,
    "matmul_shared": lambda r: _graph(
        (3, 4, 6),
        _dense(r, "x", "a", 6, 5, relu=True),
        _named(Reshape, "u", ("x",), shape=(1, 12, 6)),
        _named(Lookup, "f", ("u",), formula=applied("gelu")),
        _named(Reshape, "w", ("f",), shape=(1, 72)),
        _dense(r, "w", "g", 72, 10),
        _named(Reshape, "b", ("g",), shape=(1, 5, 2)),
        _named(MatMul, "y", ("a", "b")),
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
