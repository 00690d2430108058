"""Small graphs of reals whose layers compare instead of multiplying: each similarity, dense and over windows."""

from collections.abc import Callable

import numpy as np
from graphs_convolution import SAME
from mcucompile.ir import Graph, Op, Source, Tensor, build_graph
from mcucompile.ops import Affine, Conv, Dense, MaxPool, Reshape
from mcucompile.ops.window import Window
from mcucompile.similarities import SIMILARITIES

SOURCE = Source("test", "node", "Similarity")


def _layer(random: np.random.Generator, similarity: str, n_out: int, n_in: int, *, relu: bool) -> dict[str, object]:
    """Return the fields of a layer followed by a batch-norm: sums brought near -2..2, one channel turned around."""
    weight = random.normal(0, 0.6, (n_out, n_in))
    if similarity == "ternary":
        weight = np.sign(weight) * (np.abs(weight) > 0.3)
    if similarity == "trig":
        weight = np.clip(weight, -np.pi / 2, np.pi / 2)
    typical = np.abs(random.normal(0, 1, (500, n_in)))
    sums = SIMILARITIES[similarity].real(typical, weight)
    gain = random.uniform(0.5, 1.0, n_out) / (sums.std(axis=0) + 1e-3)
    gain[0] *= -1
    bias = random.normal(0.5, 0.3, n_out) - gain * sums.mean(axis=0)
    return {
        "source": SOURCE,
        "similarity": similarity,
        "weight": weight.astype(np.float32),
        "gain": None if similarity == "dot" else gain.astype(np.float32),
        "bias": bias.astype(np.float32),
        # A rectifier would leave only one sign.
        "relu": relu and similarity != "binary",
        # The rectified sine's angles, which others do not mind.
        "ceiling": np.pi / 2 if relu and similarity == "trig" else np.inf,
    }


def _centred(x: str, y: str) -> Affine:
    """Give inputs, which are positive in some tests, both signs."""
    half = np.array([0.5], np.float32)
    return Affine(name=y, inputs=(x,), output=y, source=SOURCE, scale=half, offset=-half, axis=0)


def _dense(random: np.random.Generator, similarity: str) -> Graph:
    ops: tuple[Op, ...] = (
        _centred("x", "m"),
        Dense(name="a", inputs=("m",), output="a", **_layer(random, similarity, 17, 31, relu=True)),  # type: ignore[arg-type]
        Dense(name="y", inputs=("a",), output="y", **_layer(random, similarity, 10, 17, relu=False)),  # type: ignore[arg-type]
    )
    return build_graph("net", (Tensor("x", (1, 31)),), ("y",), ops, SOURCE)


def _conv(random: np.random.Generator, similarity: str) -> Graph:
    """Padding, a pool between, a stride, then as many groups as channels."""
    shapes = ((4, SAME, 3, 1), (6, Window((3, 2), (2, 1), before=(0, 1)), 4, 1), (6, Window((2, 2)), 6, 6))
    ops: list[Op] = [_centred("x", "m")]
    x = "m"
    for i, (n_out, window, channels, groups) in enumerate(shapes):
        fields = _layer(random, similarity, n_out, window.taps * channels // groups, relu=i < 2)
        weight = np.asarray(fields.pop("weight")).reshape(n_out, *window.size, channels // groups)
        ops.append(
            Conv(name=f"c{i}", inputs=(x,), output=f"c{i}", weight=weight, window=window, groups=groups, **fields)  # type: ignore[arg-type]
        )
        x = f"c{i}"
        if i == 0:
            ops.append(MaxPool(name="p", inputs=(x,), output="p", source=SOURCE, window=Window((2, 2), (2, 2))))
            x = "p"
    size = 2 * 4 * 6
    ops.append(Reshape(name="v", inputs=(x,), output="v", source=SOURCE, shape=(1, size)))
    ops.append(Dense(name="y", inputs=("v",), output="y", **_layer(random, similarity, 5, size, relu=False)))  # type: ignore[arg-type]
    return build_graph("net", (Tensor("x", (1, 14, 10, 3)),), ("y",), tuple(ops), SOURCE)


SIMILARITY_GRAPHS: dict[str, Callable[[np.random.Generator], Graph]] = {
    f"{shape}_{similarity}": lambda random, make=make, similarity=similarity: make(random, similarity)
    for similarity in SIMILARITIES
    for shape, make in (("similar_dense", _dense), ("similar_conv", _conv))
}
