"""Integer models whose layers all read one input under different shapes: what tiles compute, at every odd size."""

from dataclasses import replace

import numpy as np
from mcucompile.emit import Model
from mcucompile.encodings import Weights, given_weights
from mcucompile.ir import Array, Format, Graph, Op, Source, Tensor, build_graph
from mcucompile.kernels import KERNELS, Core, Kernel, Layer
from mcucompile.kernels.tiles import Tiles
from mcucompile.numerics import INT32_MAX, Int, Requantization
from mcucompile.ops import IntegerConv, IntegerDense, MaxPool, Reshape
from mcucompile.ops.similar import sum_bounds
from mcucompile.ops.window import Window
from mcucompile.plan import PlannedLayer, layers_of, plan_arena
from mcucompile.similarities import SIMILARITIES

SOURCE = Source("test", "node", "Tile")
ELEMENTS = 840
SAME = Window((3, 3), before=(1, 1), after=(1, 1))
# Views of the input, window and outputs; without a window, rows of a dense layer.
LAYERS: dict[str, tuple[tuple[int, ...], Window | None, int]] = {
    "same": ((1, 7, 10, 12), SAME, 5),
    "half": ((1, 7, 10, 12), Window((3, 3), (2, 2), after=(1, 1)), 8),
    "same_of_7": ((1, 10, 12, 7), SAME, 4),
    "tall_of_3": ((1, 28, 10, 3), Window((3, 2), (3, 2), before=(1, 0)), 6),
    "line": ((1, 1, 210, 4), Window((1, 5), dilations=(1, 2), before=(0, 4), after=(0, 4)), 3),
    "blocks_of_1": ((1, 1, 840, 1), Window((5, 3), before=(2, 1), after=(2, 1)), 3),
    "inside_of_3": ((1, 28, 10, 3), Window((5, 5), (2, 1)), 6),
    "inside_of_35": ((1, 6, 4, 35), Window((2, 3), after=(0, 1)), 7),
    "pointwise": ((1, 6, 5, 28), Window((1, 1)), 9),
    "pointwise_half": ((1, 6, 5, 28), Window((1, 1), (2, 2)), 4),
    "dilated_of_7": ((1, 10, 12, 7), Window((3, 3), dilations=(2, 2), before=(2, 2), after=(2, 2)), 2),
    "one_pixel": ((1, 1, 1, 840), Window((1, 1)), 7),
    "whole_image": ((1, 6, 5, 28), Window((6, 5)), 3),
    "two_images": ((2, 5, 7, 12), SAME, 3),
    "row": ((1, 840), None, 11),
    "rows_of_4": ((210, 4), None, 6),
    "rows_of_15": ((56, 15), None, 9),
    "rows_of_1": ((840, 1), None, 13),
}
# The same for depthwise convolutions, whose outputs are as many as the channels.
DEPTHWISE: dict[str, tuple[tuple[int, ...], Window | None, int]] = {
    "same": ((1, 7, 10, 12), SAME, 12),
    "half": ((1, 7, 10, 12), Window((3, 3), (2, 2), after=(1, 1)), 12),
    "same_5": ((1, 10, 12, 7), Window((5, 5), before=(2, 2), after=(2, 2)), 7),
    "dilated": ((1, 10, 12, 7), Window((3, 3), dilations=(2, 2), before=(2, 2), after=(2, 2)), 7),
    "line": ((1, 1, 210, 4), Window((1, 5), before=(0, 4)), 4),
    "tall": ((1, 28, 10, 3), Window((3, 2), (3, 2), before=(1, 0)), 3),
    "padded_pixel": ((1, 1, 1, 840), SAME, 840),
    "whole_image": ((1, 6, 5, 28), Window((6, 5)), 28),
    "inside": ((1, 6, 5, 28), Window((3, 3)), 28),
    "narrow": ((1, 40, 3, 7), SAME, 7),
    "two_images": ((2, 5, 7, 12), SAME, 12),
}
# Views of the input and windows without padding.
POOLS: dict[str, tuple[tuple[int, ...], Window]] = {
    "halves": ((1, 20, 7, 6), Window((2, 2), (2, 2))),
    "overlap": ((1, 10, 12, 7), Window((3, 3), (2, 2))),
    "neighbours": ((1, 6, 5, 28), Window((2, 2))),
    "dilated": ((1, 10, 12, 7), Window((2, 3), dilations=(2, 2))),
    "line": ((1, 1, 210, 4), Window((1, 4), (1, 3))),
    "two_images": ((2, 5, 7, 12), Window((2, 1), (3, 2))),
    "three_channels": ((1, 28, 10, 3), Window((2, 2), (2, 2))),
}
# The same in front of pools: views of the input, window, outputs and the pool's rows.
POOLED: dict[str, tuple[tuple[int, ...], Window, int, int]] = {
    "same": ((1, 7, 10, 12), SAME, 5, 2),
    "same_of_7": ((1, 10, 12, 7), SAME, 17, 3),
    "digits": ((1, 28, 30, 1), Window((5, 5), before=(2, 2), after=(2, 2)), 6, 2),
    "inside_of_3": ((1, 28, 10, 3), Window((5, 5), (2, 1)), 9, 2),
    "line": ((1, 1, 210, 4), Window((1, 5), before=(0, 2), after=(0, 2)), 3, 1),
    "two_images": ((2, 5, 7, 12), SAME, 3, 2),
    "pointwise": ((1, 6, 5, 28), Window((1, 1)), 9, 2),
}
# Layers behind one of those: a single row of which some inputs are no whole word.
BEHIND: dict[str, tuple[str, tuple[int, ...], int]] = {
    "row_of_350": ("same", (1, 350), 10),
    "row_of_27": ("whole_image", (1, 3), 17),
}
# Similarity and weights: of 8 bits, without zeros, of 16 bits, up to 3, far beyond the input.
SUMS = (
    ("adder", "bytes"),
    ("adder", "far"),
    ("binary", "bytes"),
    ("ternary", "signs"),
    ("ternary", "bytes"),
    ("minconv", "bytes"),
    ("minconv", "far"),
    ("dot", "bytes"),
    ("dot", "halfwords"),
    ("dot", "small"),
)
# Squared distances, as kernels of products make them.
SQUARES = (("euclid", "bytes"), ("euclid", "small"))
_EDGES = (-128, -127, -1, 0, 1, 2, 126, 127)


