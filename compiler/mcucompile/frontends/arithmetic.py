"""Products and sums of activations and constants, as both front-ends' operators mean them (numpy's rules)."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends.builder import Activation, Builder, Constant, Kind, Value
from mcucompile.frontends.convolution import convolved
from mcucompile.frontends.movement import expand
from mcucompile.frontends.refusals import RefusalError, constants_only
from mcucompile.ir import Shape, Source
from mcucompile.ops import Add, Clip, Extremum, Lookup, MatMul, Multiply
from mcucompile.ops.formula import applied
from mcucompile.ops.window import Window


def matmul(builder: Builder, a: Value, b: Value) -> Activation:
    """numpy.matmul of two activations, or of one and a constant on either side."""
    shape = _product_shape(builder.source, a.shape, b.shape)
    if isinstance(a, Activation):
        if isinstance(b, Activation):
            return _matmul_activations(builder, a, b, shape)
        return builder.reshape(_weighted(builder, a, b if b.ndim > 1 else b[:, None]), shape)
    if not isinstance(b, Activation):
        raise constants_only()
    # a @ b = (b.T @ a.T).T over the last two axes
    columns = builder.reshape(b, (*b.shape, 1)) if len(b.shape) == 1 else b
    y = _weighted(builder, _swapped(builder, columns), np.swapaxes(np.atleast_2d(a), -2, -1))
    return builder.reshape(_swapped(builder, y), shape)


def _weighted(builder: Builder, x: Activation, matrices: Constant) -> Activation:
    """Return x @ matrices: a dense layer for one matrix, a grouped convolution for one of each batch."""
    if math.prod(matrices.shape[:-2]) == 1:
        y = builder.dense(x, matrices.reshape(matrices.shape[-2:]).T, None)
        extra = matrices.ndim - max(len(x.shape), 2)
        return builder.reshape(y, (1,) * extra + y.shape) if extra > 0 else y
    builder.require_real(x)
    rows = x if len(x.shape) > 1 else builder.reshape(x, (1, *x.shape))
    lead = np.broadcast_shapes(rows.shape[:-2], matrices.shape[:-2])
    (m, k), n, batch = rows.shape[-2:], matrices.shape[-1], math.prod(lead)
    wide = builder.reshape(expand(builder, rows, (*lead, m, k)), (batch, m, k))
    image = builder.reshape(builder.transpose(wide, (1, 0, 2), part="_grouped"), (1, 1, m, batch * k))
    weights = np.broadcast_to(matrices, (*lead, k, n)).reshape(batch, k, n)
    kernel = weights.transpose(0, 2, 1).reshape(batch * n, k, 1, 1)
    window = Window((1, 1), (1, 1), (1, 1), (0, 0), (0, 0))
    y = builder.reshape(convolved(builder, image, kernel, None, window, batch), (m, batch, n))
    return builder.reshape(builder.transpose(y, (1, 0, 2), part="_batches"), (*lead, m, n))


def _swapped(builder: Builder, x: Activation) -> Activation:
    rank = len(x.shape)
    return builder.transpose(x, (*range(rank - 2), rank - 1, rank - 2))


def _matmul_activations(builder: Builder, a: Activation, b: Activation, shape: Shape) -> Activation:
    builder.require_real(a, b)
    first = builder.reshape(a, (1, *a.shape)) if len(a.shape) == 1 else a
    second = builder.reshape(b, (*b.shape, 1)) if len(b.shape) == 1 else b
    lead = np.broadcast_shapes(first.shape[:-2], second.shape[:-2])
    batches = []
    for x in (first, second):
        whole = x if math.prod(x.shape[:-2]) == 1 else expand(builder, x, (*lead, *x.shape[-2:]))
        batches.append(builder.reshape(whole, (math.prod(whole.shape[:-2]), *x.shape[-2:])))
    return builder.reshape(builder.emit(MatMul, tuple(batches)), shape)


def gemm(builder: Builder, a: Value, b: Value, addend: Value, alpha: float, beta: float) -> Activation:
    """Return alpha * a @ b + beta * addend, of matrices; one layer where a is the activation and the addend a row."""
    if isinstance(a, Activation) and isinstance(b, np.ndarray) and isinstance(addend, np.ndarray):
        n_in, n_out = b.shape
        is_row = addend.size == 1 or (addend.size == n_out and addend.shape[-1] == n_out)
        if is_row and a.shape[-1] == n_in:
            weight = b.T if alpha == 1 else b.T.astype(np.float64) * alpha
            return builder.dense(a, weight, addend.astype(np.float64) * beta)
    product = scaled(builder, matmul(builder, a, b), alpha)
    return add(builder, product, scaled(builder, addend, beta))


def add(builder: Builder, a: Value, b: Value) -> Activation:
    """Return a + b."""
    if isinstance(a, Activation):
        return builder.pair(Add, a, b) if isinstance(b, Activation) else _scaled_by(builder, a, np.ones(()), b)
    if isinstance(b, Activation):
        return _scaled_by(builder, b, np.ones(()), a)
    raise constants_only()


def subtract(builder: Builder, a: Value, b: Value) -> Activation:
    """Return a - b."""
    if isinstance(b, np.ndarray):
        return add(builder, a, np.asarray(-b.astype(np.float64)))
    if isinstance(a, np.ndarray):
        return _scaled_by(builder, b, np.array(-1.0), a)
    return builder.pair(Add, a, b, subtracts=True)


def multiply(builder: Builder, a: Value, b: Value) -> Activation:
    """Return a * b."""
    if isinstance(a, Activation) and isinstance(b, Activation):
        return builder.pair(Multiply, a, b)
    if isinstance(a, Activation) and isinstance(b, np.ndarray):
        return _scaled_by(builder, a, b, np.zeros(()))
    if isinstance(b, Activation) and isinstance(a, np.ndarray):
        return _scaled_by(builder, b, a, np.zeros(()))
    raise constants_only()


def _scaled_by(builder: Builder, x: Activation, scale: Constant, offset: Constant) -> Activation:
    """Return x * scale + offset, x broadcast to the constants' shape if that is larger."""
    try:
        wide = np.broadcast_shapes(x.shape, scale.shape, offset.shape)
    except ValueError as error:
        shape = scale.shape if scale.size > 1 else offset.shape
        raise ModelError(
            builder.source, f"combines {x.shape} with a constant of shape {shape}", "export the model again"
        ) from error
    return builder.affine(expand(builder, x, wide), scale, offset)


