"""Formulas of one variable as data: what a Lookup computes, written in postfix order.

A formula is a sequence of steps over a stack of reals: "x" pushes the variable, every other step takes its
operands from the stack and pushes its value. So formulas compose by substitution, and a whole expression of
one tensor (x * sigmoid(x), written as any exporter writes it) becomes one table.
Source of the activation functions: the ONNX operator specification, onnx.ai/onnx/operators.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from mcucompile.ir import Array
from mcucompile.numerics import Real

# erf is 1 to within float64 beyond this.
_ERF_END = 6.0
_ERF_STEPS = 1 << 13


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a formula.

    Attributes:
        function: "x", or a name in FUNCTIONS.
        parameters: of the function, after its operands.
    """

    function: str
    parameters: tuple[float, ...] = ()


Formula = tuple[Step, ...]
X = Step("x")


@dataclass(frozen=True, slots=True)
class Function:
    """A step's function.

    Attributes:
        operands: how many values it takes from the stack.
        parameters: how many constants it takes after them.
        compute: the operands, then the parameters, to the value; in float64.
    """

    operands: int
    parameters: int
    compute: Callable[..., Array]


def evaluate(formula: Formula, x: Array) -> Real:
    """Return the formula's values in float64; what is not defined or too large is NaN or infinite."""
    stack: list[Array] = []
    with np.errstate(all="ignore"):
        variable = x.astype(np.float64)
        for step in formula:
            if step == X:
                stack.append(variable)
                continue
            function = FUNCTIONS[step.function]
            operands = [stack.pop() for _ in range(function.operands)][::-1]
            stack.append(function.compute(*operands, *step.parameters))
    (value,) = stack
    return np.asarray(value, dtype=np.float64)


def substituted(outer: Formula, inner: Formula) -> Formula:
    """Return outer(inner(x))."""
    return tuple(part for step in outer for part in (inner if step == X else (step,)))


def applied(function: str, *parameters: float) -> Formula:
    """Return a function of the variable."""
    return (X, Step(function, parameters))


def erf(x: Array) -> Array:
    """Return the error function, within 1e-7."""
    knots, values = _erf_knots()
    return np.asarray(np.interp(x, knots, values))


@cache
def _erf_knots() -> tuple[Real, Real]:
    """Return points of erf, closer together near 0 so that small values are relatively exact, too."""
    steps = np.linspace(-1.0, 1.0, 2 * _ERF_STEPS + 1)
    knots = _ERF_END * np.sign(steps) * np.abs(steps) ** 1.5
    return knots, np.array([math.erf(knot) for knot in knots])


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _softplus(x: Array) -> Array:
    return np.asarray(np.logaddexp(0, x))


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _celu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))


def _hard_sigmoid(x: Array, alpha: float, beta: float) -> Array:
    return np.clip(alpha * x + beta, 0, 1)


def _gelu_tanh(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def _shrink(x: Array, bias: float, threshold: float) -> Array:
    return np.where(x < -threshold, x + bias, np.where(x > threshold, x - bias, 0.0))


FUNCTIONS: Mapping[str, Function] = {
    "add": Function(2, 0, np.add),
    "subtract": Function(2, 0, np.subtract),
    "multiply": Function(2, 0, np.multiply),
    "minimum": Function(2, 0, np.minimum),
    "maximum": Function(2, 0, np.maximum),
    "affine": Function(1, 2, lambda x, scale, offset: x * scale + offset),
    "relu": Function(1, 0, lambda x: np.maximum(x, 0)),
    "clip": Function(1, 2, np.clip),
    "abs": Function(1, 0, np.abs),
    "acos": Function(1, 0, np.arccos),
    "acosh": Function(1, 0, np.arccosh),
    "asin": Function(1, 0, np.arcsin),
    "asinh": Function(1, 0, np.arcsinh),
    "atan": Function(1, 0, np.arctan),
    "atanh": Function(1, 0, np.arctanh),
    "ceil": Function(1, 0, np.ceil),
    "celu": Function(1, 1, _celu),
    "cos": Function(1, 0, np.cos),
    "cosh": Function(1, 0, np.cosh),
    "elu": Function(1, 1, _elu),
    "erf": Function(1, 0, erf),
    "exp": Function(1, 0, np.exp),
    "exponential": Function(1, 1, lambda x, base: np.power(base, x)),
    "floor": Function(1, 0, np.floor),
    "gelu": Function(1, 0, lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2)))),
    "gelu_tanh": Function(1, 0, _gelu_tanh),
    "hard_sigmoid": Function(1, 2, _hard_sigmoid),
    "hard_swish": Function(1, 0, lambda x: x * _hard_sigmoid(x, 1 / 6, 0.5)),
    "leaky_relu": Function(1, 1, lambda x, alpha: np.where(x < 0, alpha * x, x)),
    "log": Function(1, 0, np.log),
    "mish": Function(1, 0, lambda x: x * np.tanh(_softplus(x))),
    "is_positive": Function(1, 0, lambda x: np.where(x > 0, 1.0, 0.0)),
    "is_zero": Function(1, 0, lambda x: np.where(x == 0, 1.0, 0.0)),
    "power": Function(1, 1, np.power),
    "reciprocal": Function(1, 0, np.reciprocal),
    "round": Function(1, 0, np.round),
    "selu": Function(1, 2, lambda x, alpha, gamma: gamma * _elu(x, alpha)),
    "shrink": Function(1, 2, _shrink),
    "sigmoid": Function(1, 0, _sigmoid),
    "sign": Function(1, 0, np.sign),
    "sin": Function(1, 0, np.sin),
    "sinh": Function(1, 0, np.sinh),
    "softplus": Function(1, 0, _softplus),
    "softsign": Function(1, 0, lambda x: x / (1 + np.abs(x))),
    "sqrt": Function(1, 0, np.sqrt),
    "swish": Function(1, 1, lambda x, alpha: x * _sigmoid(alpha * x)),
    "tan": Function(1, 0, np.tan),
    "tanh": Function(1, 0, np.tanh),
    "thresholded_relu": Function(1, 1, lambda x, alpha: np.where(x > alpha, x, 0.0)),
}