def input_format(name: str) -> Format:
    """Return the format of "uint8", "int8" or "int16"."""
    return Format(int(name.removeprefix("u").removeprefix("int")), not name.startswith("u"), 1.0)


def tile_graph(
    x: str,
    *,
    every: int = 1,
    first: int = 0,
    sums: tuple[tuple[str, str], ...] = SUMS,
    depthwise: bool = False,
    channels: int = 1,
) -> Graph:
    """Return a model of the layers that x allows; of all combinations of sums and layers every n-th.

    Args:
        x: format of the input.
        every, first: n, and which one comes first.
        sums: similarities and kinds of weights.
        depthwise: convolutions of each channel.
        channels: whose number is a multiple of this.
    """
    shapes = DEPTHWISE if depthwise else LAYERS
    layers = {name: layer for name, layer in shapes.items() if layer[0][-1] % channels == 0}
    format_ = input_format(x)
    random = np.random.default_rng(ELEMENTS)
    chosen = [s for s in sums if (format_.bits == 8 or s[0] == "dot") and (format_.signed or s[0] != "binary")]
    ops: list[Op] = []
    formats = {"x": format_}
    for number, (layer, (similarity, kind)) in enumerate((layer, s) for layer in layers for s in chosen):
        if number % every != first:
            continue
        shape, window, n_out = layers[layer]
        name = f"{layer}_{similarity}_{kind}_{number}"
        ops.append(_view(name, "x", shape))
        groups = n_out if depthwise else 1
        ops.append(_sums(random, name, similarity, kind, format_, shape, window, n_out, groups))
        formats |= {f"{name}_view": format_, name: _format_of(ops[-1])}
        if depthwise:
            continue
        for behind, (before, flat, outputs) in BEHIND.items():
            if before == layer:
                label = f"{behind}_{number}"
                source = formats[name]
                similarity_behind = similarity if source.signed or similarity != "binary" else "adder"
                ops.append(_view(label, name, flat))
                ops.append(_sums(random, label, similarity_behind, kind, source, flat, None, outputs))
                formats |= {f"{label}_view": source, label: _format_of(ops[-1])}
    graph = build_graph("net", (Tensor("x", (1, ELEMENTS)),), (ops[-1].output,), tuple(ops), SOURCE)
    tensors = {name: replace(tensor, format=formats[name]) for name, tensor in graph.tensors.items()}
    return graph.replaced(tensors=tensors)


