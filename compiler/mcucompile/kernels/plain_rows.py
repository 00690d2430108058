"""The plain kernels of operators over rows of values: softmax, normalisation, matrix products."""

import math

from mcucompile.ir import Format
from mcucompile.kernels.kernel import Context, Layer
from mcucompile.kernels.plain import PlainKernel
from mcucompile.kernels.requantize import requantize_code, signed_digits
from mcucompile.ops import IntegerLogSoftmax, IntegerMatMul, IntegerNormalize, IntegerSoftmax
from mcucompile.ops.cordic_function import CordicExponentials
from mcucompile.ops.softmax import Exponentials


def _exponentials(layer: Layer, exponentials: Exponentials | CordicExponentials) -> dict[str, object]:
    classes = layer.shapes[0][-1]
    sizes = {"rows": math.prod(layer.shapes[0]) // classes, "classes": classes}
    if isinstance(exponentials, CordicExponentials):
        return {**sizes, "argument": requantize_code(exponentials.argument, Format(32, True)), "coarse": ()}
    fine, coarse = (tuple(int(v) for v in table) for table in (exponentials.fine, exponentials.coarse))
    return {**sizes, "argument": None, "fine": fine, "coarse": coarse}


def _softmax(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, IntegerSoftmax):
        raise TypeError(op.kind)
    return {**_exponentials(layer, op.exponentials), "bits": op.bits, "maximum": op.maximum}


def _log_softmax(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, IntegerLogSoftmax):
        raise TypeError(op.kind)
    return {
        **_exponentials(layer, op.exponentials),
        "step": signed_digits(op.step),
        "logarithms": tuple(int(v) for v in op.logarithms),
        "octave": op.octave,
        "shift": op.shift,
        "half": 1 << op.shift >> 1,
        "zero_point": op.zero_point,
    }


def _normalize(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, IntegerNormalize):
        raise TypeError(op.kind)
    outer, count, inner = layer.shapes[0]
    return {
        "outer": outer,
        "count": count,
        "inner": inner,
        "function": op.function,
        "zero_point": op.zero_point,
        "digits": signed_digits(count),
        "added": op.added,
        "dropped": op.dropped,
        "bits": op.bits,
        "largest": op.largest,
        "requantize": requantize_code(op.requantize, layer.output_format),
    }


def _matmul(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, IntegerMatMul):
        raise TypeError(op.kind)
    batch, m, n = layer.output_shape
    return {
        "batch": batch,
        "m": m,
        "k": op.inner,
        "n": n,
        "a_step": m * op.inner if layer.shapes[0][0] > 1 else 0,
        "b_step": op.inner * n if layer.shapes[1][0] > 1 else 0,
        "zero_points": op.zero_points,
        "dropped": op.dropped,
        "unsigned": op.is_unsigned(*layer.formats),
        "requantize": requantize_code(op.requantize, layer.output_format),
    }


def _softmax_bytes(layer: Layer) -> int:
    op = layer.op
    if not isinstance(op, IntegerSoftmax | IntegerLogSoftmax):
        raise TypeError(op.kind)
    if isinstance(op.exponentials, CordicExponentials):
        return 0
    return 512 if layer.formats[0].bits == 8 else 1024


ROW_KERNELS = (
    PlainKernel("plain", "softmax", "ops/softmax.c.j2", 150, _softmax, _softmax_bytes),
    PlainKernel("plain", "log_softmax", "ops/log_softmax.c.j2", 60, _log_softmax, lambda x: _softmax_bytes(x) + 516),
    PlainKernel("plain", "normalize", "ops/normalize.c.j2", 120, _normalize),
    PlainKernel("plain", "matmul", "ops/matmul.c.j2", 20, _matmul),
)
