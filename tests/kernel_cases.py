"""The layers that every kernel is compared on: odd sizes, edges, each similarity and encoding, each operator."""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from emulated_layers import layer_graph
from graphs import GRAPHS
from graphs_recurrent import recurrent
from mcucompile.calibrate import calibrate
from mcucompile.encodings import ENCODINGS
from mcucompile.ir import Array, Format, Graph, Source, Tensor, build_graph
from mcucompile.kernels import Core
from mcucompile.numerics import Requantization
from mcucompile.ops import Gru, IntegerAffine, Lstm, Recurrent
from mcucompile.ops.window import Window
from mcucompile.passes import simplify
from mcucompile.plan import pool_convolutions
from mcucompile.quantize import Choice, parse_weights, quantize
from tile_models import SQUARES, SUMS, pool_graph, pooled_graph, tile_graph

SAME = Window((3, 3), before=(1, 1), after=(1, 1))
# Images: height and width, channels of a group, outputs, window, groups; without a window rows, inputs, outputs.
SMALL: tuple[tuple[tuple[int, int], int, int, Window | None, int], ...] = (
    ((1, 1), 1, 1, None, 1),
    ((1, 1), 33, 5, None, 1),
    ((3, 1), 18, 7, None, 1),
    ((1, 1), 1, 1, Window((1, 1)), 1),
    ((1, 1), 5, 3, SAME, 1),
    ((2, 17), 6, 2, Window((1, 2)), 1),
    ((5, 3), 3, 5, SAME, 1),
    ((3, 16), 4, 3, SAME, 1),
    ((7, 9), 2, 3, Window((3, 3), (2, 2), before=(0, 1), after=(1, 0)), 1),
    ((4, 5), 8, 4, Window((1, 1), (3, 2)), 1),
    ((6, 7), 3, 2, Window((2, 3), (1, 2), (2, 2), (1, 2), (1, 2)), 1),
    ((5, 4), 2, 6, SAME, 3),
    ((5, 4), 1, 7, SAME, 7),
    ((6, 3), 1, 8, Window((3, 2), (2, 1), before=(1, 0), after=(0, 1)), 8),
)
# Similarity and encoding.
KINDS = (
    *(("dot", encoding) for encoding in ENCODINGS),
    *((similarity, "int8") for similarity in ("adder", "minconv", "euclid", "mfo", "ternary", "binary")),
    *((similarity, "int4") for similarity in ("adder", "minconv", "mfo", "euclid")),
)
# Sizes whose sums leave a lane, or whose tables leave their reach, beside those of SMALL: as those, and its kind.
LARGE: tuple[tuple[tuple[int, int], int, int, Window | None, int, str, str], ...] = (
    ((1, 1), 400, 2, None, 1, "ternary", "int8"),
    ((1, 1), 300, 3, None, 1, "dot", "log3"),
    ((1, 1), 2100, 1, None, 1, "dot", "dlq3"),
    ((1, 1), 700, 3, None, 1, "adder", "int8"),
    ((1, 1), 2061, 1, None, 1, "minconv", "int8"),
    ((3, 4), 40, 2, SAME, 1, "dot", "int8"),
    ((3, 4), 40, 2, SAME, 1, "ternary", "int8"),
    ((3, 4), 60, 2, SAME, 1, "adder", "int4"),
    ((9, 33), 7, 2, SAME, 1, "dot", "int4"),
    ((1, 3), 600, 1, Window((1, 1)), 1, "ternary", "int8"),
)
_SOURCE = Source("test", "node", "Case")
_SEED = 20240501