def total(builder: Builder, values: Sequence[Value]) -> Value:
    """Return the sum of all values; a constant if all are."""
    constants = [value for value in values if isinstance(value, np.ndarray)]
    activations: list[Value] = [value for value in values if isinstance(value, Activation)]
    if constants:
        activations.append(reduce(np.add, constants))
    return reduce(lambda a, b: add(builder, a, b), activations)


def extreme(builder: Builder, values: Sequence[Value], *, largest: bool) -> Value:
    """Return the largest or smallest of all values."""
    constants = [value for value in values if isinstance(value, np.ndarray)]
    activations: list[Value] = [value for value in values if isinstance(value, Activation)]
    if constants:
        activations.append(reduce(np.maximum if largest else np.minimum, constants))
    return reduce(lambda a, b: extremum(builder, a, b, largest=largest), activations)


def extremum(builder: Builder, a: Value, b: Value, *, largest: bool) -> Activation:
    """Return max(a, b) or min(a, b)."""
    if isinstance(a, Activation) and isinstance(b, Activation):
        return builder.pair(Extremum, a, b, largest=largest)
    if isinstance(b, Activation):
        a, b = b, a
    if not isinstance(a, Activation) or isinstance(b, Activation):
        raise constants_only()
    if b.size == 1 and b.ndim <= len(a.shape):
        limit = float(b.reshape(-1)[0])
        return clip(builder, a, limit if largest else -math.inf, math.inf if largest else limit)
    # max(a, b) = b + relu(a - b), min(a, b) = b - relu(b - a)
    sign = 1.0 if largest else -1.0
    above = builder.relu(builder.affine(a, np.array(sign), -sign * b))
    return builder.affine(above, np.array(sign), b)


