"""The plain kernels of operators of two activations."""

import math

from mcucompile.ir import Shape
from mcucompile.kernels.kernel import Context, Layer
from mcucompile.kernels.plain import PlainKernel
from mcucompile.kernels.requantize import requantize_code, signed_digits
from mcucompile.numerics import Int
from mcucompile.ops import IntegerAdd, IntegerExtremum, IntegerMultiply


def pair_loops(shapes: tuple[Shape, ...], output: Shape) -> tuple[tuple[int, ...], ...]:
    """Return the loops over the output: the length of each and by how much it moves in each input.

    Axes that both inputs go through alike are one loop.
    """
    loops: list[tuple[int, ...]] = []
    for axis, length in enumerate(output):
        if length == 1:
            continue
        steps = tuple(0 if shape[axis] == 1 else math.prod(shape[axis + 1 :]) for shape in shapes)
        if loops and loops[-1][1:] == tuple(step * length for step in steps):
            loops[-1] = (loops[-1][0] * length, *steps)
        else:
            loops.append((length, *steps))
    return tuple(loops) or ((1, *(1 for _ in shapes)),)


def _pair(layer: Layer) -> dict[str, object]:
    return {"loops": pair_loops(layer.shapes, layer.output_shape)}


def _digits(multipliers: Int) -> tuple[tuple[int, ...], ...]:
    return tuple(signed_digits(abs(int(m))) for m in multipliers)


def _add(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, IntegerAdd):
        raise TypeError(op.kind)
    return {
        **_pair(layer),
        "digits": _digits(op.multipliers),
        "operation": "subtract" if op.multipliers[1] < 0 else "add",
        "requantize": requantize_code(op.requantize, layer.output_format),
    }


def _multiply(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, IntegerMultiply):
        raise TypeError(op.kind)
    return {
        **_pair(layer),
        "zero_points": op.zero_points,
        "dropped": op.dropped,
        "unsigned": op.is_unsigned(*layer.formats),
        "requantize": requantize_code(op.requantize, layer.output_format),
    }


def _extremum(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, IntegerExtremum):
        raise TypeError(op.kind)
    return {
        **_pair(layer),
        "digits": _digits(op.multipliers),
        "offsets": tuple(int(offset) for offset in op.offsets),
        "comparison": ">" if op.largest else "<",
        "requantize": requantize_code(op.requantize, layer.output_format),
    }


PAIR_KERNELS = (
    PlainKernel("plain", "add", "ops/add.c.j2", 12, _add),
    PlainKernel("plain", "multiply", "ops/multiply.c.j2", 25, _multiply),
    PlainKernel("plain", "extremum", "ops/extremum.c.j2", 14, _extremum),
)
