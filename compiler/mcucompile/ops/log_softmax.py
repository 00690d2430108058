"""Logarithm of softmax over the last axis: a table of exp, or CORDIC, and a table of log for each row."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.ir import Array, Format, Op, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp, largest
from mcucompile.numerics import Int
from mcucompile.ops.cordic_function import CordicExponentials
from mcucompile.ops.softmax import TABLE_BITS, Exponentials, checked_classes, exponentials

# Straight lines between this many points of log(1 + f), and the bits of f between two of them.
_SEGMENTS = 128
_PLACE_BITS = 7
_SUM_BITS = 31
# No value may leave this many bits.
_REACH_BITS = 30


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LogSoftmax(RealOp):
    """y = x - max x - log(sum exp(x - max x)) over the last axis, real."""

    kind: ClassVar[str] = "log_softmax"

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return checked_classes(self, shapes[0])

    def run(self, *inputs: Array) -> Array:
        """Compute in float32."""
        x = inputs[0].astype(np.float32)
        distance = x - x.max(axis=-1, keepdims=True)
        return np.asarray(distance - np.log(np.exp(distance).sum(axis=-1, keepdims=True)), dtype=np.float32)

    def lower(self, lowering: Lowering) -> Lowered:
        """Never positive: an 8-bit output has its zero point at the top."""
        source = lowering.formats[0]
        peak = largest(lowering.output)
        format_ = Format(32, True, peak / (1 << TABLE_BITS))
        if not lowering.is_result:
            top = (1 << lowering.activation_bits) - 1
            format_ = Format(lowering.activation_bits, False, peak / top, top)
        # Every value, for any input, is below 2**30 units.
        worst = (1 << source.bits) * source.scale + math.log(lowering.output.shape[-1]) + 1
        shift = max(0, min(_REACH_BITS, math.floor(math.log2((1 << _REACH_BITS) * format_.scale / worst))))
        unit = format_.scale / 2.0**shift
        points = np.log1p(np.arange(_SEGMENTS + 1) / _SEGMENTS) / unit
        op = IntegerLogSoftmax(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            exponentials=exponentials(source, self.source, by_cordic=lowering.by_cordic),
            step=max(round(source.scale / unit), 1),
            logarithms=np.floor(points + 0.5).astype(np.int64),
            octave=round(math.log(2) / unit),
            shift=shift,
            zero_point=format_.zero_point,
            minimum=format_.minimum,
        )
        return Lowered(op, format_)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerLogSoftmax(Op):
    """y = max(zero_point + ((half - d * step - log(sum e(d))) >> shift), minimum), d = max x - x.

    Attributes:
        exponentials: e.
        step: the input's scale, in units of 2**-shift output codes.
        logarithms: (129,) log(1 + i / 128) in those units.
        octave: log 2 in those units.
        zero_point, minimum: of the output.
    """

    kind: ClassVar[str] = "log_softmax"
    exponentials: Exponentials | CordicExponentials
    step: int
    logarithms: Int
    octave: int
    shift: int
    zero_point: int
    minimum: int

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return checked_classes(self, shapes[0])

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        x = inputs[0].astype(np.int64)
        distance = x.max(axis=-1, keepdims=True) - x
        total = self.exponentials.of(distance).sum(axis=-1, keepdims=True)
        y = ((1 << self.shift >> 1) - distance * self.step - self._logarithm(total)) >> self.shift
        return np.asarray(np.maximum(y + self.zero_point, self.minimum), dtype=np.int64)

    def _logarithm(self, total: Int) -> Int:
        """Return log(total / 2**15), total 2**15..2**31 - 1."""
        mantissa = total.copy()
        octaves = np.full_like(mantissa, _SUM_BITS - 1 - TABLE_BITS)
        for _ in range(_SUM_BITS - 1 - TABLE_BITS):
            small = mantissa < 1 << (_SUM_BITS - 1)
            mantissa = np.where(small, mantissa << 1, mantissa)
            octaves -= small
        place = (mantissa - (1 << (_SUM_BITS - 1))) >> (_SUM_BITS - 1 - 2 * _PLACE_BITS)
        low = self.logarithms[place >> _PLACE_BITS]
        rise = self.logarithms[(place >> _PLACE_BITS) + 1] - low
        between = (rise * (place & (_SEGMENTS - 1)) + (_SEGMENTS >> 1)) >> _PLACE_BITS
        return np.asarray(octaves * self.octave + low + between)
