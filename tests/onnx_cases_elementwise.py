"""Uses of every element-wise ONNX operator that the front-end converts."""

from typing import Any

import numpy as np
import onnx
from models_factory import Array, Case, make_model, node

Random = np.random.Generator
# Of functions that are not defined everywhere: what brings the input into their domain.
_INTO_DOMAIN = {
    "Acos": ("Tanh", ()),
    "Asin": ("Tanh", ()),
    "Atanh": ("Tanh", ("half",)),
    "Acosh": ("Abs", ("above",)),
    "Log": ("Abs", ("above",)),
    "Sqrt": ("Abs", ()),
    "Reciprocal": ("Abs", ("above",)),
}
_BATCH = np.random.default_rng(6).normal(size=(2, 4, 5)).astype(np.float32)
_CONSTANTS: dict[str, Array] = {"half": np.float32(0.5), "above": np.float32(1.25)}


def _unary(op_type: str, oldest: int = 7, **attributes: Any) -> Case:
    def model(opset: int, _random: Random) -> onnx.ModelProto:
        first, shifts = _INTO_DOMAIN.get(op_type, (None, ()))
        if first is None:
            return make_model([node(op_type, "x", **attributes)], (2, 5), opset=opset)
        nodes = [node(first, "x", "a")]
        if shifts:
            nodes.append(node("Mul" if shifts[0] == "half" else "Add", f"a {shifts[0]}", "b"))
        nodes.append(node(op_type, nodes[-1].output[0], **attributes))
        return make_model(nodes, (2, 5), {name: _CONSTANTS[name] for name in shifts}, opset=opset)

    return Case(model, (2, 5), oldest)


def _clip(low: float | None, high: float | None) -> Case:
    """Limits are attributes before opset 11, then inputs."""

    def model(opset: int, _random: Random) -> onnx.ModelProto:
        limits = {name: value for name, value in (("min", low), ("max", high)) if value is not None}
        if opset < 11:
            return make_model([node("Clip", "x", **limits)], (1, 9), opset=opset)
        inputs = f"x {'-' if low is None else 'min'} {'-' if high is None else 'max'}"
        constants = {name: np.float32(value) for name, value in limits.items()}
        return make_model([node("Clip", inputs)], (1, 9), constants, opset=opset)

    return Case(model, (1, 9))


def _power(exponent: float, *, base: bool = False) -> Case:
    def model(opset: int, _random: Random) -> onnx.ModelProto:
        nodes = [node("Abs", "x", "a"), node("Add", "a above", "b"), node("Pow", "p b" if base else "b p")]
        return make_model(nodes, (1, 6), {"p": np.float32(exponent), "above": np.float32(0.5)}, opset=opset)

    return Case(model, (1, 6))


def _several(op_type: str, *shapes: tuple[int, ...], oldest: int = 7, constant: Array | None = None) -> Case:
    """Activations of some shapes made of one input, and a constant."""
    size = 12

    def model(opset: int, random: Random) -> onnx.ModelProto:
        nodes, constants, names = [], {}, []
        for i, shape in enumerate(shapes):
            constants[f"w{i}"] = random.normal(0, 0.2, (size, int(np.prod(shape)))).astype(np.float32)
            constants[f"s{i}"] = np.array(shape)
            nodes += [node("MatMul", f"x w{i}", f"m{i}"), node("Reshape", f"m{i} s{i}", f"a{i}")]
            names.append(f"a{i}")
        if constant is not None:
            constants["c"] = constant
            names.insert(1, "c")
        return make_model([*nodes, node(op_type, " ".join(names))], (1, size), constants, opset=opset)

    return Case(model, (1, size), oldest)


def _square_root_of_quotient(opset: int, _random: Random) -> onnx.ModelProto:
    nodes = [
        node("Exp", "x", "a"), node("Add", "a above", "b"), node("Div", "x b", "c"), node("Div", "above b", "d"),
        node("Mul", "c d"),
    ]  # fmt: skip
    return make_model(nodes, (1, 6), {"above": np.float32(0.5)}, opset=opset)


def _prelu(shape: tuple[int, ...], slope: tuple[int, ...]) -> Case:
    return Case(
        lambda opset, random: make_model(
            [node("PRelu", "x s")], shape, {"s": random.normal(size=slope).astype(np.float32)}, opset=opset
        ),
        shape,
    )


def _where(x: tuple[int, ...], condition: tuple[int, ...], *, left: bool, both: bool = False) -> Case:
    def model(opset: int, random: Random) -> onnx.ModelProto:
        mask = random.random(condition) < 0.5
        # Both values: what is always chosen needs no operator.
        mask.flat[0], mask.flat[-1] = True, False
        constants = {"m": mask, "c": random.normal(size=x[-1:]).astype(np.float32)}
        nodes = [node("Tanh", "x", "t"), node("Where", "m t x" if both else "m x c" if left else "m c x")]
        return make_model(nodes, x, constants, opset=opset)

    return Case(model, x, 9)


