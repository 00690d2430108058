"""Element-wise functions of ONNX, all opsets."""

import math
from collections.abc import Mapping

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends import arithmetic, elementwise
from mcucompile.frontends.builder import Activation, Builder, Value
from mcucompile.frontends.onnx_node import Converter, Node
from mcucompile.frontends.refusals import RefusalError

# Operators whose parameters are attributes, with the attributes' defaults.
_FUNCTIONS: Mapping[str, tuple[str, Mapping[str, float]]] = {
    **{
        name: (name.lower(), {})
        for name in (
            "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor",
            "Log", "Mish", "Reciprocal", "Round", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt",
            "Tan", "Tanh",
        )
    },
    "Celu": ("celu", {"alpha": 1.0}),
    "Elu": ("elu", {"alpha": 1.0}),
    "HardSigmoid": ("hard_sigmoid", {"alpha": 0.2, "beta": 0.5}),
    "HardSwish": ("hard_swish", {}),
    "LeakyRelu": ("leaky_relu", {"alpha": 0.01}),
    "Selu": ("selu", {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}),
    "Shrink": ("shrink", {"bias": 0.0, "lambd": 0.5}),
    "Swish": ("swish", {"alpha": 1.0}),
    "ThresholdedRelu": ("thresholded_relu", {"alpha": 1.0}),
}  # fmt: skip


def _function(name: str, attributes: Mapping[str, float]) -> Converter:
    def convert(node: Node, builder: Builder) -> Value:
        parameters = [float(node.attributes.get(attribute, value)) for attribute, value in attributes.items()]
        return elementwise.function(builder, node.activation(), name, *parameters)

    return convert


def _gelu(node: Node, builder: Builder) -> Value:
    approximate = node.text("approximate", "none")
    if approximate not in ("none", "tanh"):
        raise ModelError(node.source, f"has approximate='{approximate}'", "use none or tanh")
    return elementwise.function(builder, node.activation(), "gelu" if approximate == "none" else "gelu_tanh")


def _clip(node: Node, builder: Builder) -> Value:
    limits = []
    for index, (name, default) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
        given = node.optional_constant(index)
        if given is not None and given.size != 1:
            raise ModelError(node.source, f"has a {name} of shape {given.shape}", "give it one number")
        limits.append(float(node.attributes.get(name, default)) if given is None else float(given.reshape(-1)[0]))
    return arithmetic.clip(builder, node.activation(), limits[0], limits[1])


def _negate(node: Node, builder: Builder) -> Value:
    return arithmetic.scaled(builder, node.activation(), -1.0)


def _power(node: Node, builder: Builder) -> Value:
    base, exponent = node.value(0), node.value(1)
    constant = exponent if isinstance(base, Activation) else base
    if isinstance(constant, Activation):
        raise RefusalError("has a base and an exponent that are both computed", "make one of them a constant")
    if constant.size == 0 or (constant != constant.reshape(-1)[0]).any() or not np.isfinite(constant).all():
        raise RefusalError(f"has a constant of shape {constant.shape} with different values", "use one number")
    number = float(constant.reshape(-1)[0])
    if isinstance(base, Activation):
        return elementwise.power(builder, base, number)
    return elementwise.function(builder, node.activation(1), "exponential", number)


def _prelu(node: Node, builder: Builder) -> Value:
    return elementwise.prelu(builder, node.activation(), node.constant(1))


def _extremum(largest: bool) -> Converter:
    def convert(node: Node, builder: Builder) -> Value:
        values = [node.value(index) for index in range(len(node.inputs))]
        return arithmetic.extreme(builder, values, largest=largest)

    return convert


def _sum(node: Node, builder: Builder) -> Value:
    return arithmetic.total(builder, [node.value(index) for index in range(len(node.inputs))])


def _mean(node: Node, builder: Builder) -> Value:
    return arithmetic.scaled(builder, _sum(node, builder), 1 / len(node.inputs))


def _where(node: Node, builder: Builder) -> Value:
    condition = node.value(0)
    if not isinstance(condition, Activation) and condition.dtype.kind != "b":
        raise ModelError(node.source, f"has a {condition.dtype} condition", "export the model again")
    return elementwise.where(builder, condition, node.value(1), node.value(2))


def _comparison(name: str, *, swapped: bool = False) -> Converter:
    def convert(node: Node, builder: Builder) -> Value:
        a, b = node.value(0), node.value(1)
        return elementwise.compared(builder, *((b, a) if swapped else (a, b)), name)

    return convert


def _logic(operation: str) -> Converter:
    return lambda node, builder: elementwise.both(builder, node.value(0), node.value(1), operation)


def _not(node: Node, builder: Builder) -> Value:
    return elementwise.inverted(builder, node.activation())


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "And"): _logic("and"),
    ("", "Clip"): _clip,
    ("", "Equal"): _comparison("equal"),
    ("", "Gelu"): _gelu,
    ("", "Greater"): _comparison("greater"),
    ("", "GreaterOrEqual"): _comparison("not_less"),
    ("", "Less"): _comparison("greater", swapped=True),
    ("", "LessOrEqual"): _comparison("not_less", swapped=True),
    ("", "Max"): _extremum(largest=True),
    ("", "Mean"): _mean,
    ("", "Min"): _extremum(largest=False),
    ("", "Neg"): _negate,
    ("", "Not"): _not,
    ("", "Or"): _logic("or"),
    ("", "Pow"): _power,
    ("", "PRelu"): _prelu,
    ("", "Sum"): _sum,
    ("", "Where"): _where,
    ("", "Xor"): _logic("xor"),
    **{("", op_type): _function(name, attributes) for op_type, (name, attributes) in _FUNCTIONS.items()},
}
