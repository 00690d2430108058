"""Formats that a model brings along for its activations."""

import numpy as np

from mcucompile.frontends.builder import Activation, Builder, Constant, Kind
from mcucompile.frontends.refusals import RefusalError
from mcucompile.ir import Format
from mcucompile.ops import FakeQuantize, Relu

# What is left of half a step where a tie must not be one: finer than any step of a sum that has ties, and more than
# ops/linear.py takes for a float32 error of a bias.
_BESIDE_TIE = 2.0**-12


def fake_quantize(builder: Builder, x: Activation, format_: Format) -> Activation:
    """Round x to a format; what comes out are its codes in the user's model, and reals on its steps here."""
    builder.require_real(x)
    y = builder.emit(FakeQuantize, (x,), format=format_)
    return Activation(y.tensor, y.shape, Kind.CODES)


def dequantize(builder: Builder, x: Activation, format_: Format) -> Activation:
    """Return what codes mean in a format, which is nearly always the one that they were made in."""
    if x.kind is Kind.BYTES:
        builder.give_input_format(format_)
        return x.as_real()
    if x.kind is not Kind.CODES:
        raise RefusalError(f"takes {x.kind.value} for quantized codes", "quantize its input before it")
    known = builder.format_of(x)
    if (known.scale, known.zero_point) == (format_.scale, format_.zero_point):
        return x.as_real()
    factor = format_.scale / known.scale
    offset = format_.scale * (known.zero_point - format_.zero_point)
    return builder.affine(x.as_real(), np.array(factor), np.array(offset))


def format_of(scale: Constant, zero_point: Constant) -> Format:
    """Return the format of a scale and a zero point, whose type is the codes'; 8 or 16 bits."""
    if scale.size != 1 or zero_point.size != 1:
        raise RefusalError(
            f"has {max(scale.size, zero_point.size)} scales for an activation", "quantize activations per tensor"
        )
    step = float(np.float32(scale.reshape(-1)[0]))
    if not 0 < step < np.inf:
        raise RefusalError(f"has the scale {step}", "use a positive scale")
    dtype = zero_point.dtype
    if dtype.kind not in "iu" or dtype.itemsize > 2:
        raise RefusalError(f"has codes of type {dtype}", "use uint8, int8, uint16 or int16")
    return Format(8 * dtype.itemsize, dtype.kind == "i", step, int(zero_point.reshape(-1)[0]))


def narrow_format(scale: float, zero_point: int, limits: tuple[int, int]) -> Format:
    """Return the smallest stored format for codes within limits."""
    low, high = limits
    for bits, signed in ((8, False), (8, True), (16, False), (16, True)):
        widest = Format(bits, signed)
        if widest.minimum <= low and high <= widest.maximum:
            own = None if (low, high) == (widest.minimum, widest.maximum) else limits
            return Format(bits, signed, scale, zero_point, own)
    raise RefusalError(f"has codes {low}..{high}", "quantize activations to 16 bits or fewer")


def rounded(builder: Builder, x: Activation, mode: str, step: float) -> Activation:
    """Return x moved so that rounding it to the nearest step is rounding by a mode of QONNX."""
    moves = {
        "ROUND": 0.0,
        "HALF_EVEN": 0.0,
        "HALF_UP": _BESIDE_TIE,
        "HALF_DOWN": -_BESIDE_TIE,
        "FLOOR": _BESIDE_TIE - 0.5,
        "CEIL": 0.5 - _BESIDE_TIE,
    }
    if mode not in moves:
        raise RefusalError(f"rounds activations by '{mode}'", f"use {', '.join(moves)}")
    if moves[mode] == 0:
        return x
    producer = builder.producer(x)
    if not isinstance(producer, Relu):
        return _moved(builder, x, moves[mode] * step)
    # Before a rectifier, where the layer takes the movement in: of less than half a step, it rounds to the same.
    return builder.relu(_moved(builder, Activation(producer.inputs[0], x.shape), moves[mode] * step))


def _moved(builder: Builder, x: Activation, distance: float) -> Activation:
    return builder.affine(x, np.ones(()), np.array(distance))
