"""What an operator is told when it turns itself into integers, and the choices it makes from that."""

import math
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mcucompile.encodings import Encoding
from mcucompile.ir import Array, Format, Graph, Op
from mcucompile.numerics import Int, Real, Requantization, requantization, short_multipliers
from mcucompile.precise import Target, narrow_requantization, precise_requantization

# Odd multipliers below 16: 1, 3, 5, 7, 9, 15 with two signed digits. Wider ones gain little once scales
# are chosen to fit them, and each bit of width is a bit of accumulator lost.
MULTIPLIER_WIDTH = 4
# A result that leaves the model keeps 16 significant bits, stored as int32: no ties between classes.
RESULT_STEPS = 1 << 15
# The largest integer of an 8-bit weight.
LARGEST_WEIGHT = 127
# What infinity is in a graph of reals, whose values stay finite.
MASKED = 1e9
_CLIPS = np.linspace(1.0, 0.5, 26)
# How much finer than usual the steps of values are that are read for their signs.
_FINENESS = 64
# A clip is measured on this many values at most; more do not change which one is best.
_MEASURED_VALUES = 1 << 16


@dataclass(frozen=True, slots=True)
class ScaleRule:
    """What a reader wants of a format's scale.

    Attributes:
        least: so that weights in the same scale fit their bits.
        exact: the only scale that will do; None: any.
        reach: the largest magnitude, real; what is beyond is clamped.
        only_signs: nothing but signs is read.
        room: as `least`, for weights that may be clamped to the largest value of the format.
    """

    least: float = 0.0
    exact: float | None = None
    reach: float = math.inf
    only_signs: bool = False
    room: float = 0.0

    def __or__(self, other: "ScaleRule") -> "ScaleRule":
        """Return a rule that satisfies both; of two exact scales, which no two similarities want, the first."""
        exact = other.exact if self.exact is None else self.exact
        only_signs = self.only_signs and other.only_signs
        least, room = max(self.least, other.least), max(self.room, other.room)
        return ScaleRule(least, exact, min(self.reach, other.reach), only_signs, room)

    def exact_format(self, bits: int, *, signed: bool) -> Format:
        """Return the format with the exact scale, which there is, its codes limited to the reach."""
        if self.exact is None:
            raise TypeError("any scale will do")
        plain = Format(bits, signed, self.exact)
        largest_code = min(plain.maximum, int(self.reach / self.exact))
        return replace(plain, limits=(max(plain.minimum, -largest_code), largest_code))


@dataclass(frozen=True, slots=True, eq=False)
class Lowering:
    """Everything an operator needs to choose its integers.

    Attributes:
        formats: of the inputs.
        inputs: calibrated real values of the inputs, (samples, ...) each.
        output: calibrated real values of the output, (samples, ...).
        is_result: the output leaves the model and nothing else reads it.
        encoding: the weight encoding for this operator.
        activation_bits: 8 or 16, of a stored output.
        terms: how many signed powers of two a requantization multiplier may have.
        corrects_rounding: biases, and weights not yet rounded, take back what rounding weights does to a sum.
        by_cordic: functions are computed by CORDIC where it covers them, not looked up in tables.
        given: the output's format if the model gives it, which only an operator that takes formats is told.
        scale: what readers want of the output's scale, which only operators with a free one are told.
    """

    formats: tuple[Format, ...]
    inputs: tuple[Array, ...]
    output: Array
    is_result: bool
    encoding: Encoding
    activation_bits: int
    terms: int
    corrects_rounding: bool
    by_cordic: bool = False
    given: Format | None = None
    scale: ScaleRule = ScaleRule()

    @property
    def multipliers(self) -> tuple[int, ...]:
        """The allowed odd multipliers."""
        return short_multipliers(self.terms, MULTIPLIER_WIDTH)

    def requantize_to(
        self,
        format_: Format,
        *,
        gain: Real,
        bias: Real,
        bounds: tuple[Int, Int],
        multipliers: tuple[int, ...],
        limits: tuple[int, int] | None = None,
        is_narrow: bool = False,
    ) -> Requantization:
        """Return the requantization into the output's format, exactly rounded if the format is given.

        Args:
            multipliers: those allowed where the format was chosen to fit them.
            format_, gain, bias, bounds, limits, is_narrow: as of `requantize_exactly_to`.
        """
        if self.given is not None:
            return requantize_exactly_to(
                format_, gain=gain, bias=bias, bounds=bounds, limits=limits, is_narrow=is_narrow
            )
        minimum, maximum = limits or (format_.minimum, format_.maximum)
        return requantization(
            gain, bias, minimum=minimum, maximum=maximum, zero_point=format_.zero_point, multipliers=multipliers
        )

    def output_format(self, *, signed: bool) -> Format:
        """Return the output format: the given one, or the one whose clip measures best on the samples."""
        if self.given is not None:
            return self.given
        if self.is_result:
            return Format(32, True, largest(self.output) / RESULT_STEPS)
        if self.scale.exact is not None:
            return self.scale.exact_format(self.activation_bits, signed=signed)
        best = best_format(self.output, signed=signed, bits=self.activation_bits)
        if self.scale.only_signs:
            # Clamping keeps a sign; rounding a small negative value to 0 does not.
            return replace(best, scale=best.scale / _FINENESS)
        whole = best.scale * best.maximum / LARGEST_WEIGHT
        if self.scale.room > whole >= self.scale.least:
            # Weights reach past every x, and will be clamped to the largest one: it is theirs too.
            return replace(best, scale=whole, limits=(max(best.minimum, -LARGEST_WEIGHT), LARGEST_WEIGHT))
        return replace(best, scale=max(best.scale, self.scale.least, self.scale.room))

    def free_format(self) -> Format:
        """Return the format of a stored output, given or measuring best, for operators that can give any."""
        if self.given is not None:
            return self.given
        low, high = float(self.output.min()), float(self.output.max())
        plain = best_format(self.output, signed=low < 0, bits=self.activation_bits)
        if self.activation_bits > 8 or low >= 0:
            return plain
        # Values that are not spread evenly around 0 leave codes of a symmetric format unused.
        real = np.asarray(_some(self.output), dtype=np.float64)
        steps = (1 << self.activation_bits) - 1
        shifted = []
        for clip in _CLIPS:
            scale = (max(high, 0.0) - low) * clip / steps
            shifted.append(Format(self.activation_bits, False, scale, int(min(-low * clip / scale + 0.5, steps))))
        candidates = [plain, *shifted]
        errors = [squared_error(real, format_.dequantize(format_.quantize(real))) for format_ in candidates]
        return candidates[int(np.argmin(errors))]


