"""A function of one activation by CORDIC instead of a table: no table to store, some hundred instructions a value."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile import cordic
from mcucompile.ir import Array, Format, Op, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp, largest
from mcucompile.numerics import INT32_MAX, MAX_SHIFT, Int, Requantization
from mcucompile.ops.formula import Formula, X

CORDIC_FUNCTIONS: Mapping[str, Callable[[Int], Int]] = {
    "sin": cordic.cordic_sin,
    "cos": cordic.cordic_cos,
    "exp": cordic.cordic_exp,
    "sigmoid": cordic.cordic_sigmoid,
    "tanh": cordic.cordic_tanh,
}
_ONE = 1 << cordic.FRACTION_BITS
# Where all functions but sine and cosine have come to rest; those are covered up to here.
_REACH = cordic.REACH / _ONE
# How far a rounded multiplier may move its product, in units of the result, where int32 is wide enough.
_TOLERANCE = 1 / 64


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerCordic(Op):
    """y = requantize(function(argument(x or -x))), element by element.

    Attributes:
        function: a name in CORDIC_FUNCTIONS, of and in Q15.
        negated: the argument is that of -x.
        argument: codes of the input to Q15, clamped to the function's domain.
        requantize: Q15 to codes of the output.
    """

    kind: ClassVar[str] = "cordic"
    is_elementwise: ClassVar[bool] = True
    function: str
    negated: bool
    argument: Requantization
    requantize: Requantization

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return shapes[0]

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        x = inputs[0].astype(np.int64)
        return self.requantize.apply(CORDIC_FUNCTIONS[self.function](self.argument.apply(-x if self.negated else x)))

    def accumulations(self, *formats: Format) -> Iterator[tuple[Requantization, Int, Int]]:
        """Yield what becomes an argument and what becomes a code, with their bounds."""
        ends = -formats[0].maximum, -formats[0].minimum
        low, high = ends if self.negated else (formats[0].minimum, formats[0].maximum)
        yield self.argument, np.array([low]), np.array([high])
        yield self.requantize, np.array([-_ONE]), np.array([_ONE])


@dataclass(frozen=True, slots=True, eq=False)
class CordicExponentials:
    """exp(-scale * d) in units of 2**-15 by CORDIC, where `softmax.Exponentials` has tables.

    Attributes:
        argument: -d to Q15.
    """

    argument: Requantization

    def of(self, distance: Int) -> Int:
        """Return the exponentials. distance: at least 0."""
        return cordic.cordic_exp(self.argument.apply(-distance))


@dataclass(frozen=True, slots=True)
class _Inner:
    """A function's argument: min(max(scale * x + offset, low), high)."""

    scale: float = 1.0
    offset: float = 0.0
    low: float = -math.inf
    high: float = math.inf

    def scaled(self, scale: float, offset: float) -> "_Inner":
        ends = sorted((self.low * scale + offset, self.high * scale + offset))
        return _Inner(self.scale * scale, self.offset * scale + offset, *ends)

    def clipped(self, low: float, high: float) -> "_Inner":
        return _Inner(self.scale, self.offset, *(min(max(end, low), high) for end in (self.low, self.high)))


def lower_by_cordic(op: RealOp, formula: Formula, lowering: Lowering) -> Lowered | None:
    """Return a formula by CORDIC, None if it does not cover it: then a table has to do.

    Covered are the functions of CORDIC_FUNCTIONS, of x behind scales, offsets, rectifiers and clips; sine and
    cosine as far as no code of the input gives an argument beyond 16. Where the output has 8 bits, or a given
    format, its format is the table's. A wider one has CORDIC's own steps, 2**-15 of the largest value.

    Args:
        op: the operator that computes the formula.
        formula: element by element.
        lowering: formats and ranges.
    """
    found = _split(formula)
    if found is None:
        return None
    function, inner = found
    source = lowering.formats[0]
    codes = np.array([source.minimum, source.maximum])
    ends = np.clip(inner.scale * source.dequantize(codes) + inner.offset, inner.low, inner.high)
    if function in ("sin", "cos") and np.abs(ends).max() > _REACH:
        return None
    has_own_steps = lowering.given is None and (lowering.activation_bits > 8 or lowering.is_result)
    narrow = None if has_own_steps else lowering.free_format()
    peak = 1.0
    if function == "exp":
        # exp(z) = peak * exp(z - log(peak)): CORDIC's argument is never positive.
        wanted = 2 * largest(lowering.output) if narrow is None else float(narrow.dequantize(np.array(narrow.maximum)))
        peak = math.exp(min(float(ends.max()), math.log(wanted)))
        if peak == 0:
            return None
        inner = inner.scaled(1.0, -math.log(peak)).clipped(-math.inf, 0.0)
    format_ = narrow or _wide_format(function, peak, lowering)
    argument = _argument(inner, source)
    gain = peak / _ONE / format_.scale
    limits = (format_.minimum, format_.maximum)
    requantize = fine_requantization(gain, (-_ONE, _ONE), limits, at=format_.zero_point)
    if argument is None or requantize is None:
        return None
    integer = IntegerCordic(
        name=op.name,
        inputs=op.inputs,
        output=op.output,
        source=op.source,
        function=function,
        negated=inner.scale < 0,
        argument=argument,
        requantize=requantize,
    )
    return Lowered(integer, format_)


