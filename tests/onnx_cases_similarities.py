"""Uses of the layers that compare instead of multiplying, for test_onnx_frontend: each similarity and geometry."""

from typing import Any

import numpy as np
import onnx
from mcucompile.similarities.onnx_functions import DOMAIN, ONNX_FACES, function_of, node_type
from models_factory import Array, Case, make_model, node

Random = np.random.Generator
_OPSET = 21
_WINDOWS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((1, 2, 5, 6), (3, 2, 3, 2), {}),
    "padded": ((1, 2, 5, 6), (3, 2, 3, 3), {"pads": [1, 0, 2, 1]}),
    "strided": ((1, 3, 7, 6), (4, 3, 3, 2), {"strides": [2, 3], "pads": [1, 1, 1, 1]}),
    "dilated": ((1, 2, 7, 7), (3, 2, 2, 3), {"dilations": [2, 1], "pads": [0, 1, 0, 1]}),
    "groups": ((1, 4, 5, 5), (6, 2, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "depthwise": ((1, 3, 4, 4), (3, 1, 3, 3), {"group": 3, "pads": [1, 1, 1, 1]}),
    "1d": ((1, 2, 9), (3, 2, 3), {"pads": [1, 1], "strides": [2]}),
}


def _weight(random: Random, similarity: str, shape: tuple[int, ...]) -> Array:
    weight = random.normal(0, 0.7, shape)
    if similarity == "binary":
        weight = np.where(weight < 0, -1, 1)
    elif similarity == "ternary":
        weight = np.sign(weight) * (np.abs(weight) > 0.4)
    return np.clip(weight, -np.pi / 2, np.pi / 2).astype(np.float32)


def _conv(similarity: str, x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any]) -> Case:
    """With a bias, as the exporter writes it: an Add."""
    spatial = len(w) - 2
    window = {"strides": [1] * spatial, "pads": [0] * (2 * spatial), "dilations": [1] * spatial, "group": 1}

    def model(_opset: int, random: Random) -> onnx.ModelProto:
        kind = node_type(similarity, "Conv")
        constants = {
            "w": _weight(random, similarity, w),
            "b": random.normal(size=(w[0], *(1,) * spatial)).astype(np.float32),
        }
        nodes = [node(kind, "x w", "s", domain=DOMAIN, **{**window, **attributes}), node("Add", "s b")]
        return make_model(nodes, ("N", *x[1:]), constants, opset=_OPSET, functions=[function_of(kind)])

    return Case(model, x, oldest=_OPSET)


def _linear(similarity: str, x: tuple[int, ...]) -> Case:
    def model(_opset: int, random: Random) -> onnx.ModelProto:
        kind = node_type(similarity, "Linear")
        constants = {"w": _weight(random, similarity, (4, x[-1]))}
        nodes = [node(kind, "x w", "y", domain=DOMAIN)]
        return make_model(nodes, ("N", *x[1:]), constants, opset=_OPSET, functions=[function_of(kind)])

    return Case(model, x, oldest=_OPSET)


SIMILARITY_CASES: dict[str, Case] = {
    **{
        f"{similarity}_conv_{name}": _conv(similarity, *geometry)
        for similarity in ONNX_FACES
        for name, geometry in _WINDOWS.items()
        if name != "dilated" or similarity in ("adder", "binary")
    },
    **{f"{similarity}_linear": _linear(similarity, (1, 7)) for similarity in ONNX_FACES},
    "adder_linear_rows": _linear("adder", (1, 3, 7)),
}
