"""Values divided by their own spread: layer, instance, group, root-mean-square and Lp normalisation."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.errors import ModelError, QuantizationError
from mcucompile.ir import Array, Format, Op, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp
from mcucompile.numerics import Int, Requantization, fraction, requantization, square_root
from mcucompile.ops.linear import fitted_format
from mcucompile.ops.pair import bits_beyond, centred_bounds

FUNCTIONS = ("deviation", "root_mean_square", "l2", "l1")
# A root has 31 bits, its inverse 15, a value to divide 15: a product fits int32.
_ROOT_BITS = 31
_INVERSE_BITS = 15
_VALUE_BITS = 15
# Fraction bits of a quotient, and how large it may be so that it can be multiplied.
_FRACTION_BITS = 14
_QUOTIENT_BITS = 24
_SPREAD_BITS = 61


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Normalize(RealOp):
    """x: (outer, n, inner) -> y of that shape, real; over the n values of each lane.

    Attributes:
        function: "deviation": (x - mean) / sqrt(variance + epsilon); "root_mean_square":
            x / sqrt(mean(x^2) + epsilon); "l2": x / sqrt(sum x^2); "l1": x / sum |x|. 0 / 0 is 0.
        epsilon: at least 0; 0 for the norms.
    """

    kind: ClassVar[str] = "normalize"
    function: str
    epsilon: float = 0.0

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return _checked(self, shapes[0])

    def run(self, *inputs: Array) -> Array:
        """Compute in float64, return float32."""
        x = inputs[0].astype(np.float64)
        if self.function == "deviation":
            x = x - x.mean(axis=2, keepdims=True)
        if self.function == "l1":
            spread = np.abs(x).sum(axis=2, keepdims=True)
        else:
            squares = np.square(x)
            total = squares.sum(axis=2, keepdims=True) if self.function == "l2" else squares.mean(axis=2, keepdims=True)
            spread = np.sqrt(total + self.epsilon)
        return np.asarray(np.divide(x, spread, out=np.zeros_like(x), where=spread > 0), dtype=np.float32)

    def lower(self, lowering: Lowering) -> Lowered:
        """Choose an output scale for which the multiplier is exact."""
        source = lowering.formats[0]
        count = lowering.inputs[0].shape[2]
        low, high = centred_bounds(source)
        reach = max(high - low if self.function == "deviation" else 0, -low, high)
        weight = 1 if self.function in ("l1", "l2") else count
        added = round(self.epsilon / source.scale**2 * count**2) if weight > 1 or count == 1 else 0
        if bits_beyond((0, count * reach), 30) or added.bit_length() > _SPREAD_BITS:
            raise QuantizationError(
                self.source, f"normalises {count} values of {source}", "normalise fewer values, or 8-bit ones"
            )
        largest = 1.0 if weight == 1 else math.sqrt(count)
        bits = min(_FRACTION_BITS, _QUOTIENT_BITS - 1 - math.ceil(math.log2(largest + 1)))
        format_ = fitted_format(lowering, 2.0**-bits, signed=True)
        op = IntegerNormalize(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            function=self.function,
            zero_point=source.zero_point,
            added=added,
            dropped=bits_beyond((0, weight * reach), _VALUE_BITS),
            bits=bits,
            largest=math.ceil(largest * 2.0**bits * 1.001) + 1,
            requantize=requantization(
                np.array([2.0**-bits / format_.scale]),
                np.zeros(1),
                minimum=format_.minimum,
                maximum=format_.maximum,
                zero_point=format_.zero_point,
                multipliers=lowering.multipliers,
            ),
        )
        return Lowered(op, format_)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerNormalize(Op):
    """y = requantize(round(value / root(spread))): exact sums, a root of 31 bits, an inverse of 15, no division.

    With c = x - zero_point, S = sum c and Q = sum c^2 over the n values of a lane:
    deviation: value = n c - S, spread = n Q - S^2 + added; root_mean_square: value = n c, spread = n Q + added;
    l2: value = c, spread = Q; l1: value = c, spread = (sum |c|)^2.

    Attributes:
        function: as of Normalize.
        zero_point: of x.
        added: epsilon in units of the spread.
        dropped: bits of a value that are rounded away.
        bits: fraction bits of a quotient.
        largest: magnitude of a quotient.
    """

    kind: ClassVar[str] = "normalize"
    function: str
    zero_point: int
    added: int
    dropped: int
    bits: int
    largest: int
    requantize: Requantization

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return _checked(self, shapes[0])

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        centred = inputs[0].astype(np.int64) - self.zero_point
        count = centred.shape[2]
        total, squares = centred.sum(axis=2, keepdims=True), np.square(centred).sum(axis=2, keepdims=True)
        match self.function:
            case "deviation":
                value, spread = count * centred - total, count * squares - np.square(total) + self.added
            case "root_mean_square":
                value, spread = count * centred, count * squares + self.added
            case "l2":
                value, spread = centred, squares
            case _:
                value, spread = centred, np.square(np.abs(centred).sum(axis=2, keepdims=True))
        inverse, exponent = inverse_root(spread)
        product = ((value + (1 << self.dropped >> 1)) >> self.dropped) * inverse
        shift = np.minimum(exponent - self.bits - self.dropped, 31)
        half = (np.int64(1) << shift) >> 1
        return self.requantize.apply(np.clip((product + half) >> shift, -self.largest, self.largest))

    def accumulator_bounds(self, *_formats: Format) -> tuple[Int, Int]:
        """Return the smallest and largest quotient for any input, (1,) each."""
        return np.array([-self.largest]), np.array([self.largest])


def inverse_root(spread: Int) -> tuple[Int, Int]:
    """Return i and e with i / 2**e = 1 / sqrt(spread), i of 15 bits; i is 0 for 0. Twin: mcu_inverse_root_u64.

    spread: 0..2**62 - 1. e is 15..45.
    """
    wide = spread.copy()
    places = np.zeros_like(wide)
    for _ in range(_ROOT_BITS):
        small = wide < 1 << (2 * _ROOT_BITS - 2)
        wide = np.where(small & (wide > 0), wide << 2, wide)
        places += small & (wide > 0)
    root = np.maximum(square_root(wide), 1)
    numerator = np.full_like(wide, 1 << (_ROOT_BITS - 1))
    inverse = np.where(wide > 0, fraction(np.minimum(numerator, root), root, _INVERSE_BITS), 0)
    return inverse, _ROOT_BITS - 1 + _INVERSE_BITS - places


def _checked(op: Op, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise ModelError(op.source, f"normalises the middle of three axes, its input is {shape}", "re-export the model")
    return shape