def pooled_graph(x: str, *, every: int = 1, first: int = 0, sums: tuple[tuple[str, str], ...] = SUMS) -> Graph:
    """Return a model of convolutions with pools behind them; all else as of `tile_graph`."""
    format_ = input_format(x)
    random = np.random.default_rng(ELEMENTS)
    chosen = [s for s in sums if format_.signed or s[0] != "binary"]
    ops: list[Op] = []
    formats = {"x": format_}
    for number, (layer, (similarity, kind)) in enumerate((layer, s) for layer in POOLED for s in chosen):
        if number % every != first:
            continue
        shape, window, n_out, rows = POOLED[layer]
        name = f"{layer}_{similarity}_{kind}_{number}"
        ops.append(_view(name, "x", shape))
        conv = _sums(random, name, similarity, kind, format_, shape, window, n_out, one_sign=True)
        pool = Window((rows, 2), (rows, 2))
        fields = {"name": f"{name}_pool", "inputs": (name,), "output": f"{name}_pool", "source": SOURCE}
        lowest = _format_of(conv).minimum
        ops += [conv, MaxPool(window=pool, lowest=lowest, **fields)]  # type: ignore[arg-type]
        formats |= {f"{name}_view": format_, name: _format_of(conv), f"{name}_pool": _format_of(conv)}
    graph = build_graph("net", (Tensor("x", (1, ELEMENTS)),), (ops[-1].output,), tuple(ops), SOURCE)
    tensors = {name: replace(tensor, format=formats[name]) for name, tensor in graph.tensors.items()}
    return graph.replaced(tensors=tensors)


def pool_graph(x: str) -> Graph:
    """Return a model of all pools."""
    format_ = input_format(x)
    ops: list[Op] = []
    for name, (shape, window) in POOLS.items():
        fields = {"name": name, "inputs": (f"{name}_view",), "output": name, "source": SOURCE, "window": window}
        ops += [_view(name, "x", shape), MaxPool(lowest=format_.minimum, **fields)]  # type: ignore[arg-type]
    graph = build_graph("net", (Tensor("x", (1, ELEMENTS)),), (ops[-1].output,), tuple(ops), SOURCE)
    return graph.replaced(tensors={name: replace(t, format=format_) for name, t in graph.tensors.items()})


def tile_inputs(format_: Format, random_inputs: int) -> Array:
    """Return edges: every code of a byte in turn, the ends, their neighbours; and random ones. (n, 1, ELEMENTS)."""
    low, high = format_.minimum, format_.maximum
    turn = np.arange(ELEMENTS) % 256 + (low if format_.bits == 8 else -128)
    ends = np.where(np.arange(ELEMENTS) % 2, low, high)
    flat = [turn, ends, np.full(ELEMENTS, low), np.full(ELEMENTS, high), np.full(ELEMENTS, 0), ends[::-1]]
    random = np.random.default_rng(9).integers(low, high + 1, (random_inputs, ELEMENTS))
    return np.concatenate([np.stack(flat), random])[:, None, :]


def tile_model(
    graph: Graph, *, no_multiply: bool = False, core: str = "cortex-m4", kernels: type[Kernel] = Tiles
) -> Model:
    """Plan a model for a core, each layer with the fastest of its kernels of a class."""
    on = Core(not no_multiply, core)
    of_class = [kernel for kernel in KERNELS if isinstance(kernel, kernels)]
    planned = tuple(_fastest([k for k in of_class if k.kind == layer.op.kind], layer, on) for layer in layers_of(graph))
    return Model(graph, planned, plan_arena(graph), bytes(range(16)), no_multiply)


def _fastest(kernels: list[Kernel], layer: Layer, core: Core) -> PlannedLayer:
    applicable = [kernel for kernel in kernels if kernel.refusal(layer, core) is None]
    return min((PlannedLayer(layer, k, k.cost(layer, core)) for k in applicable), key=lambda each: each.cost.time)


def _view(name: str, source: str, shape: tuple[int, ...]) -> Reshape:
    return Reshape(name=f"{name}_view", inputs=(source,), output=f"{name}_view", source=SOURCE, shape=shape)


def _format_of(op: Op) -> Format:
    assert isinstance(op, IntegerConv | IntegerDense)
    return Format(8, op.requantize.minimum < 0, 1.0)


