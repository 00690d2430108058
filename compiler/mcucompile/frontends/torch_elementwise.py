"""Element-wise functions of torch."""

import math
from collections.abc import Mapping

from mcucompile.frontends import arithmetic, elementwise
from mcucompile.frontends.builder import Activation, Builder, Value
from mcucompile.frontends.refusals import RefusalError
from mcucompile.frontends.torch_call import Call, Converter
from mcucompile.ops.formula import Step, X

# Operators by their function and the names of the arguments that are its parameters.
_FUNCTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    **{
        name: (name, ())
        for name in (
            "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "erf", "exp", "floor",
            "log", "mish", "reciprocal", "sigmoid", "sign", "sin", "sinh", "sqrt", "tan", "tanh",
        )
    },
    "celu": ("celu", ("alpha",)),
    "hardswish": ("hard_swish", ()),
    "leaky_relu": ("leaky_relu", ("negative_slope",)),
}  # fmt: skip


def _function(name: str, arguments: tuple[str, ...]) -> Converter:
    def convert(call: Call, builder: Builder) -> Value:
        return elementwise.function(builder, call.activation(), name, *(_number(call, key) for key in arguments))

    return convert


def _number(call: Call, name: str) -> float:
    """Return an argument that is one number."""
    value = call.constant(name)
    if value.size != 1:
        raise RefusalError(f"its '{name}' has the shape {value.shape}", "use one number")
    return float(value.reshape(-1)[0])


def _limit(call: Call, name: str, default: float) -> float:
    return default if call.arguments.get(name) is None else _number(call, name)


def _elu(call: Call, builder: Builder) -> Value:
    if (_number(call, "scale"), _number(call, "input_scale")) == (1.0, 1.0):
        return elementwise.function(builder, call.activation(), "elu", _number(call, "alpha"))
    # Torch writes selu so, when it is taken apart.
    if _number(call, "input_scale") != 1.0:
        raise RefusalError("scales its input", "use ELU or SELU")
    return elementwise.function(builder, call.activation(), "selu", _number(call, "alpha"), _number(call, "scale"))


def _selu(call: Call, builder: Builder) -> Value:
    alpha, gamma = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return elementwise.function(builder, call.activation(), "selu", alpha, gamma)


def _gelu(call: Call, builder: Builder) -> Value:
    exact = call.arguments["approximate"] == "none"
    return elementwise.function(builder, call.activation(), "gelu" if exact else "gelu_tanh")


def _silu(call: Call, builder: Builder) -> Value:
    return elementwise.function(builder, call.activation(), "swish", 1.0)


def _hard_sigmoid(call: Call, builder: Builder) -> Value:
    return elementwise.function(builder, call.activation(), "hard_sigmoid", 1 / 6, 0.5)


def _softplus(call: Call, builder: Builder) -> Value:
    # Beyond the threshold torch returns its input, which softplus is there to within 1e-8.
    beta, threshold = _number(call, "beta"), _number(call, "threshold")
    if threshold < 15 or beta <= 0:
        raise RefusalError(f"has beta={beta} and threshold={threshold}", "use a positive beta and a threshold of 20")
    steps = (X, Step("affine", (beta, 0.0)), Step("softplus"), Step("affine", (1 / beta, 0.0)))
    return elementwise.formula(builder, call.activation(), steps)


def _rsqrt(call: Call, builder: Builder) -> Value:
    return elementwise.formula(builder, call.activation(), (X, Step("sqrt"), Step("reciprocal")))


def _log_sigmoid(call: Call, builder: Builder) -> Value:
    negated = Step("affine", (-1.0, 0.0))
    return elementwise.formula(builder, call.activation(), (X, negated, Step("softplus"), negated))


def _round(call: Call, builder: Builder) -> Value:
    if call.arguments.get("decimals", 0) != 0:
        raise RefusalError(f"rounds to {call.arguments['decimals']} decimals", "round to whole numbers")
    return elementwise.function(builder, call.activation(), "round")


def _power(call: Call, builder: Builder) -> Value:
    if isinstance(call.arguments["exponent"], Activation):
        if isinstance(call.arguments["self"], Activation):
            raise RefusalError("has a base and an exponent that are both computed", "make one of them a constant")
        return elementwise.function(builder, call.activation("exponent"), "exponential", _number(call, "self"))
    return elementwise.power(builder, call.activation(), _number(call, "exponent"))


def _clamp(call: Call, builder: Builder) -> Value:
    low, high = _limit(call, "min", -math.inf), _limit(call, "max", math.inf)
    return arithmetic.clip(builder, call.activation(), low, high)


def _clamp_below(call: Call, builder: Builder) -> Value:
    return arithmetic.clip(builder, call.activation(), _number(call, "min"), math.inf)


def _clamp_above(call: Call, builder: Builder) -> Value:
    return arithmetic.clip(builder, call.activation(), -math.inf, _number(call, "max"))


def _hard_tanh(call: Call, builder: Builder) -> Value:
    return arithmetic.clip(builder, call.activation(), _number(call, "min_val"), _number(call, "max_val"))


def _relu6(call: Call, builder: Builder) -> Value:
    return arithmetic.clip(builder, call.activation(), 0.0, 6.0)


def _threshold(call: Call, builder: Builder) -> Value:
    if _number(call, "value") != 0:
        raise RefusalError(f"replaces what is below its threshold by {_number(call, 'value')}", "use the value 0")
    return elementwise.function(builder, call.activation(), "thresholded_relu", _number(call, "threshold"))


def _square(call: Call, builder: Builder) -> Value:
    return elementwise.power(builder, call.activation(), 2.0)


def _prelu(call: Call, builder: Builder) -> Value:
    x, slope = call.activation(), call.constant("weight")
    # One slope for each channel, which is axis 1.
    return elementwise.prelu(builder, x, slope.reshape(-1, *(1,) * max(len(x.shape) - 2, 0)))


def _extremum(largest: bool) -> Converter:
    return lambda call, builder: arithmetic.extremum(builder, call.value("self"), call.value("other"), largest=largest)


def _where(call: Call, builder: Builder) -> Value:
    return elementwise.where(builder, call.constant("condition"), call.value("self"), call.value("other"))


CONVERTERS: dict[str, Converter] = {
    **{f"aten::{operator}": _function(name, arguments) for operator, (name, arguments) in _FUNCTIONS.items()},
    "aten::clamp": _clamp,
    "aten::clamp_max": _clamp_above,
    "aten::clamp_min": _clamp_below,
    "aten::elu": _elu,
    "aten::gelu": _gelu,
    "aten::hardsigmoid": _hard_sigmoid,
    "aten::hardtanh": _hard_tanh,
    "aten::log_sigmoid": _log_sigmoid,
    "aten::maximum": _extremum(largest=True),
    "aten::minimum": _extremum(largest=False),
    "aten::pow": _power,
    "aten::prelu": _prelu,
    "aten::relu6": _relu6,
    "aten::round": _round,
    "aten::rsqrt": _rsqrt,
    "aten::selu": _selu,
    "aten::silu": _silu,
    "aten::softplus": _softplus,
    "aten::square": _square,
    "aten::threshold": _threshold,
    "aten::where": _where,
}
