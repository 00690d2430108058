"""Small graphs of reals with convolutions: strides, padding, dilations, groups, planes."""

from collections.abc import Callable

import numpy as np
from mcucompile.ir import Graph, Op, Source, Tensor, build_graph
from mcucompile.ops import Add, AveragePool, Conv, Dense, Reshape, Take
from mcucompile.ops.take import FILL
from mcucompile.ops.window import Window

SOURCE = Source("test", "node", "Conv")
SAME = Window((3, 3), before=(1, 1), after=(1, 1))
HALF = Window((3, 3), (2, 2), after=(1, 1))


def conv(random: np.random.Generator, x: str, y: str, c_in: int, c_out: int, window: Window, **fields: object) -> Conv:
    """Return a convolution with Gaussian weights."""
    groups = fields.get("groups", 1)
    assert isinstance(groups, int)
    n_in = window.taps * c_in // groups
    return Conv(
        name=y,
        inputs=(x,),
        output=y,
        source=SOURCE,
        weight=random.normal(0, 1 / np.sqrt(n_in), (c_out, *window.size, c_in // groups)).astype(np.float32),
        bias=random.normal(0, 0.3, c_out).astype(np.float32),
        window=window,
        **fields,  # type: ignore[arg-type]
    )


def _graph(shape: tuple[int, ...], *ops: Op) -> Graph:
    return build_graph("net", (Tensor("x", shape),), (ops[-1].output,), ops, SOURCE)


def add(a: str, b: str, y: str) -> Add:
    """Return a rectified sum."""
    return Add(name=y, inputs=(a, b), output=y, source=SOURCE, relu=True)


def _mean(x: str, y: str, size: int, rows: int) -> AveragePool:
    window = Window((size, size), (size, size))
    return AveragePool(
        name=y, inputs=(x,), output=y, source=SOURCE, window=window, counts=((size,) * rows, (size,) * rows)
    )


def residual(*, size: int = 16, mean: int = 8) -> Graph:
    """ResNet-8 in small: two blocks, a strided shortcut, a mean over all, a classifier."""
    random = np.random.default_rng(1)
    left = size // 2 // mean
    ops: tuple[Op, ...] = (
        conv(random, "x", "a", 3, 4, SAME, relu=True),
        conv(random, "a", "b", 4, 4, SAME, relu=True),
        conv(random, "b", "c", 4, 4, SAME),
        add("a", "c", "d"),
        conv(random, "d", "e", 4, 8, Window((1, 1), (2, 2))),
        conv(random, "d", "f", 4, 8, HALF, relu=True),
        conv(random, "f", "g", 8, 8, SAME),
        add("e", "g", "h"),
        _mean("h", "m", mean, left),
        Reshape(name="v", inputs=("m",), output="v", source=SOURCE, shape=(1, 8 * left**2)),
        Dense(
            name="y",
            inputs=("v",),
            output="y",
            source=SOURCE,
            weight=random.normal(0, 1, (5, 8 * left**2)).astype(np.float32),
            bias=np.zeros(5, np.float32),
        ),
    )
    return build_graph("net", (Tensor("x", (1, size, size, 3)),), ("y",), ops, SOURCE)


def _transposed(random: np.random.Generator) -> Graph:
    """A transposed convolution of signed images: zeros between the pixels, then an ordinary one."""
    spread = (0, FILL, 1, FILL, 2)
    take = Take(
        name="t", inputs=("a",), output="t", source=SOURCE, indices=((0,), spread, (*spread, FILL, 3), (0, 1, 2))
    )
    return _graph(
        (1, 3, 4, 2),
        conv(random, "x", "a", 2, 3, SAME),
        take,
        conv(random, "t", "y", 3, 4, Window((3, 3), before=(2, 1), after=(1, 2))),
    )


CONVOLUTIONS: dict[str, Callable[[np.random.Generator], Graph]] = {
    "conv_same": lambda r: _graph(
        (1, 6, 5, 3), conv(r, "x", "a", 3, 4, SAME, relu=True), conv(r, "a", "y", 4, 5, SAME)
    ),
    "conv_strided": lambda r: _graph((1, 8, 7, 2), conv(r, "x", "y", 2, 3, Window((3, 2), (2, 3)))),
    "conv_strided_uneven": lambda r: _graph(
        (1, 8, 8, 3), conv(r, "x", "y", 3, 4, Window((3, 3), (2, 2), after=(1, 1), before=(0, 0)))
    ),
    "conv_dilated": lambda r: _graph(
        (1, 9, 9, 2), conv(r, "x", "y", 2, 3, Window((3, 3), dilations=(2, 3), before=(2, 3), after=(2, 3)))
    ),
    "conv_far_padding": lambda r: _graph(
        (1, 2, 3, 1), conv(r, "x", "y", 1, 2, Window((4, 5), before=(3, 4), after=(3, 4)))
    ),
    "conv_one_pixel": lambda r: _graph((1, 1, 1, 5), conv(r, "x", "y", 5, 3, SAME)),
    "conv_pointwise": lambda r: _graph(
        (1, 4, 4, 6),
        conv(r, "x", "a", 6, 9, Window((1, 1)), relu=True),
        conv(r, "a", "y", 9, 5, Window((1, 1), strides=(2, 2))),
    ),
    "conv_groups": lambda r: _graph((1, 5, 6, 6), conv(r, "x", "y", 6, 9, SAME, groups=3)),
    "conv_depthwise": lambda r: _graph(
        (1, 6, 6, 4),
        conv(r, "x", "a", 4, 4, SAME, groups=4, relu=True),
        conv(r, "a", "y", 4, 8, Window((3, 3), (2, 2), before=(0, 1), after=(1, 0)), groups=4),
    ),
    "conv_groups_pointwise": lambda r: _graph((1, 3, 3, 8), conv(r, "x", "y", 8, 4, Window((1, 1)), groups=2)),
    "conv_planar": lambda r: _graph((1, 3, 6, 5), conv(r, "x", "y", 3, 4, SAME, planar=True)),
    "conv_planar_groups": lambda r: _graph((1, 4, 5, 5), conv(r, "x", "y", 4, 4, SAME, planar=True, groups=2)),
    "conv_1d": lambda r: _graph(
        (1, 1, 16, 3), conv(r, "x", "y", 3, 4, Window((1, 5), (1, 2), before=(0, 2), after=(0, 2)))
    ),
    "conv_transposed": _transposed,
    "conv_batch": lambda r: _graph((2, 4, 4, 2), conv(r, "x", "y", 2, 3, SAME)),
}