def clip(builder: Builder, x: Activation, low: float, high: float) -> Activation:
    """min(max(x, low), high); infinite limits limit nothing. Integers stay integers."""
    if x.kind is not Kind.BYTES:
        builder.require_real(x)
    if math.isnan(low) or math.isnan(high):
        raise RefusalError(f"clamps to {low}..{high}", "clamp to numbers")
    if (low, high) == (-math.inf, math.inf):
        return x
    if (low, high) == (0.0, math.inf) and x.kind is Kind.REAL:
        return builder.relu(x)
    return replace(builder.emit(Clip, (x,), low=low, high=high), kind=x.kind)


def scaled(builder: Builder, x: Value, factor: float) -> Value:
    """Return x * factor; x itself for 1."""
    if factor == 1.0:
        return x
    return multiply(builder, x, np.array(factor)) if isinstance(x, Activation) else np.asarray(x * factor)


def divide(builder: Builder, a: Value, b: Value) -> Activation:
    """Return a / b; an activation b by its reciprocal."""
    if isinstance(b, Activation):
        builder.require_real(b)
        return multiply(builder, a, builder.emit(Lookup, (b,), part="_reciprocal", formula=applied("reciprocal")))
    if not isinstance(a, Activation):
        raise constants_only()
    with np.errstate(divide="ignore"):
        return multiply(builder, a, np.asarray(1.0 / b.astype(np.float64)))


def batch_norm(
    builder: Builder, x: Activation, scale: Constant, bias: Constant, mean: Constant, variance: Constant, epsilon: float
) -> Activation:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, one value of each for every channel (axis 1)."""
    channels = x.shape[1] if len(x.shape) > 1 else 1
    parameters = [values.astype(np.float64).reshape(-1) for values in (scale, bias, mean, variance)]
    if any(values.shape != (channels,) for values in parameters):
        shapes = ", ".join(str(values.shape) for values in (scale, bias, mean, variance))
        raise ModelError(
            builder.source, f"has parameters of shapes {shapes} for {channels} channels", "export the model again"
        )
    gamma, beta, average, spread = (values.reshape(channels, *(1,) * max(len(x.shape) - 2, 0)) for values in parameters)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = gamma / np.sqrt(spread + epsilon)
        return builder.affine(x, factor, beta - average * factor)


def inferred_shape(source: Source, shape: Shape, wanted: Sequence[int]) -> Shape:
    """Return the shape wanted with its one -1 replaced by what is left."""
    if any(n < -1 for n in wanted) or list(wanted).count(-1) > 1:
        raise ModelError(source, f"asks for the shape {list(wanted)}", "use at most one -1 and no other negative size")
    known = math.prod(n for n in wanted if n != -1)
    if -1 in wanted and (known == 0 or math.prod(shape) % known):
        raise ModelError(source, f"cannot give {shape} the shape {list(wanted)}", "export the model again")
    return tuple(math.prod(shape) // known if n == -1 else n for n in wanted)


def _product_shape(source: Source, a: Shape, b: Shape) -> Shape:
    """Return matmul's output shape."""
    if not a or not b or a[-1] != (b[-2] if len(b) > 1 else b[0]):
        raise ModelError(source, f"cannot multiply {a} by {b}", "export the model again")
    try:
        lead = np.broadcast_shapes(a[:-2], b[:-2])
    except ValueError as error:
        raise ModelError(source, f"cannot multiply {a} by {b}", "export the model again") from error
    return (*lead, *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))