def weighted_graph(
    size: tuple[int, int], channels: int, n_out: int, window: Window | None, groups: int, kind: tuple[str, str],
    *, signed: bool, name: str,
) -> Graph:  # fmt: skip
    """Return a layer of weights of all sizes, with an output of zeros, one of one weight and one of one sign."""
    similarity, encoding = kind
    random = np.random.default_rng(channels * n_out + size[0])
    weight = random.normal(0, 0.4, (n_out, *(window.size if window else ()), channels))
    if n_out > 2:
        weight[0] = 0
        weight[1] *= np.arange(weight[1].size).reshape(weight[1].shape) == weight[1].size - 1
        weight[-1] = -np.abs(weight[-1])
    if similarity == "ternary":
        weight = np.sign(weight) * (np.abs(weight) > 0.3)
    rows = size[0] if window is None else 1
    return layer_graph(
        weight, encoding, similarity=similarity, signed=signed, rows=rows, image=size, window=window, groups=groups,
        name=name,
    )  # fmt: skip


def weighted_graphs(*, every: int = 1) -> Iterator[Graph]:
    """Yield every kind of weights at every small size, of positive and of signed inputs; and the large ones.

    Args:
        every: only each n-th size of a kind; over the kinds, all of them.
    """
    for number, (kind, size) in enumerate(itertools.product(KINDS, SMALL)):
        row, column = divmod(number, len(SMALL))
        if (row + column) % every == 0:
            signed = kind[0] == "binary" or (row + column) % 2 == 1
            yield weighted_graph(*size, kind, signed=signed, name=f"{'_'.join(kind)}_{column}")
    for number, (*size, similarity, encoding) in enumerate(LARGE):
        yield weighted_graph(*size, (similarity, encoding), signed=bool(number % 2), name=f"large_{number}")
    # What is expected to have zeros.
    for number, size in enumerate((SMALL[1], SMALL[6])):
        graph = weighted_graph(*size, ("dot", "log4"), signed=False, name=f"zeros_{number}")
        yield graph.replaced(tensors={**graph.tensors, graph.input.name: replace(graph.input, zeros=0.5)})


def exhaustive_graphs() -> Iterator[Graph]:
    """Yield every dense layer of up to 9 inputs and 3 outputs, every image and window of up to 3 x 3 and 2 channels.

    The kinds of weights take turns.
    """
    kinds = itertools.cycle([kind for kind in KINDS if kind[0] != "binary"])
    signs = itertools.cycle((False, True, True))
    number = itertools.count()
    for n_in, n_out in itertools.product(range(1, 10), range(1, 4)):
        yield weighted_graph((1, 1), n_in, n_out, None, 1, next(kinds), signed=next(signs), name=f"d{next(number)}")
    for height, width, rows, columns in itertools.product(range(1, 4), repeat=4):
        if rows <= height + 1 and columns <= width + 1:
            window = Window((rows, columns), before=(1, 0), after=(0, 1))
            channels = 1 + (height + width + rows) % 3
            name = f"c{next(number)}"
            yield weighted_graph((height, width), channels, 2, window, 1, next(kinds), signed=next(signs), name=name)