def _norm(op_type: str, x: tuple[int, ...], *constants: tuple[int, ...], oldest: int = 7, **attributes: Any) -> Case:
    def model(opset: int, random: Random) -> onnx.ModelProto:
        names = [f"c{i}" for i in range(len(constants))]
        values = {name: random.normal(size=n).astype(np.float32) for name, n in zip(names, constants, strict=True)}
        return make_model([node(op_type, " ".join(["x", *names]), **attributes)], x, values, opset=opset)

    return Case(model, x, oldest)


def _where_compared(op_type: str, oldest: int) -> Case:
    """Chosen by a comparison of two activations, equal in a third of all elements."""

    def model(opset: int, _random: Random) -> onnx.ModelProto:
        nodes = [
            node("Relu", "x", "r"),
            node(op_type, "r x", "c"),
            node("Not", "c", "n"),
            node("Where", "n half x"),
        ]
        return make_model(nodes, (2, 9), {"half": np.float32(0.5)}, opset=opset)

    return Case(model, (2, 9), oldest)


def _where_both(op_type: str) -> Case:
    """Chosen by two comparisons, and a cast of truth values."""

    def model(opset: int, _random: Random) -> onnx.ModelProto:
        nodes = [
            node("Greater", "x low", "a"), node("Less", "x high", "b"), node(op_type, "a b", "c"),
            node("Where", "c x low", "d"), node("Cast", "c", "e", to=onnx.TensorProto.FLOAT), node("Add", "d e"),
        ]  # fmt: skip
        return make_model(nodes, (2, 9), {"low": np.float32([[-0.5], [0.5]]), "high": np.float32(1)}, opset=opset)

    return Case(model, (2, 9), 9)