@dataclass(frozen=True, slots=True, eq=False)
class Lowered:
    """An operator in integers and the format of its output."""

    op: Op
    format: Format


class RealOp(Op):
    """An operator of the real graph: it can turn itself into integers."""

    __slots__ = ()
    # True if `lower` gives the output whatever format of 8 or 16 bits it is told to.
    takes_format: ClassVar[bool] = False
    # True if the output's format needs no samples.
    keeps_format: ClassVar[bool] = False

    @abstractmethod
    def lower(self, lowering: Lowering) -> Lowered:
        """Return the integer operator and its output's format, or raise QuantizationError."""

    def permuted(self, _permutation: tuple[int, ...]) -> "RealOp | None":
        """Return the operator g with self(transpose(x, p)) == transpose(g(x), p), None if there is none.

        Several inputs are all permuted alike. passes/sink_transposes.py moves transpositions by it.
        """
        return None


def chooses_formats(graph: Graph) -> bool:
    """Return whether a real graph leaves some format to be chosen, for which samples are needed."""
    return graph.input.format is None or any(
        graph.tensors[op.output].format is None and not (isinstance(op, RealOp) and op.keeps_format) for op in graph.ops
    )


def rectified(y: Array, *, relu: bool, ceiling: float) -> Array:
    """Return min(max(y, 0), ceiling) if relu, else y."""
    return np.clip(y, np.float32(0), np.float32(ceiling)) if relu else y


def code_limits(format_: Format, *, relu: bool, ceiling: float) -> tuple[int, int]:
    """Return the smallest and largest code of an output that is rectified or not."""
    if not relu:
        return format_.minimum, format_.maximum
    return max(format_.minimum, format_.zero_point), int(format_.quantize(np.array(ceiling)))


def requantize_exactly_to(
    format_: Format,
    *,
    gain: Real,
    bias: Real,
    bounds: tuple[Int, Int],
    limits: tuple[int, int] | None = None,
    is_narrow: bool = False,
) -> Requantization:
    """Return the requantization into a given format that rounds every accumulator exactly.

    Args:
        format_: of the output.
        gain: (channels,) positive, accumulator to output code.
        bias: (channels,) in accumulator units.
        bounds: (channels,) smallest and largest accumulator.
        limits: the clamp in codes; default: the format's.
        is_narrow: intermediates must fit 32 bits; what that leaves of a multiplier is nearly exact.
    """
    minimum, maximum = limits or (format_.minimum, format_.maximum)
    target = Target(gain, bias, *bounds, minimum, maximum, format_.zero_point)
    return narrow_requantization(target) if is_narrow else precise_requantization(target)


def largest(values: Array) -> float:
    """Return the largest magnitude, 1.0 for all zeros."""
    return float(np.abs(values).max(initial=0.0)) or 1.0


def best_format(values: Array, *, signed: bool, bits: int = 8, scales: Iterable[float] | None = None) -> Format:
    """Return the format with the least squared error on the values.

    Args:
        values: real samples.
        signed: two's complement, symmetric; else unsigned, and negative values become 0.
        bits: 8 or 16.
        scales: the scales to choose from; default: clips at 50 to 100 % of the largest value.
    """
    steps = (1 << (bits - signed)) - 1
    peak = largest(values if signed else np.maximum(values, 0))
    candidates = [peak * clip / steps for clip in _CLIPS] if scales is None else list(scales)
    formats = [Format(bits, signed, scale) for scale in candidates]
    real = np.asarray(_some(values), dtype=np.float64)
    errors = [squared_error(real, candidate.dequantize(candidate.quantize(real))) for candidate in formats]
    return formats[int(np.argmin(errors))]


def _some(values: Array) -> Array:
    flat = values.reshape(-1)
    if flat.size <= _MEASURED_VALUES:
        return flat
    return flat[np.random.default_rng(0).integers(0, flat.size, _MEASURED_VALUES)]


def squared_error(exact: Real, approximate: Real) -> float:
    """Return the mean squared difference."""
    return float(np.mean(np.square(exact - approximate)))