def _sums(
    random: np.random.Generator,
    name: str,
    similarity: str,
    kind: str,
    source: Format,
    shape: tuple[int, ...],
    window: Window | None,
    n_out: int,
    groups: int = 1,
    *,
    one_sign: bool = False,
) -> IntegerConv | IntegerDense:
    n_in = shape[-1] // groups * (window.taps if window else 1)
    weights = _weights(random, kind, n_out, n_in, similarity, source)
    fields = {"name": name, "inputs": (f"{name}_view",), "output": name, "source": SOURCE, "similarity": similarity}
    requantize = _requantization(random, similarity, weights.values, source, one_sign=one_sign)
    if window is None:
        return IntegerDense(weights=weights, requantize=requantize, **fields)  # type: ignore[arg-type]
    fill = 0 if source.signed else int(random.integers(0, 5))
    return IntegerConv(
        weights=weights,
        requantize=requantize,
        window=window,
        groups=groups,
        planar=False,
        fill=fill,
        **fields,  # type: ignore[arg-type]
    )


def _weights(random: np.random.Generator, kind: str, n_out: int, n_in: int, similarity: str, source: Format) -> Weights:
    # With the multipliers and offsets below no code needs more than 32 bits.
    most = INT32_MAX // 64 // (max(abs(source.minimum), source.maximum) * n_in)
    match kind:
        case "signs":
            values = random.choice([-1, 1], (n_out, n_in))
        case "small":
            largest = min(int(random.integers(1, 4)), most)
            values = random.integers(-largest, largest + 1, (n_out, n_in))
            values[0], values[-1] = largest, -largest
        case "bytes" if similarity == "ternary":
            values = random.integers(-1, 2, (n_out, n_in))
            values[0], values[-1] = 1, -1
        case "bytes":
            values = random.integers(-128, 128, (n_out, n_in))
            edges = random.random((n_out, n_in)) < 0.2
            values[edges] = random.choice(_EDGES, edges.sum())
            if similarity == "dot":
                values = np.clip(values, -min(127, most), min(127, most))
        case "far":
            values = random.choice([-700, -300, -256, -255, -129, 0, 5, 128, 255, 256, 1000], (n_out, n_in))
        case _:
            most = min(32767, most)
            values = random.integers(-most, most + 1, (n_out, n_in))
            values[:, 0] = random.choice([-most, most], n_out)
    given = given_weights(values, np.ones(1))
    if given is not None and kind != "halfwords":
        return given
    meaning, codes = np.unique(values, return_inverse=True)
    if len(meaning) > 256:
        # No encoding has so many, but tables of values take any: keep 256 of them.
        meaning = np.sort(random.choice(meaning, 256, replace=False))
        codes = random.integers(0, 256, values.shape)
    meaning = np.pad(meaning, (0, 256 - len(meaning)))
    return Weights("int8z", 8, codes.reshape(values.shape), meaning, np.ones(1), "")


def _requantization(
    random: np.random.Generator, similarity: str, values: Int, source: Format, *, one_sign: bool = False
) -> Requantization:
    """Return multipliers, offsets and shifts that spread the codes; uniform or one each; with a sign or without."""
    codes = random.integers(source.minimum, source.maximum + 1, (50, values.shape[1]))
    sums = SIMILARITIES[similarity].accumulate(codes, values)
    n_out = len(values)
    signed = bool(random.integers(2))
    uniform = bool(random.integers(2))
    multiplier = random.choice([1, 3, 5, -3, 7, 15, -1], 1 if uniform else n_out)
    if one_sign:
        multiplier = np.abs(multiplier) * random.choice([1, -1])
    spread = np.maximum(sums.std(axis=0) * np.abs(multiplier) / 80, 1)
    shift = np.floor(np.log2(spread)).astype(np.int64)
    shift = shift.max(keepdims=True) if uniform else shift
    middle = 0 if signed else 100
    offset = -sums.mean(axis=0).astype(np.int64) * multiplier + (middle << shift) + random.integers(-50, 50, n_out)
    limits = (-128, 127) if signed else (0, 255)
    requantize = Requantization(multiplier, offset, shift, *limits)
    low, high = sum_bounds(SIMILARITIES[similarity], values, source)
    assert requantize.worst(low, high).max() <= INT32_MAX
    return requantize
