"""Uses of the ONNX operators that copy elements."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from models_factory import Array, Case, make_model, node
from onnx import helper

_IMAGE = (1, 4, 6, 8)


def _list(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


def _case(
    op_type: str, shape: tuple[int, ...], constants: Mapping[str, Array], oldest: int, inputs: str, **attributes: Any
) -> Case:
    """An operator of an activation and constants."""
    return Case(
        lambda opset, _random: make_model([node(op_type, inputs, **attributes)], shape, constants, opset=opset),
        shape,
        oldest,
    )


def _slice(starts: list[int], ends: list[int], axes: list[int] | None = None, steps: list[int] | None = None) -> Case:
    """Attributes before opset 10, then inputs."""

    def model(opset: int, _random: np.random.Generator) -> onnx.ModelProto:
        if opset < 10:
            more = {} if axes is None else {"axes": axes}
            return make_model([node("Slice", "x", starts=starts, ends=ends, **more)], _IMAGE, opset=opset)
        lists = {"s": starts, "e": ends, "a": axes, "t": steps}
        given = {name: _list(*values) for name, values in lists.items() if values is not None}
        inputs = " ".join(name if name in given else "-" for name in lists)
        return make_model([node("Slice", f"x {inputs}")], _IMAGE, given, opset=opset)

    return Case(model, _IMAGE, 10 if steps else 7)


def _pad(
    pads: list[int], mode: str, value: float | None = None, oldest: int = 7, shape: tuple[int, ...] = _IMAGE
) -> Case:
    """Attributes before opset 11, then inputs."""

    def model(opset: int, _random: np.random.Generator) -> onnx.ModelProto:
        if opset < 11:
            more = {} if value is None else {"value": value}
            return make_model([node("Pad", "x", pads=pads, mode=mode, **more)], shape, opset=opset)
        constants: dict[str, Array] = {"p": _list(*pads)}
        constants |= {} if value is None else {"v": np.array(value, np.float32)}
        inputs = "x p v" if value is not None else "x p"
        return make_model([node("Pad", inputs, mode=mode)], shape, constants, opset=opset)

    return Case(model, shape, oldest)


def _split(sizes: list[int] | None, axis: int) -> Case:
    """Every part is used: the last two are joined in another order. Sizes are an attribute before opset 13."""

    def model(opset: int, _random: np.random.Generator) -> onnx.ModelProto:
        constants = {} if sizes is None or opset < 13 else {"s": _list(*sizes)}
        attributes: dict[str, Any] = {"axis": axis} | ({"split": sizes} if sizes and opset < 13 else {})
        attributes |= {"num_outputs": 3} if sizes is None and opset >= 18 else {}
        parts = helper.make_node("Split", ["x", *constants], ["a", "b", "c"], name="split", **attributes)
        return make_model([parts, node("Concat", "c a b", axis=axis)], (2, 6, 3), constants, opset=opset)

    return Case(model, (2, 6, 3))


def _resize(scales: list[float] | None = None, sizes: list[int] | None = None, oldest: int = 11, **more: Any) -> Case:
    def model(opset: int, _random: np.random.Generator) -> onnx.ModelProto:
        if opset < 11:
            return make_model([node("Resize", "x s")], _IMAGE, {"s": np.array(scales, np.float32)}, opset=opset)
        constants: dict[str, Array] = {"r": np.zeros(0, np.float32)}
        constants |= {"s": np.array(scales or [], np.float32)} | ({"z": _list(*sizes)} if sizes else {})
        return make_model([node("Resize", f"x r s{' z' if sizes else ''}", **more)], _IMAGE, constants, opset=opset)

    return Case(model, _IMAGE, oldest)


def _concat(axis: int, *others: str, shape: tuple[int, ...] = (2, 3, 4)) -> Case:
    """The input, what others name: "relu", a constant that varies, or one that does not."""

    def model(opset: int, random: np.random.Generator) -> onnx.ModelProto:
        constants = {
            "varied": random.normal(size=shape).astype(np.float32),
            "even": np.full(shape, -0.5, np.float32),
        }
        used = {name: values for name, values in constants.items() if name in others}
        nodes = [node("Relu", "x", "relu")] if "relu" in others else []
        return make_model([*nodes, node("Concat", " ".join(["x", *others]), axis=axis)], shape, used, opset=opset)

    return Case(model, shape, 11 if axis < 0 else 7)


def _scattered(op_type: str, indices: list[list[int]], oldest: int, **attributes: Any) -> Case:
    """Constants written into an input of shape (5, 5)."""
    places = np.array(indices)

    def model(opset: int, random: np.random.Generator) -> onnx.ModelProto:
        updates = random.normal(size=places.shape if op_type == "ScatterElements" else len(places))
        constants = {"i": places, "u": updates.astype(np.float32)}
        return make_model([node(op_type, "x i u", **attributes)], (5, 5), constants, opset=opset)

    return Case(model, (5, 5), oldest)


_REALS = np.float32([[0.5, -2.0]])
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
_COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
MOVEMENT_CASES: dict[str, Case] = {
    "slice": _slice([0, 1, 2, 1], [1, 3, 6, 8]),
    "slice_axes": _slice([1, -3], [3, 1 << 40], [1, 3]),
    "slice_steps": _slice([5, 1], [-(1 << 40), 7], [2, -1], [-2, 3]),
    "pad": _pad([0, 1, 0, 2, 0, 0, 1, 3], "constant"),
    "pad_value": _pad([0, 0, 1, 2, 0, 0, 1, 0], "constant", 0.75),
    "pad_negative": _pad([0, -1, 2, 0, 0, -1, -3, 1], "constant"),
    "pad_edge": _pad([0, 0, 2, 1, 0, 0, 1, 3], "edge"),
    "pad_reflect": _pad([0, 0, 2, 1, 0, 0, 1, 3], "reflect"),
    "pad_wrap": _pad([0, 0, 2, 1, 0, 0, 1, 3], "wrap", oldest=19),
    "pad_axes": _case("Pad", _IMAGE, {"p": _list(1, 2, 0, 3), "a": _list(-1, 1)}, 18, "x p - a"),
    "pad_infinite": Case(
        lambda opset, _random: make_model(
            [
                node("Pad", "x p v", "t"),
                node("MaxPool", "t", kernel_shape=[2, 2]),
            ],
            _IMAGE, {"p": _list(0, 0, 1, 1, 0, 0, 0, 0), "v": np.array(np.finfo(np.float32).min)}, opset=opset,
        ),
        _IMAGE,
        11,
    ),
    "gather_one": _case("Gather", (3, 5), {"i": np.array(1)}, 7, "x i", axis=1),
    "gather_negative": _case("Gather", (3, 5), {"i": np.array([[0, -1], [2, 2]])}, 11, "x i", axis=1),
    "gather_first": _case("Gather", (3, 5), {"i": np.array([2, 0], np.int32)}, 7, "x i"),
    "gather_elements": _case("GatherElements", (3, 5), {"i": np.array([[0, -1], [2, 2]])}, 11, "x i", axis=1),
    "gather_nd": _case("GatherND", (3, 5, 2), {"i": np.array([[[0, -1]], [[2, 2]]])}, 11, "x i"),
    "scatter": Case(
        lambda opset, _random: make_model(
            [node("Scatter", "x i u", axis=1)], (2, 5), {"i": np.array([[1, 4]]), "u": _REALS}, opset=opset
        ),
        (2, 5), 9, 10,
    ),
    "scatter_elements": _scattered("ScatterElements", [[1, -1], [0, 0]], 11, axis=1),
    "scatter_elements_add": _scattered("ScatterElements", [[1, 4], [0, 0]], 16, axis=1, reduction="add"),
    "scatter_elements_mul": _scattered("ScatterElements", [[1, 4], [0, 0]], 16, axis=0, reduction="mul"),
    "scatter_nd": _scattered("ScatterND", [[1, 4], [0, -2]], 11),
    "scatter_nd_add": _scattered("ScatterND", [[1, 4], [1, 4]], 16, reduction="add"),
    "scatter_into_constant": Case(
        lambda opset, random: make_model(
            [node("ScatterND", "d i x")], (2, 3),
            {"d": random.normal(size=(4, 3)).astype(np.float32), "i": np.array([[3], [0]])}, opset=opset,
        ),
        (2, 3), 11,
    ),
    "split": _split(None, 1),
    "split_sizes": _split([1, 3, 2], 1),
    "concat_relu": _concat(1, "relu", "relu"),
    "concat_constant": _concat(-1, "varied", "relu"),
    "concat_even_constant": _concat(0, "even"),
    "expand": _case("Expand", (3, 1), {"s": _list(2, 1, 4)}, 8, "x s"),
    "expand_not": _case("Expand", (3, 2), {"s": _list(1, 1)}, 8, "x s"),
    "tile": _case("Tile", (2, 3), {"s": _list(2, 3)}, 7, "x s"),
    "depth_to_space": _case("DepthToSpace", (2, 8, 2, 3), {}, 7, "x", blocksize=2),
    "depth_to_space_crd": _case("DepthToSpace", (2, 8, 2, 3), {}, 11, "x", blocksize=2, mode="CRD"),
    "space_to_depth": _case("SpaceToDepth", (2, 3, 4, 6), {}, 7, "x", blocksize=2),
    "compress": _case("Compress", (3, 4), {"c": np.array([True, False, True])}, 9, "x c", axis=0),
    "compress_flat": _case("Compress", (3, 4), {"c": np.array([False, True, False, True, True])}, 9, "x c"),
    "center_crop_pad": _case("CenterCropPad", (3, 4, 9), {"s": _list(6, 4)}, 18, "x s", axes=[1, 2]),
    "reverse_sequence": _case(
        "ReverseSequence", (4, 3, 2), {"l": _list(4, 2, 1)}, 10, "x l", time_axis=0, batch_axis=1
    ),
    "upsample": Case(
        lambda opset, _random: make_model([node("Upsample", "x", scales=[1.0, 1.0, 2.0, 3.0])], _IMAGE, opset=opset),
        _IMAGE, 7, 8,
    ),
    "upsample_input": Case(
        lambda opset, _random: make_model(
            [node("Upsample", "x s")], _IMAGE, {"s": np.array([1, 1, 2, 1.5], np.float32)}, opset=opset
        ),
        _IMAGE, 9, 9,
    ),
    "resize_10": Case(_resize([1, 1, 2, 1.5]).model, _IMAGE, 10, 10),
    "resize_10_down": Case(_resize([1, 1, 0.5, 0.6]).model, _IMAGE, 10, 10),
    **{
        f"resize_{coordinates}_{rounding}": _resize(
            [1, 1, 1.7, 0.6], coordinate_transformation_mode=coordinates, nearest_mode=rounding
        )
        for coordinates in _COORDINATES
        for rounding in _ROUNDINGS
    },
    "resize_twice": _resize([1, 1, 2, 2], coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    "resize_sizes": _resize(sizes=[1, 4, 9, 3]),
    **{
        f"resize_{mode}_{coordinates}": _resize(
            sizes=[1, 4, 10, 5], mode=mode, coordinate_transformation_mode=coordinates
        )
        for mode in ("linear", "cubic")
        for coordinates in _COORDINATES
    },
    "resize_linear_scales": _resize([1, 1, 1.7, 0.6], mode="linear"),
    "resize_cubic_inside": _resize([1, 1, 1.7, 0.6], mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5),
    "resize_linear_antialias": _resize([1, 1, 0.4, 0.5], oldest=18, mode="linear", antialias=1),
    "upsample_linear": Case(
        lambda opset, _random: make_model(
            [node("Upsample", "x s", mode="linear")], _IMAGE, {"s": np.array([1, 1, 2, 2], np.float32)}, opset=opset
        ),
        _IMAGE, 9, 9,
    ),
    "resize_symmetric": _resize([1, 1, 1.7, 0.6], oldest=19, coordinate_transformation_mode="half_pixel_symmetric"),
    "resize_not_larger": Case(
        lambda opset, _random: make_model(
            [node("Resize", "x - - z", axes=[2, 3], keep_aspect_ratio_policy="not_larger")],
            _IMAGE, {"z": _list(9, 10)}, opset=opset,
        ),
        _IMAGE, 18,
    ),
    "resize_cropped": Case(
        lambda opset, _random: make_model(
            [
                node(
                    "Resize", "x r - z", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=0.25
                )
            ],
            _IMAGE,
            {"r": np.array([0, 0, 0.2, -0.3, 1, 1, 0.9, 1.2], np.float32), "z": _list(1, 4, 5, 9)},
            opset=opset,
        ),
        _IMAGE, 13,
    ),
}  # fmt: skip
