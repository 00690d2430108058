"""Uses of every ONNX operator that the front-end converts, by name: the cases of test_onnx_frontend."""

from typing import Any

import numpy as np
import onnx
from mcucompile.ops.four_view_function import four_view_function
from models_factory import Array, Case, make_model, node
from onnx import TensorProto, helper
from onnx.helper import make_node
from onnx_cases_elementwise import ELEMENTWISE_CASES
from onnx_cases_linear_maps import LINEAR_MAP_CASES
from onnx_cases_movement import MOVEMENT_CASES
from onnx_cases_recurrent import RECURRENT_CASES
from onnx_cases_similarities import SIMILARITY_CASES
from onnx_cases_windows import WINDOW_CASES

Random = np.random.Generator


def _float(random: Random, *shape: int) -> Array:
    return random.normal(size=shape).astype(np.float32)


def _gemm(shape: tuple[int, int], bias: tuple[int, ...] | None, left: bool = False, **attributes: Any) -> Case:
    """Gemm of an activation (or, left, a constant) and a constant matrix of `shape`."""
    rows = 2
    inner = shape[1] if attributes.get("transB") and not left else shape[0]
    if left:
        inner = shape[0] if attributes.get("transA") else shape[1]

    def model(opset: int, random: Random) -> onnx.ModelProto:
        constants = {"w": _float(random, *shape)}
        # Before opset 11 the addend is required.
        if bias is not None or opset < 11:
            constants["c"] = _float(random, *(bias or ()))
        inputs = ("w x" if left else "x w") + (" c" if "c" in constants else "")
        return make_model([node("Gemm", inputs, **attributes)], activation, constants, opset=opset)

    if left:
        activation = (3, inner) if attributes.get("transB") else (inner, 3)
    else:
        activation = (inner, rows) if attributes.get("transA") else (rows, inner)
    return Case(model, activation)


def _matmul(x: tuple[int, ...], w: tuple[int, ...], left: bool = False) -> Case:
    return Case(
        lambda opset, random: make_model(
            [node("MatMul", "w x" if left else "x w")], x, {"w": _float(random, *w)}, opset=opset
        ),
        x,
    )


def _binary(op_type: str, x: tuple[int, ...], c: tuple[int, ...], left: bool = False) -> Case:
    """An activation and a constant away from zero."""

    def model(opset: int, random: Random) -> onnx.ModelProto:
        constant = np.asarray(random.choice([-1, 1], c) * random.uniform(0.5, 2, c), dtype=np.float32)
        return make_model([node(op_type, "c x" if left else "x c")], x, {"c": constant}, opset=opset)

    return Case(model, x)


def _two(op_type: str) -> Case:
    """Two activations of one shape."""
    return Case(
        lambda opset, random: make_model(
            [node("MatMul", "x v", "a"), node("Relu", "x", "b"), node(op_type, "a b")],
            (1, 6), {"v": _float(random, 6, 6)}, opset=opset,
        ),
        (1, 6),
    )  # fmt: skip


def _same(op_type: str, shape: tuple[int, ...], oldest: int = 7, **attributes: Any) -> Case:
    """An operator of one activation with attributes only."""
    output = TensorProto.INT64 if op_type in ("ArgMax", "ArgMin") else TensorProto.FLOAT
    return Case(
        lambda opset, _random: make_model([node(op_type, "x", **attributes)], shape, opset=opset, output_type=output),
        shape,
        oldest,
    )


def _with_list(op_type: str, shape: tuple[int, ...], values: list[int], oldest: int = 7, **attributes: Any) -> Case:
    """An operator with a list of integers: an initializer."""
    return Case(
        lambda opset, _random: make_model(
            [node(op_type, "x s", **attributes)], shape, {"s": np.array(values, dtype=np.int64)}, opset=opset
        ),
        shape,
        oldest,
    )


def _axes(op_type: str, shape: tuple[int, ...], axes: list[int], oldest: int = 7) -> Case:
    """Squeeze or Unsqueeze: axes are an attribute before opset 13, then an input."""

    def model(opset: int, _random: Random) -> onnx.ModelProto:
        if opset < 13:
            return make_model([node(op_type, "x", axes=axes)], shape, opset=opset)
        return make_model([node(op_type, "x s")], shape, {"s": np.array(axes, dtype=np.int64)}, opset=opset)

    return Case(model, shape, oldest)