def cordic_exponentials(source: Format) -> CordicExponentials | None:
    """Return exponentials of distances between an input's codes, None if int32 is too narrow for its scale."""
    bounds = (source.minimum - source.maximum, 0)
    argument = fine_requantization(source.scale * _ONE, bounds, (-cordic.REACH, 0))
    return None if argument is None else CordicExponentials(argument)


def fine_requantization(
    gain: float, bounds: tuple[int, int], limits: tuple[int, int], *, start: float = 0.0, at: float = 0.0
) -> Requantization | None:
    """Return y = at + gain * (acc - start) with as few multiplier bits as make no difference, or as fit int32.

    Args:
        gain: positive.
        bounds: smallest and largest acc.
        limits: smallest and largest y.
        start: an acc whose y the rounded multiplier leaves as it is.
        at: that y.
    Returns:
        None if no multiplier fits.
    """
    reach = max(abs(bound - start) for bound in bounds)
    low, high = (np.array([bound]) for bound in bounds)
    best = None
    for shift in range(MAX_SHIFT + 1):
        multiplier = round(gain * 2.0**shift)
        offset = math.floor(at * 2.0**shift - start * multiplier + 0.5)
        if multiplier == 0:
            continue
        if max(multiplier, abs(offset)) > INT32_MAX:
            break
        candidate = Requantization(np.array([multiplier]), np.array([offset]), np.array([shift]), *limits)
        if candidate.worst(low, high).max() > INT32_MAX:
            break
        best = candidate
        if abs(multiplier / 2.0**shift - gain) * reach + 2.0**-shift <= _TOLERANCE:
            break
    return best


def _split(formula: Formula) -> tuple[str, _Inner] | None:
    """Return the function and its argument, None if the formula has another form."""
    first, *before, last = (*formula, X) if len(formula) < 2 else formula
    if first != X or last.function not in CORDIC_FUNCTIONS:
        return None
    inner = _Inner()
    for step in before:
        match step.function, step.parameters:
            case "affine", (scale, offset) if scale != 0:
                inner = inner.scaled(scale, offset)
            case "relu", ():
                inner = inner.clipped(0.0, math.inf)
            case "clip", (low, high):
                inner = inner.clipped(low, high)
            case _:
                return None
    return last.function, inner


def _argument(inner: _Inner, source: Format) -> Requantization | None:
    """Return the argument in Q15 of a code, or of a negated one if the scale is negative."""
    sign = -1 if inner.scale < 0 else 1
    first, last = sorted((sign * source.minimum, sign * source.maximum))
    low, high = (math.floor(min(max(end, -_REACH), _REACH) * _ONE + 0.5) for end in (inner.low, inner.high))
    # Where the argument is 0, functions are steepest: there it is exact.
    start = sign * (source.zero_point - inner.offset / (inner.scale * source.scale))
    return fine_requantization(abs(inner.scale) * source.scale * _ONE, (first, last), (low, high), start=start)


def _wide_format(function: str, peak: float, lowering: Lowering) -> Format:
    """Return the format of 16 or 32 bits whose steps are CORDIC's."""
    bits = 32 if lowering.is_result else lowering.activation_bits
    is_signed = lowering.is_result or function in ("sin", "cos", "tanh")
    return Format(bits, is_signed, peak / _ONE)
