"""Element-wise functions as both front-ends' operators mean them."""

import math
from dataclasses import replace

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends import arithmetic
from mcucompile.frontends.builder import Activation, Builder, Constant, Kind, Value
from mcucompile.frontends.movement import expand
from mcucompile.frontends.refusals import RefusalError, constants_only
from mcucompile.ir import Shape
from mcucompile.ops import Lookup, PRelu
from mcucompile.ops.formula import Formula, applied


def function(builder: Builder, x: Activation, name: str, *parameters: float) -> Activation:
    """Return a function of FUNCTIONS, element by element."""
    return formula(builder, x, applied(name, *parameters))


def formula(builder: Builder, x: Activation, steps: Formula) -> Activation:
    """Return a formula of one activation, element by element."""
    builder.require_real(x)
    if not all(math.isfinite(parameter) for step in steps for parameter in step.parameters):
        raise RefusalError("has a parameter that is no finite number", "export the model again")
    return builder.emit(Lookup, (x,), formula=steps)


def power(builder: Builder, x: Activation, exponent: float) -> Activation:
    """X to a constant power; whole and half ones by functions that are exact where pow is not."""
    if exponent == 1:
        return x
    if exponent in (0.5, -1):
        return function(builder, x, "sqrt" if exponent == 0.5 else "reciprocal")
    return function(builder, x, "power", exponent)


def prelu(builder: Builder, x: Activation, slope: Constant) -> Activation:
    """X where it is positive, else slope * x; slope broadcasts to x's shape."""
    builder.require_real(x)
    if slope.size == 1:
        return function(builder, x, "leaky_relu", float(slope.reshape(-1)[0]))
    if slope.ndim > len(x.shape) or any(
        n not in (1, m) for n, m in zip(slope.shape[::-1], x.shape[::-1], strict=False)
    ):
        raise RefusalError(f"has slopes of shape {slope.shape} for {x.shape}", "give one slope for each channel")
    flat, axis, (slopes,) = builder.lanes(x, slope)
    return builder.reshape(builder.emit(PRelu, (flat,), slope=builder.single(slopes, "slope"), axis=axis), x.shape)


def compared(builder: Builder, a: Value, b: Value, comparison: str) -> Activation:
    """Return the truth of a comparison, "greater", "not_less" or "equal", as 0 and 1."""
    first, second = (b, a) if comparison == "not_less" else (a, b)
    difference = arithmetic.subtract(builder, first, second)
    found = function(builder, difference, "is_zero" if comparison == "equal" else "is_positive")
    if comparison == "not_less":
        found = builder.affine(found, np.array(-1.0), np.ones(()))
    return replace(found, kind=Kind.TRUTH)


def both(builder: Builder, a: Value, b: Value, operation: str) -> Activation:
    """Return "and", "or" or "xor" of truth values."""
    first, second = (_as_number(builder, value) for value in (a, b))
    if operation == "and":
        y: Value = arithmetic.multiply(builder, first, second)
    elif operation == "or":
        y = arithmetic.extremum(builder, first, second, largest=True)
    else:
        y = function(builder, arithmetic.subtract(builder, first, second), "abs")
    return _as_truth(y)


def inverted(builder: Builder, x: Activation) -> Activation:
    """Return the contrary of truth values."""
    return _as_truth(_complement(builder, _as_number(builder, x)))


def _as_number(builder: Builder, value: Value) -> Value:
    """Return truth values as real 0 and 1."""
    is_truth = value.kind is Kind.TRUTH if isinstance(value, Activation) else value.dtype.kind == "b"
    if not is_truth:
        raise ModelError(builder.source, "takes numbers for truth values", "export the model again")
    return value.as_real() if isinstance(value, Activation) else value.astype(np.float64)


def _as_truth(value: Value) -> Activation:
    if not isinstance(value, Activation):
        raise constants_only()
    return replace(value, kind=Kind.TRUTH)


def where(builder: Builder, condition: Value, a: Value, b: Value) -> Value:
    """Choose a where the condition holds, else b: each is multiplied by 1 or 0."""
    try:
        shape = np.broadcast_shapes(condition.shape, a.shape, b.shape)
    except ValueError as error:
        shapes = f"{condition.shape}, {a.shape} and {b.shape}"
        raise ModelError(builder.source, f"chooses by shapes {shapes}", "export the model again") from error
    if isinstance(condition, Activation):
        chosen = _as_number(builder, condition)
        first = arithmetic.multiply(builder, chosen, a)
        return arithmetic.add(builder, first, arithmetic.multiply(builder, _complement(builder, chosen), b))
    return _where_constant(builder, condition, a, b, shape)


def _complement(builder: Builder, truth: Value) -> Activation:
    return arithmetic.subtract(builder, np.ones(()), truth)


def _where_constant(builder: Builder, condition: Constant, a: Value, b: Value, shape: Shape) -> Value:
    if condition.size and (condition == condition.reshape(-1)[0]).all():
        only = a if condition.reshape(-1)[0] else b
        return expand(builder, only, shape) if isinstance(only, Activation) else np.broadcast_to(only, shape)
    mask = condition.astype(np.float64)
    if isinstance(a, Activation):
        kept = expand(builder, a, shape)
        if isinstance(b, Activation):
            other = arithmetic.multiply(builder, expand(builder, b, shape), 1 - mask)
            return arithmetic.add(builder, arithmetic.multiply(builder, kept, mask), other)
        # A constant need not be finite where it is not taken.
        return builder.affine(kept, mask, np.where(condition, 0.0, b))
    if isinstance(b, Activation):
        return builder.affine(expand(builder, b, shape), 1 - mask, np.where(condition, a, 0.0))
    raise constants_only()
