"""Sum of two activations of the same shape: y = relu?(a + b)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.ir import Array, Format, Op, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp, best_format, code_limits, rectified
from mcucompile.numerics import Int, Requantization, short_multipliers

# Two inputs, one free output scale: pairs of short multipliers reach any ratio of scales within 1 %.
_WIDTH = 7
_FRACTION_BITS = 12


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Add(RealOp):
    """y = relu?(a + b), element by element, real. Shapes must be equal: constants are folded elsewhere.

    Attributes:
        relu: clamp the result at 0 and at `ceiling`.
    """

    kind: ClassVar[str] = "add"
    relu: bool = False
    ceiling: float = math.inf

    def output_shape(self, *shapes: Shape) -> Shape:
        """The common shape."""
        return _common_shape(self, *shapes)

    def run(self, *inputs: Array) -> Array:
        """Compute in float32."""
        y = inputs[0].astype(np.float32) + inputs[1]
        return rectified(y, relu=self.relu, ceiling=self.ceiling)

    def permuted(self, _permutation: tuple[int, ...]) -> "Add":
        """The same operator."""
        return self

    def lower(self, lowering: Lowering) -> Lowered:
        """Choose an output scale near the best one for which both multipliers are nearly exact."""
        first, second = lowering.formats
        allowed = np.array(short_multipliers(lowering.terms, _WIDTH), dtype=np.float64)
        mantissa = allowed / 2.0 ** np.floor(np.log2(allowed))
        # scale_out = scale_first / (m_first * 2**-k): for each m_first find the m_second that fits best.
        ratio = second.scale / first.scale
        wanted = mantissa[:, None] * ratio
        octave = np.floor(np.log2(wanted / mantissa[None, :]) + 0.5)
        error = np.abs(np.log(mantissa[None, :] * 2.0**octave / wanted))
        i, j = np.unravel_index(int(np.argmin(error)), error.shape)
        target = lowering.output_format(signed=not self.relu)
        base = first.scale / mantissa[i]
        exponent = np.floor(np.log2(target.scale / base))
        scales = [float(base * 2.0**e) for e in (exponent, exponent + 1)]
        if lowering.is_result:
            format_ = Format(32, True, scales[0])
        else:
            format_ = best_format(lowering.output, signed=not self.relu, bits=lowering.activation_bits, scales=scales)
        multipliers = [first.scale / format_.scale, mantissa[j] * 2.0 ** octave[i, j] * base / format_.scale]
        shift = _FRACTION_BITS
        while (
            shift
            and any((m * 2.0**shift) % 2 == 0 for m in multipliers)
            and all((m * 2.0**shift) % 2 == 0 for m in multipliers)
        ):
            shift -= 1
        integers = np.array([int(m * 2.0**shift) for m in multipliers], dtype=np.int64)
        zero = int(integers[0]) * first.zero_point + int(integers[1]) * second.zero_point
        op = IntegerAdd(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            multipliers=integers,
            requantize=Requantization(
                np.array([1]),
                np.array([(format_.zero_point << shift) - zero]),
                np.array([shift]),
                *code_limits(format_, relu=self.relu, ceiling=self.ceiling),
            ),
        )
        return Lowered(op, format_)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerAdd(Op):
    """y = requantize(a * multipliers[0] + b * multipliers[1]).

    Attributes:
        multipliers: (2,) short signed sums of powers of two.
    """

    kind: ClassVar[str] = "add"
    is_elementwise: ClassVar[bool] = True
    multipliers: Int
    requantize: Requantization

    def output_shape(self, *shapes: Shape) -> Shape:
        """The common shape."""
        return _common_shape(self, *shapes)

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        a, b = (x.astype(np.int64) for x in inputs)
        return self.requantize.apply(a * self.multipliers[0] + b * self.multipliers[1])

    def accumulator_bounds(self, *formats: Format) -> tuple[Int, Int]:
        """Return the smallest and largest accumulator for any input, (1,) each."""
        low = sum(int(m) * f.minimum for m, f in zip(self.multipliers, formats, strict=True))
        high = sum(int(m) * f.maximum for m, f in zip(self.multipliers, formats, strict=True))
        return np.array([low]), np.array([high])


def _common_shape(op: Op, *shapes: Shape) -> Shape:
    if len(shapes) != 2 or shapes[0] != shapes[1]:
        listed = " and ".join(map(str, shapes))
        raise ModelError(op.source, f"adds activations of shapes {listed}", "give both inputs the same shape")
    return shapes[0]
