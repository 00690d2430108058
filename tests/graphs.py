"""Small graphs of reals for tests, one for each operator and arrangement."""

from collections.abc import Callable

import numpy as np
from graphs_convolution import CONVOLUTIONS
from graphs_elementwise import ELEMENTWISE_GRAPHS
from graphs_movement import MOVEMENT_GRAPHS
from graphs_recurrent import RECURRENT_GRAPHS
from graphs_similarities import SIMILARITY_GRAPHS
from graphs_windows import WINDOW_GRAPHS
from mcucompile.ir import Format, Graph, Op, Source, Tensor, build_graph
from mcucompile.ops import Add, Affine, ArgMax, Dense, FourView, Relu, Reshape, Softmax, Transpose

SOURCE = Source("test", "node", "Test")
BYTES = Format(8, False)


def dense(random: np.random.Generator, x: str, y: str, n_in: int, n_out: int, *, relu: bool = False) -> Dense:
    """Return a dense layer with Gaussian weights."""
    return Dense(
        name=y,
        inputs=(x,),
        output=y,
        source=SOURCE,
        weight=random.normal(0, 1 / np.sqrt(n_in), (n_out, n_in)).astype(np.float32),
        bias=random.normal(0, 0.3, n_out).astype(np.float32),
        relu=relu,
    )


def affine(random: np.random.Generator, x: str, y: str, channels: int, axis: int, *, relu: bool = False) -> Affine:
    """Return an affine layer with scales of both signs."""
    return Affine(
        name=y,
        inputs=(x,),
        output=y,
        source=SOURCE,
        scale=random.normal(0, 1, channels).astype(np.float32),
        offset=random.normal(0, 1, channels).astype(np.float32),
        axis=axis,
        relu=relu,
    )


def graph(shape: tuple[int, ...], ops: tuple[Op, ...], format_: Format | None = None) -> Graph:
    """Return a graph that ends with the last operator's output."""
    return build_graph("net", (Tensor("x", shape, format_),), (ops[-1].output,), ops, SOURCE)


def _named(kind: type[Op], name: str, inputs: tuple[str, ...], **fields: object) -> Op:
    return kind(name=name, inputs=inputs, output=name, source=SOURCE, **fields)


def _residual(random: np.random.Generator) -> Graph:
    return graph(
        (1, 20),
        (
            dense(random, "x", "a", 20, 12),
            _named(Relu, "r", ("a",)),
            dense(random, "r", "b", 12, 12),
            _named(Add, "s", ("b", "r")),
            _named(Relu, "t", ("s",)),
            dense(random, "t", "y", 12, 5),
        ),
    )


GRAPHS: dict[str, Callable[[np.random.Generator], Graph]] = {
    "dense": lambda r: graph((1, 33), (dense(r, "x", "y", 33, 7),)),
    "dense_one_input": lambda r: graph((1, 1), (dense(r, "x", "y", 1, 3),)),
    "dense_relu_dense": lambda r: graph((1, 31), (dense(r, "x", "a", 31, 17, relu=True), dense(r, "a", "y", 17, 10))),
    "dense_signed_middle": lambda r: graph((1, 16), (dense(r, "x", "a", 16, 9), dense(r, "a", "y", 9, 4))),
    "dense_rows": lambda r: graph((1, 5, 6), (dense(r, "x", "a", 6, 4, relu=True), dense(r, "a", "y", 4, 3))),
    "dense_softmax": lambda r: graph((1, 24), (dense(r, "x", "a", 24, 10), _named(Softmax, "y", ("a",)))),
    "softmax_dense": lambda r: graph(
        (1, 24), (dense(r, "x", "a", 24, 10), _named(Softmax, "s", ("a",)), dense(r, "s", "y", 10, 4))
    ),
    "dense_argmax": lambda r: graph(
        (1, 24), (dense(r, "x", "a", 24, 10), _named(ArgMax, "y", ("a",), keep_axis=False))
    ),
    "residual": _residual,
    "affine": lambda r: graph((1, 3, 4, 5), (affine(r, "x", "y", 3, 1),)),
    "affine_scalar_relu": lambda r: graph((1, 12), (affine(r, "x", "a", 1, 1, relu=True), dense(r, "a", "y", 12, 3))),
    "affine_after_relu": lambda r: graph(
        (1, 9), (dense(r, "x", "a", 9, 6, relu=True), affine(r, "a", "b", 6, 1), _named(Softmax, "y", ("b",)))
    ),
    "transpose": lambda r: graph(
        (1, 4, 6),
        (
            _named(Transpose, "t", ("x",), permutation=(0, 2, 1)),
            _named(Reshape, "f", ("t",), shape=(1, 24)),
            dense(r, "f", "y", 24, 5),
        ),
    ),
    "transpose_3d": lambda r: graph(
        (2, 3, 4), (_named(Transpose, "t", ("x",), permutation=(2, 0, 1)), affine(r, "t", "y", 4, 0))
    ),
    "relu_of_input": lambda r: graph((1, 12), (_named(Relu, "r", ("x",)), dense(r, "r", "y", 12, 4))),
    "view_of_result": lambda r: graph(
        (1, 12), (dense(r, "x", "a", 12, 6), _named(Reshape, "y", ("a",), shape=(1, 2, 3)))
    ),
    "four_view": lambda r: graph(
        (1, 28, 28),
        (
            _named(FourView, "f", ("x",), zone_height=7, zone_width=7, shift=3),
            affine(r, "f", "s", 64, 1),
            dense(r, "s", "h", 64, 16),
            _named(Relu, "hr", ("h",)),
            dense(r, "hr", "y", 16, 10),
        ),
        BYTES,
    ),
    "four_view_oblong": lambda r: graph(
        (2, 12, 10),
        (_named(FourView, "f", ("x",), zone_height=3, zone_width=5, shift=3), dense(r, "f", "y", 32, 4)),
        BYTES,
    ),
    **CONVOLUTIONS,
    **WINDOW_GRAPHS,
    **MOVEMENT_GRAPHS,
    **ELEMENTWISE_GRAPHS,
    **RECURRENT_GRAPHS,
    **SIMILARITY_GRAPHS,
}
