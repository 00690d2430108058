"""Copies, pools and reductions: what is refused, and why, before anything large is made."""

import numpy as np
import pytest
from mcucompile.errors import ModelError, QuantizationError, UserError
from mcucompile.frontends.onnx import graph_from_model
from mcucompile.ir import Format, Source
from mcucompile.lowering import Lowering
from mcucompile.ops import Take
from models_factory import make_model, node

_FAR = 1 << 40
_IMAGE = (1, 2, 6, 6)


def _lists(**lists: list[int]) -> dict[str, np.ndarray]:
    return {name: np.array(values, dtype=np.int64) for name, values in lists.items()}


REFUSED = {
    "far_pad": ([node("Pad", "x p")], _lists(p=[0, 0, 0, _FAR, 0, 0, 0, 0]), "copies along an axis"),
    "far_tile": ([node("Tile", "x r")], _lists(r=[1, 1, 1, _FAR]), "copies along an axis"),
    "far_expand": ([node("Expand", "x s")], _lists(s=[_FAR, 2, 6, 6]), "copies along an axis"),
    "far_resize": (
        [node("Resize", "x - s")], {"s": np.array([1, 1, 1e30, 1], np.float32)}, "copies along an axis",
    ),
    "endless_resize": (
        [node("Resize", "x - s")], {"s": np.array([1, 1, 3e38, 1], np.float32)}, "copies along an axis",
    ),
    "far_pool": (
        [node("MaxPool", "x", kernel_shape=[_FAR, 1], pads=[_FAR, 0, _FAR, 0])], {}, "use a smaller window",
    ),
    "empty": ([node("Slice", "x s e")], _lists(s=[1], e=[1]), "makes an empty output"),
    "still": ([node("Slice", "x s e a t")], _lists(s=[0], e=[1], a=[1], t=[0]), "a step of 0"),
    "outside": ([node("Gather", "x i", axis=1)], _lists(i=[2]), "gathers element 2 of 2"),
    "parts": ([node("Split", "x s", axis=2)], _lists(s=[2, 2]), "splits 6 elements into"),
    "padding_only": (
        [node("MaxPool", "x", kernel_shape=[2, 2], pads=[2, 0, 0, 0])], {}, "sees only the padding",
    ),
    "volume": (
        [node("Reshape", "x s", "v"), node("AveragePool", "v", kernel_shape=[2, 2, 2])],
        _lists(s=[1, 2, 3, 4, 3]), "pools 3 spatial axes",
    ),
    "blocks": ([node("DepthToSpace", "x", blocksize=2)], {}, "makes blocks of 2 of 2 channels"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    nodes, constants, text = REFUSED[name]
    with pytest.raises(UserError) as caught:
        graph_from_model(make_model(nodes, _IMAGE, constants))
    assert text in str(caught.value)
    assert "y_node" in str(caught.value)


def _lowered(fill: float) -> float:
    take = Take(name="t", inputs=("x",), output="t", source=Source("m", "t", "Pad"), indices=((-1, 0),), fill=fill)
    x = np.ones((1, 1), np.float32)
    format_ = Format(8, True, 0.01)
    op = take.lower(Lowering((format_,), (x,), x, False, None, 8, 2, False)).op  # type: ignore[arg-type]
    assert isinstance(op, Take)
    return op.fill


def test_a_fill_becomes_a_code_or_is_refused() -> None:
    assert _lowered(0.5) == 50
    assert _lowered(-1e38) == -128
    assert _lowered(1e38) == 127
    with pytest.raises(QuantizationError, match=r"fills with 3, its input ranges over -1\.28\.\.1\.27"):
        _lowered(3.0)


def test_shapes_that_contradict_are_errors() -> None:
    take = Take(name="t", inputs=("x",), output="t", source=Source("m", "t", "Slice"), indices=((0, 3),))
    with pytest.raises(ModelError, match="chooses elements 0 to 3"):
        take.output_shape((3,))