def given_graphs(*, every: int = 1, first: int = 0) -> Iterator[Graph]:
    """Yield layers of given integer weights, -128 to 127 with edges and far beyond, at odd sizes; pools.

    Args:
        every, first: only every n-th layer, and which is the first.
    """
    sums = (*SUMS, ("euclid", "bytes"), ("mfo", "bytes"))
    for x in ("uint8", "int8", "int16"):
        for depthwise in (False, True):
            graph = tile_graph(x, every=every, first=first, sums=sums, depthwise=depthwise)
            yield from _parts(graph)
        yield from _parts(pool_graph(x))
        for core in (Core(True, "cortex-m4"), Core(True, "rv32imac"), Core(False, "rv32imac")):
            graph = pooled_graph(x, every=max(every // 4, 1), first=first, sums=(*SUMS, *SQUARES))
            yield from _parts(pool_convolutions(graph, core))


def operator_graphs() -> Iterator[Graph]:
    """Yield every small graph of tests/graphs.py with 8-bit activations; some of 16 bits; functions by CORDIC."""
    for name in GRAPHS:
        yield quantized(name, "int8")
    for name in ("conv_same", "conv_depthwise", "residual", "dense_softmax", "multiply", "average_pool"):
        yield quantized(name, "int4", bits=16)
    yield from scale_graphs()
    for name, bits, by_cordic in itertools.product(("lookup_functions",), (8, 16), (False, True)):
        yield quantized(name, "int8", bits=bits, by_cordic=by_cordic)


def scale_graphs() -> Iterator[Graph]:
    """Yield bytes times one factor, at sizes of whole words and others, to either sign."""
    for size, (multiplier, shift, signed) in itertools.product(
        (1, 7, 64), ((1, 1, True), (3, 2, False), (5, 3, False))
    ):
        limits = (-128, 127) if signed else (0, 255)
        factors = (np.array([value], dtype=np.int64) for value in (multiplier, 2, shift))
        op = IntegerAffine(
            name="y",
            inputs=("x",),
            output="y",
            source=_SOURCE,
            sign=np.ones(1, np.int64),
            requantize=Requantization(*factors, *limits),
            axis=1,
        )
        built = build_graph(f"scale_{size}_{multiplier}", (Tensor("x", (1, size)),), ("y",), (op,), _SOURCE)
        formats = {"x": Format(8, False), "y": Format(8, signed)}
        yield built.replaced(tensors={name: replace(t, format=formats[name]) for name, t in built.tensors.items()})


def recurrent_graphs() -> Iterator[Graph]:
    """Yield a layer of each kind of recurrence in every encoding, and with few weights but 0."""
    for kind, encoding in itertools.product((Lstm, Gru), (*ENCODINGS, "few")):
        yield _recurrent(kind, encoding)


def quantized(name: str, weights: str, *, bits: int = 8, by_cordic: bool = False) -> Graph:
    """Return a graph of tests/graphs.py as integers."""
    random = np.random.default_rng(_SEED)
    real = simplify(GRAPHS[name](random))
    shape = (40, *real.input.shape)
    samples = random.integers(0, 256, shape).astype(np.uint8) if real.input.format else random.normal(0, 1, shape)
    calibration = calibrate(real, samples)
    chosen = {"activations": Choice(bits, {}), "by_cordic": Choice(by_cordic, {})}
    graph = quantize(real, calibration, parse_weights(weights, real), 2, **chosen)  # type: ignore[arg-type]
    return replace(graph, name=f"{name}_{weights}_{bits}")


def _recurrent(kind: type[Recurrent], encoding: str) -> Graph:
    random = np.random.default_rng(_SEED)
    layer = recurrent(random, kind, "x", "y", (1, 12, 7))
    if encoding == "few":
        layer = replace(layer, weight=_few(layer.weight), recurrent=_few(layer.recurrent))
    real = simplify(build_graph("recurrent", (Tensor("x", (4, 1, 12)),), ("y",), (layer,), _SOURCE))
    samples = random.normal(0, 1, (20, *real.input.shape))
    weights = "int4" if encoding == "few" else encoding
    graph = quantize(real, calibrate(real, samples), parse_weights(weights, real), 2)
    return replace(graph, name=f"{kind.__name__.lower()}_{encoding}")


def _few(weight: Array) -> Array:
    return np.asarray(np.sign(weight) * (np.abs(weight) > np.quantile(np.abs(weight), 0.8)) * 0.5, np.float32)


def _parts(graph: Graph) -> Iterator[Graph]:
    """Yield the branches of a graph, each of which begins with a view of its input."""
    starts = [i for i, op in enumerate(graph.ops) if op.inputs == graph.inputs]
    for start, end in itertools.pairwise([*starts, len(graph.ops)]):
        ops = graph.ops[start:end]
        names = {*graph.inputs, *(op.output for op in ops)}
        tensors = {name: graph.tensors[name] for name in names}
        yield replace(graph, name=ops[-1].name, ops=ops, outputs=(ops[-1].output,), tensors=tensors)


Family = Callable[[], Iterator[Graph]]
# What benchmarks/kernel_trust.py compares.
FAMILIES: dict[str, Family] = {
    "every operator": operator_graphs,
    "recurrent": recurrent_graphs,
    "weights x sizes": weighted_graphs,
    "given weights": functools.partial(given_graphs, every=32),
    "exhaustive small shapes": exhaustive_graphs,
}
