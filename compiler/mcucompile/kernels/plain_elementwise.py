"""The plain kernels of element-wise operators."""

import math

from mcucompile.ir import Format
from mcucompile.kernels.kernel import Context, Layer
from mcucompile.kernels.plain import PlainKernel
from mcucompile.kernels.requantize import requantize_code
from mcucompile.numerics import Int
from mcucompile.ops import IntegerClip, IntegerCordic, IntegerInterpolation, IntegerLookup, IntegerPRelu

# The digits of a multiplier take this many bytes, a power of two, so that a shift finds them.
_DIGITS = 4


def _lookup(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, IntegerLookup):
        raise TypeError(op.kind)
    return {**_elements(layer), **_table(op.table, layer), "offset": -op.first}


def _interpolation(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, IntegerInterpolation):
        raise TypeError(op.kind)
    parts = {"offset": -op.first, "shift": op.shift, "extra": op.extra}
    return {**_elements(layer), "table": _values(op.table), "table_type": _entry_type(op.table), **parts}


def _cordic(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, IntegerCordic):
        raise TypeError(op.kind)
    return {
        **_elements(layer),
        "function": op.function,
        "negated": op.negated,
        "argument": requantize_code(op.argument, Format(32, True)),
        "requantize": requantize_code(op.requantize, layer.output_format),
    }


def _clip(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, IntegerClip):
        raise TypeError(op.kind)
    return {**_elements(layer), "minimum": op.minimum, "maximum": op.maximum}


def _prelu(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, IntegerPRelu):
        raise TypeError(op.kind)
    shape = layer.shapes[0]
    inner = math.prod(shape[op.axis + 1 :])
    requantize = requantize_code(op.requantize, layer.output_format)
    signed = zip(op.sign, requantize.digits, strict=True)
    digits = [tuple(int(sign) * digit for digit in part) + (0,) * (_DIGITS - len(part)) for sign, part in signed]
    return {
        "channels": shape[op.axis],
        "inner": inner,
        "outer": math.prod(shape) // inner // shape[op.axis],
        "zero_point": op.zero_point,
        "digits": sum(digits, start=()),
        "requantize": requantize,
    }


def _prelu_table_bytes(layer: Layer) -> int:
    op = layer.op
    if not isinstance(op, IntegerPRelu):
        raise TypeError(op.kind)
    return len(op.sign) * (_DIGITS + 1 + 4)


def _elements(layer: Layer) -> Context:
    return {"count": math.prod(layer.output_shape)}


def _table(table: Int, layer: Layer) -> Context:
    is_wide = layer.output_format.bits == 32
    return {"table": _values(table), "table_type": _entry_type(table) if is_wide else layer.output_format.c_type}


def _values(table: Int) -> tuple[int, ...]:
    return tuple(int(value) for value in table)


def _entry_type(table: Int) -> str:
    """Return the type of 16 bits that holds a table."""
    return "uint16_t" if table.max() > 0x7FFF else "int16_t"


def _table_bytes(layer: Layer) -> int:
    op = layer.op
    if not isinstance(op, IntegerLookup | IntegerInterpolation):
        raise TypeError(op.kind)
    is_narrow = isinstance(op, IntegerLookup) and layer.output_format.bits == 8
    return len(op.table) * (1 if is_narrow else 2)


ELEMENTWISE_KERNELS = (
    PlainKernel("plain", "lookup", "ops/lookup.c.j2", 6, _lookup, _table_bytes),
    PlainKernel("plain", "interpolation", "ops/interpolation.c.j2", 20, _interpolation, _table_bytes),
    PlainKernel("plain", "cordic", "ops/cordic.c.j2", 350, _cordic),
    PlainKernel("plain", "clip", "ops/clip.c.j2", 8, _clip),
    PlainKernel("plain", "prelu", "ops/prelu.c.j2", 45, _prelu, _prelu_table_bytes),
)