ELEMENTWISE_CASES: dict[str, Case] = {
    **{
        f"function_{name.lower()}": _unary(name, oldest)
        for name, oldest in (
            ("Abs", 7), ("Acos", 7), ("Acosh", 9), ("Asin", 7), ("Asinh", 9), ("Atan", 7), ("Atanh", 9), ("Ceil", 7),
            ("Celu", 12), ("Cos", 7), ("Cosh", 9), ("Elu", 7), ("Erf", 9), ("Exp", 7), ("Floor", 7), ("Gelu", 20),
            ("HardSigmoid", 7), ("HardSwish", 14), ("LeakyRelu", 7), ("Log", 7), ("Mish", 18), ("Neg", 7),
            ("Reciprocal", 7), ("Round", 11), ("Selu", 7), ("Shrink", 9), ("Sigmoid", 7), ("Sign", 9), ("Sin", 7),
            ("Sinh", 9), ("Softplus", 7), ("Softsign", 7), ("Sqrt", 7), ("Tan", 7), ("Tanh", 7),
            ("ThresholdedRelu", 10),
        )
    },
    "celu_alpha": _unary("Celu", 12, alpha=0.5),
    "elu_alpha": _unary("Elu", alpha=0.3),
    "gelu_tanh": _unary("Gelu", 20, approximate="tanh"),
    "hard_sigmoid_slope": _unary("HardSigmoid", alpha=0.5, beta=0.25),
    "leaky_relu_alpha": _unary("LeakyRelu", alpha=0.25),
    "selu_other": _unary("Selu", alpha=1.5, gamma=0.75),
    "shrink_soft": _unary("Shrink", 9, bias=0.5, lambd=0.5),
    "thresholded_relu_alpha": _unary("ThresholdedRelu", 10, alpha=0.25),
    "clip": _clip(-0.5, 0.75),
    "clip_relu6": _clip(0.0, 6.0),
    "clip_above": _clip(None, 0.25),
    "clip_below": _clip(-0.25, None),
    "clip_nothing": _clip(None, None),
    "divide_activations": Case(_square_root_of_quotient, (1, 6)),
    "sum": _several("Sum", (2, 3), (2, 3), (1, 3), oldest=8),
    "sum_constant": _several("Sum", (2, 3), (2, 3), oldest=8, constant=np.float32([1, 2, 3])),
    "sum_of_one": _several("Sum", (2, 3), oldest=8),
    "mean": _several("Mean", (2, 3), (2, 3), (2, 1), oldest=8),
    "max": _several("Max", (2, 3), (2, 3), (3,), oldest=8),
    "max_number": _several("Max", (2, 3), (2, 3), oldest=8, constant=np.float32(0.5)),
    "min_vector": _several("Min", (2, 3), oldest=8, constant=np.float32([0.5, -1, 2])),
    "max_vector": _several("Max", (2, 3), oldest=8, constant=np.float32([0.5, -1, 2])),
    "mul_channels": _several("Mul", (1, 3, 4, 5), (1, 3, 1, 1)),
    "mul_other_way": _several("Mul", (1, 3, 1, 1), (1, 3, 4, 5)),
    "mul_outer": _several("Mul", (3, 1), (1, 4)),
    "sub_broadcast": _several("Sub", (2, 3), (2, 1)),
    "add_rank": _several("Add", (3,), (2, 3)),
    "prelu": _prelu((1, 3, 4, 5), (3, 1, 1)),
    "prelu_number": _prelu((1, 6), (1,)),
    "prelu_elements": _prelu((2, 3, 4), (3, 4)),
    "where_left": _where((2, 3), (2, 3), left=True),
    "where_right": _where((2, 3), (3,), left=False),
    "where_enlarged": _where((1, 3), (4, 3), left=True),
    "where_both": _where((2, 3), (2, 1), left=True, both=True),
    **{
        f"where_{op_type.lower()}": _where_compared(op_type, oldest)
        for op_type, oldest in (
            ("Equal", 11), ("Greater", 9), ("GreaterOrEqual", 12), ("Less", 9), ("LessOrEqual", 12),
        )
    },
    **{f"where_{op_type.lower()}": _where_both(op_type) for op_type in ("And", "Or", "Xor")},
    "where_uniform": Case(
        lambda opset, _random: make_model(
            [node("Where", "c x zero")], (1, 3), {"c": np.array([[True], [True]]), "zero": np.float32(0)}, opset=opset
        ),
        (1, 3), 9,
    ),
    "add_enlarging": _several("Add", (1, 3), constant=np.float32([[1], [2]])),
    "softmax_middle": _norm("Softmax", (2, 3, 4), oldest=13, axis=1),
    "log_softmax": _norm("LogSoftmax", (2, 7), axis=1),
    "log_softmax_middle": _norm("LogSoftmax", (1, 3, 4, 5), oldest=13, axis=1),
    "layer_norm": _norm("LayerNormalization", (2, 3, 4), (4,), (4,), oldest=17),
    "layer_norm_axes": _norm("LayerNormalization", (2, 3, 4), (3, 4), oldest=17, axis=1, epsilon=0.1),
    "instance_norm": _norm("InstanceNormalization", (1, 3, 4, 5), (3,), (3,), epsilon=0.01),
    "instance_norm_row": _norm("InstanceNormalization", (2, 3, 5), (3,), (3,)),
    "instance_norm_volume": _norm("InstanceNormalization", (1, 3, 2, 2, 3), (3,), (3,)),
    "group_norm": _norm("GroupNormalization", (1, 6, 2, 3), (6,), (6,), oldest=21, num_groups=2),
    "lp_norm": _norm("LpNormalization", (2, 3, 4), axis=1),
    "lp_norm_1": _norm("LpNormalization", (2, 5), p=1),
    "mean_variance": _norm("MeanVarianceNormalization", (2, 3, 4, 5), oldest=9),
    "mean_variance_axes": _norm("MeanVarianceNormalization", (1, 3, 4, 5), oldest=9, axes=[1]),
    "matmul_activations": _several("MatMul", (2, 3, 4), (2, 4, 5)),
    "matmul_one_batch": _several("MatMul", (2, 3, 4), (4, 5)),
    "matmul_two_batches": _several("MatMul", (2, 1, 3, 4), (3, 4, 2)),
    "matmul_constant_batch": _several("MatMul", (2, 3, 4), constant=_BATCH),
    "matmul_constant_batches": _several("MatMul", (1, 3, 4), constant=np.stack([_BATCH, -_BATCH])),
    "matmul_constant_vector": _several("MatMul", (4,), constant=_BATCH),
    "matmul_constant_batch_left": Case(
        lambda opset, _random: make_model([node("MatMul", "c x")], (2, 5, 3), {"c": _BATCH}, opset=opset), (2, 5, 3)
    ),
    "matmul_vectors": _several("MatMul", (4,), (4,)),
    "matmul_vector_matrix": _several("MatMul", (4,), (3, 4, 2)),
    "gemm_activations": _several("Gemm", (2, 3), (3, 4), constant=None, oldest=11),
    "argmax_middle": Case(
        lambda opset, _random: make_model(
            [node("ArgMax", "x", axis=1)], (2, 3, 4), opset=opset, output_type=onnx.TensorProto.INT64
        ),
        (2, 3, 4),
    ),
    "pow_square": _power(2.0),
    "pow_root": _power(0.5),
    "pow_one": _power(1.0),
    "pow_inverse": _power(-1.0),
    "pow_other": _power(1.7),
    "pow_of_constant": _power(2.5, base=True),
}  # fmt: skip