def _conv(x: tuple[int, ...], w: tuple[int, ...], oldest: int = 7, *, bias: bool = True, **attributes: Any) -> Case:
    """Convolution of planes."""

    def model(opset: int, random: Random) -> onnx.ModelProto:
        constants = {"w": _float(random, *w)} | ({"b": _float(random, w[0])} if bias else {})
        return make_model([node("Conv", "x w b" if bias else "x w", **attributes)], x, constants, opset=opset)

    return Case(model, x, oldest)


def _conv_transpose(x: tuple[int, ...], w: tuple[int, ...], oldest: int = 7, **attributes: Any) -> Case:
    """Transposed convolution of planes."""

    def model(opset: int, random: Random) -> onnx.ModelProto:
        constants = {"w": _float(random, *w), "b": _float(random, w[1] * attributes.get("group", 1))}
        return make_model([node("ConvTranspose", "x w b", **attributes)], x, constants, opset=opset)

    return Case(model, x, oldest)


def _conv_bn_add(opset: int, random: Random) -> onnx.ModelProto:
    """A residual block: the transpositions around its convolutions cancel."""
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "a s b m v", "n"),
        node("Relu", "n", "r"),
        node("Conv", "r w2", "c", pads=[1, 1, 1, 1]),
        node("Add", "c n", "d"),
        node("Relu", "d", "e"),
        node("Flatten", "e", "f"),
        node("MatMul", "f g"),
    ]
    constants = {name: _float(random, 4) for name in "sbm"} | {"v": np.float32(random.uniform(0.1, 2, 4))}
    constants |= {"w": _float(random, 4, 3, 3, 3), "w2": _float(random, 4, 4, 3, 3), "g": _float(random, 4 * 20, 3)}
    return make_model(nodes, (1, 3, 5, 4), constants, opset=opset)


def _batch_norm(shape: tuple[int, ...], **attributes: Any) -> Case:
    def model(opset: int, random: Random) -> onnx.ModelProto:
        c = shape[1]
        constants = {name: _float(random, c) for name in "smb"} | {"v": np.float32(random.uniform(0.1, 2, c))}
        return make_model([node("BatchNormalization", "x s b m v", **attributes)], shape, constants, opset=opset)

    return Case(model, shape)


def _dropout(opset: int, _random: Random) -> onnx.ModelProto:
    if opset < 12:
        return make_model([node("Dropout", "x", ratio=0.3)], (1, 5), opset=opset)
    constants = {"r": np.array(0.3, np.float32), "t": np.array(False)}
    return make_model([node("Dropout", "x r t")], (1, 5), constants, opset=opset)


def _cast(element_type: int, dtype: type, *, through: int | None = None) -> Case:
    """Raw integers cast to float and used."""

    def model(opset: int, random: Random) -> onnx.ModelProto:
        first = [] if through is None else [node("Cast", "x", "i", to=through)]
        nodes = [*first, node("Cast", "i" if first else "x", "f", to=TensorProto.FLOAT), node("MatMul", "f w")]
        return make_model(nodes, (1, 8), {"w": _float(random, 8, 3)}, opset=opset, element_type=element_type)

    return Case(model, (1, 8), dtype=dtype)


def _shape_arithmetic(opset: int, _random: Random) -> onnx.ModelProto:
    """x.view(x.size(0), -1) as torch's older exporter writes it; the batch is symbolic."""
    unsqueeze = (
        [node("Unsqueeze", "n", "n1", axes=[0])] if opset < 13 else [node("Unsqueeze", "n zeros", "n1")]
    )  # fmt: skip
    nodes = [
        node("Shape", "x", "s"), node("Gather", "s zero", "n", axis=0), *unsqueeze,
        node("Concat", "n1 rest", "t", axis=0), node("Reshape", "x t"),
    ]  # fmt: skip
    constants = {"zero": np.array(0), "zeros": np.array([0]), "rest": np.array([-1])}
    return make_model(nodes, ("N", 2, 3), constants, opset=opset)


def _sliced_shape(opset: int, _random: Random) -> onnx.ModelProto:
    """A shape made of slices of another one, multiplied and divided."""
    nodes = [
        node("Shape", "x", "s"), node("Slice", "s one two", "rows"), node("Slice", "s two three", "columns"),
        node("Mul", "rows columns", "area"), node("Div", "area two", "half"), node("Cast", "half", "f", to=1),
        node("Cast", "f", "whole", to=7), node("Concat", "minus whole", "t", axis=0), node("Reshape", "x t"),
    ]  # fmt: skip
    constants = {"one": np.array([1]), "two": np.array([2]), "three": np.array([3]), "minus": np.array([-1])}
    return make_model(nodes, (None, 4, 6), constants, opset=opset)


def _filled(opset: int, _random: Random) -> onnx.ModelProto:
    """A constant made by ConstantOfShape, and one by a Constant node."""
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.5])
    nodes = [
        node("ConstantOfShape", "s", "c", value=value),
        make_node("Constant", [], ["d"], value=helper.make_tensor("d", TensorProto.FLOAT, [], [-2.0])),
        node("Add", "x c", "a"), node("Mul", "a d"),
    ]  # fmt: skip
    return make_model(nodes, (1, 4), {"s": np.array([1, 4])}, opset=opset)


def _constant_forms(opset: int, _random: Random) -> onnx.ModelProto:
    nodes = [
        make_node("Constant", [], ["i"], value_ints=[1, -1]),
        make_node("Constant", [], ["f"], value_float=0.5),
        make_node("Constant", [], ["g"], value_floats=[0.5, 2.0, 3.0, 4.0]),
        node("Reshape", "x i", "a"), node("Mul", "a f", "b"), node("Add", "b g"),
    ]  # fmt: skip
    return make_model(nodes, (2, 2), opset=opset)


def _four_view(opset: int, _random: Random) -> onnx.ModelProto:
    return make_model(
        [node("FourView", "x", domain="mcucompile", zone_height=3, zone_width=2, shift=1)], ("N", 6, 8),
        opset=opset, element_type=TensorProto.UINT8, functions=[four_view_function()],
    )  # fmt: skip


def _function(opset: int, random: Random) -> onnx.ModelProto:
    """Two functions, one calling the other, with an attribute and a name used on both sides."""
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    inner = helper.make_function("local", "Twice", ["x"], ["y"], [node("Add", "x x")], imports)
    flatten = make_node("Flatten", ["t"], ["y"])
    flatten.attribute.append(onnx.AttributeProto(name="axis", ref_attr_name="start", type=onnx.AttributeProto.INT))
    body = [node("Twice", "x", "t", domain="local"), flatten]
    outer = helper.make_function("local", "Outer", ["x"], ["y"], body, imports, ["start"])
    nodes = [node("Outer", "x", "t", domain="local", start=1), node("MatMul", "t w")]
    return make_model(nodes, ("N", 2, 3), {"w": _float(random, 6, 4)}, opset=opset, functions=[inner, outer])


def _mlp(opset: int, random: Random) -> onnx.ModelProto:
    nodes = [
        node("Cast", "x", "f", to=1), node("Flatten", "f", "a"), node("MatMul", "a w1", "b"), node("Add", "b b1", "c"),
        node("BatchNormalization", "c s o m v", "d"), node("Relu", "d", "e"),
        node("Gemm", "e w2 b2", "g", transB=1), node("Softmax", "g"),
    ]  # fmt: skip
    constants = {"w1": _float(random, 20, 8) / 500, "b1": _float(random, 8), "w2": _float(random, 5, 8)}
    constants |= {name: _float(random, 8) for name in "som"} | {"v": np.ones(8, np.float32), "b2": _float(random, 5)}
    return make_model(nodes, ("N", 4, 5), constants, opset=opset, element_type=TensorProto.UINT8)


CASES: dict[str, Case] = {
    "conv": _conv((1, 3, 7, 6), (4, 3, 3, 2)),
    "conv_pads": _conv((1, 3, 7, 6), (4, 3, 3, 2), pads=[1, 0, 2, 1], strides=[2, 1], kernel_shape=[3, 2]),
    "conv_no_bias": _conv((1, 2, 5, 5), (3, 2, 3, 3), bias=False, auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv_same_lower": _conv((1, 2, 6, 6), (3, 2, 3, 3), auto_pad="SAME_LOWER", strides=[2, 2]),
    "conv_valid": _conv((1, 2, 6, 6), (3, 2, 3, 3), auto_pad="VALID"),
    "conv_dilated": _conv((1, 2, 9, 9), (3, 2, 3, 3), dilations=[2, 3], pads=[1, 2, 0, 1]),
    "conv_groups": _conv((1, 6, 5, 5), (4, 3, 3, 3), group=2),
    "conv_depthwise": _conv((1, 4, 6, 6), (8, 1, 3, 3), group=4, pads=[1, 1, 1, 1]),
    "conv_1d": _conv((1, 3, 12), (4, 3, 5), strides=[2], pads=[2, 1], dilations=[2]),
    "conv_transpose": _conv_transpose((1, 3, 5, 4), (3, 4, 3, 2)),
    "conv_transpose_strided": _conv_transpose(
        (1, 3, 5, 4), (3, 4, 3, 2), strides=[2, 3], pads=[1, 0, 2, 1], output_padding=[1, 2]
    ),
    "conv_transpose_dilated": _conv_transpose((1, 2, 5, 4), (2, 3, 3, 2), strides=[2, 2], dilations=[2, 3]),
    "conv_transpose_groups": _conv_transpose((1, 4, 5, 4), (4, 3, 3, 3), group=2, strides=[2, 1], pads=[1, 1, 1, 1]),
    "conv_transpose_depthwise": _conv_transpose((1, 4, 5, 4), (4, 1, 4, 4), group=4, strides=[2, 2]),
    "conv_transpose_small_kernel": _conv_transpose((1, 2, 4, 4), (2, 3, 2, 1), strides=[3, 2], output_padding=[2, 1]),
    "conv_transpose_far_pads": _conv_transpose((1, 2, 6, 6), (2, 3, 2, 2), strides=[2, 2], pads=[3, 2, 4, 1]),
    "conv_transpose_shape": _conv_transpose((1, 2, 4, 4), (2, 3, 3, 3), strides=[3, 2], output_shape=[10, 8]),
    "conv_transpose_shape_uneven": _conv_transpose((1, 2, 4, 4), (2, 3, 4, 4), strides=[2, 2], output_shape=[7, 9]),
    **{
        f"conv_transpose_{automatic.lower()}": _conv_transpose(
            (1, 2, 4, 5), (2, 3, 4, 5), strides=[3, 2], auto_pad=automatic
        )
        for automatic in ("SAME_UPPER", "SAME_LOWER", "VALID")
    },
    "conv_transpose_double": _conv_transpose((1, 3, 4, 5), (3, 4, 2, 2), strides=[2, 2]),
    "conv_transpose_blocks": _conv_transpose(
        (2, 2, 4, 5), (2, 3, 6, 4), strides=[3, 2], pads=[2, 1, 1, 3], output_padding=[2, 1]
    ),
    "conv_transpose_blocks_groups": _conv_transpose(
        (1, 4, 3, 4), (4, 3, 4, 3), group=2, strides=[2, 1], pads=[1, 1, 1, 1]
    ),
    "conv_transpose_blocks_larger": _conv_transpose((1, 2, 3, 3), (2, 3, 2, 2), strides=[2, 2], output_shape=[7, 6]),
    "conv_transpose_blocks_1d": _conv_transpose((1, 3, 6), (3, 4, 4), strides=[2], pads=[1, 1]),
    "conv_transpose_1d": _conv_transpose((1, 3, 6), (3, 4, 5), strides=[2], pads=[2, 1], output_padding=[1]),
    "conv_bn_add": Case(_conv_bn_add, (1, 3, 5, 4)),
    "gemm": _gemm((4, 5), (5,)),
    "gemm_no_bias": _gemm((4, 5), None),
    "gemm_row_bias": _gemm((4, 5), (1, 5)),
    "gemm_column_bias": _gemm((4, 5), (2, 1)),
    "gemm_full_bias": _gemm((4, 5), (2, 5)),
    "gemm_scalar_bias": _gemm((4, 5), ()),
    "gemm_scaled": _gemm((5, 4), (5,), transB=1, alpha=0.5, beta=-2.0),
    "gemm_transposed": _gemm((4, 5), (5,), transA=1),
    "gemm_left": _gemm((4, 5), (3,), left=True),
    "gemm_left_transposed": _gemm((5, 4), (4, 1), left=True, transA=1, transB=1, alpha=2.0),
    "matmul": _matmul((1, 6), (6, 4)),
    "matmul_rows": _matmul((2, 3, 6), (6, 4)),
    "matmul_vector": _matmul((2, 6), (6,)),
    "matmul_of_vector": _matmul((6,), (6, 4)),
    "matmul_widened": _matmul((2, 6), (1, 1, 6, 4)),
    "matmul_left": _matmul((6, 3), (4, 6), left=True),
    "matmul_left_column": _matmul((1, 6, 1), (4, 6), left=True),
    "matmul_left_batch": _matmul((2, 6, 3), (4, 6), left=True),
    "matmul_left_vector": _matmul((2, 6, 3), (6,), left=True),
    "matmul_left_of_vector": _matmul((6,), (4, 6), left=True),
    **{
        f"{op.lower()}_{name}": _binary(op, x, c, left)
        for op in ("Add", "Sub", "Mul", "Div")
        for name, x, c, left in (
            ("scalar", (1, 6), (), False),
            ("vector", (1, 6), (6,), False),
            ("channel", (2, 3, 4), (3, 1), False),
            ("image", (1, 3, 4), (3, 4), False),
            ("outer", (2, 3, 4), (2, 1, 4), False),
            ("left", (1, 6), (1, 6), True),
        )
        if not (op == "Div" and left)
    },
    "add_activations": _two("Add"),
    "sub_activations": _two("Sub"),
    "relu": _same("Relu", (2, 3, 4)),
    "flatten": _same("Flatten", (2, 3, 4)),
    "flatten_0": _same("Flatten", (2, 3, 4), axis=0),
    "flatten_3": _same("Flatten", (2, 3, 4), axis=3),
    "flatten_negative": _same("Flatten", (2, 3, 4), 11, axis=-1),
    "reshape": _with_list("Reshape", (2, 3, 4), [4, 6]),
    "reshape_inferred": _with_list("Reshape", (2, 3, 4), [2, -1]),
    "reshape_copied": _with_list("Reshape", (2, 3, 4), [0, -1]),
    "reshape_allowzero": _with_list("Reshape", (2, 3, 4), [6, -1], 14, allowzero=1),
    "transpose": _same("Transpose", (2, 3, 4)),
    "transpose_last": _same("Transpose", (2, 3, 4), perm=[0, 2, 1]),
    "transpose_ones": _same("Transpose", (1, 3, 4), perm=[1, 0, 2]),
    "squeeze": _axes("Squeeze", (1, 3, 1, 4), [0, 2]),
    "squeeze_negative": _axes("Squeeze", (1, 3, 1, 4), [-2], 11),
    "squeeze_all": _same("Squeeze", (1, 3, 1, 4)),
    "unsqueeze": _axes("Unsqueeze", (3, 4), [0, 3]),
    "unsqueeze_negative": _axes("Unsqueeze", (3, 4), [-1], 11),
    "batch_norm": _batch_norm((1, 5)),
    "batch_norm_image": _batch_norm((2, 3, 4, 5), epsilon=0.1, momentum=0.5),
    "softmax": _same("Softmax", (1, 7)),
    "softmax_axis": _same("Softmax", (3, 7), axis=1),
    "softmax_image": _same("Softmax", (2, 3, 4), axis=2),
    "softmax_trailing_ones": _same("Softmax", (2, 3, 1, 1), axis=1),
    "softmax_negative": _same("Softmax", (2, 3, 4), 11, axis=-1),
    "softmax_flattening": Case(_same("Softmax", (2, 3, 4)).model, (2, 3, 4), newest=12),
    "argmax": _same("ArgMax", (2, 7), axis=1),
    "argmax_dropped": _same("ArgMax", (2, 7), axis=1, keepdims=0),
    "argmax_trailing_ones": _same("ArgMax", (2, 7, 1), axis=1),
    "argmax_trailing_ones_dropped": _same("ArgMax", (2, 7, 1), axis=1, keepdims=0),
    "argmax_first": _same("ArgMax", (2, 7, 3), axis=0),
    "argmax_middle": _same("ArgMax", (2, 7, 3), axis=1, keepdims=0),
    "argmax_last_of_equals": Case(
        lambda opset, _random: make_model(
            [node("Relu", "x", "r"), node("ArgMax", "r", axis=1, select_last_index=1)],
            (2, 9),
            opset=opset,
            output_type=TensorProto.INT64,
        ),
        (2, 9),
        12,
    ),
    "argmin": _same("ArgMin", (2, 7), axis=1),
    "argmax_negative": _same("ArgMax", (2, 7), 11, axis=-1),
    "identity": _same("Identity", (1, 4)),
    "dropout": Case(_dropout, (1, 5)),
    "cast_uint8": _cast(TensorProto.UINT8, np.uint8),
    "cast_int8": _cast(TensorProto.INT8, np.int8),
    "cast_int32": _cast(TensorProto.UINT8, np.uint8, through=TensorProto.INT32),
    "shape_arithmetic": Case(_shape_arithmetic, (1, 2, 3)),
    "sliced_shape": Case(_sliced_shape, (1, 4, 6), oldest=10),
    "constant_of_shape": Case(_filled, (1, 4), oldest=9),
    "constant_forms": Case(_constant_forms, (2, 2), oldest=12),
    "four_view": Case(_four_view, (1, 6, 8), oldest=21, dtype=np.uint8),
    "function": Case(_function, (1, 2, 3), oldest=13),
    "mlp": Case(_mlp, (1, 4, 5), dtype=np.uint8),
    **WINDOW_CASES,
    **LINEAR_MAP_CASES,
    **MOVEMENT_CASES,
    **ELEMENTWISE_CASES,
    **RECURRENT_CASES,
    **SIMILARITY_CASES,
}
