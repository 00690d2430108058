"""What operators of two activations share: broadcasting, and integers for two inputs with scales of their own."""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.ir import Format, Op, RowAccess, Shape
from mcucompile.lowering import Lowering, best_format
from mcucompile.numerics import INT32_MAX, MAX_SHIFT, Int, Requantization, short_multipliers
from mcucompile.ops.linear import nearest_exact

# Two inputs, one free output scale: pairs of short multipliers reach any ratio of scales within 1 %.
_WIDTH = 7
_FRACTION_BITS = 12
# Of a given output format: so many lengths of multipliers are looked at for those that miss no code.
_SHIFTS_TRIED = 3
# A product's output scale is raised to the next one with an exact multiplier, by 3 % at most.
_PRODUCT_TERMS = 3
_PRODUCT_WIDTH = 8


@dataclass(frozen=True, slots=True, eq=False)
class CommonScale:
    """Two inputs brought to one scale: real = (code - zero point) * multiplier * format.scale / 2**shift.

    Attributes:
        multipliers: (2,) short signed sums of powers of two.
        shift: from there to the output's codes.
        format: of the output.
        ties_to_even: the multipliers are exact, and ties go to even codes as the model that gives the format has them.
        nudge: what is added before rounding, so that what is nearly a tie goes where that model has it.
    """

    multipliers: Int
    shift: int
    format: Format
    ties_to_even: bool = False
    nudge: int = 0

    def requantize(self, offset: int, limits: tuple[int, int]) -> Requantization:
        """Return the step from the common scale to the output; offset in units of the common scale."""
        zero = self.format.zero_point << self.shift
        even = self.format.zero_point & 1
        step = (np.array([1]), np.array([zero + offset + self.nudge]), np.array([self.shift]))
        return Requantization(*step, *limits, tie_window=int(self.ties_to_even), even=even)


def common_scale(lowering: Lowering, *, signed: bool, subtracts: bool = False) -> CommonScale:
    """Choose an output scale near the best one for which both multipliers are nearly exact; or take the given one.

    Args:
        lowering: formats and ranges of two inputs.
        signed: the output may be negative.
        subtracts: the second input is subtracted.
    """
    first, second = lowering.formats
    fixed = lowering.given
    if fixed is None and lowering.scale.exact is not None:
        fixed = lowering.output_format(signed=signed)
    if fixed is not None:
        return _given_scale(first, second, fixed, subtracts=subtracts)
    allowed = np.array(short_multipliers(lowering.terms, _WIDTH), dtype=np.float64)
    mantissa = allowed / 2.0 ** np.floor(np.log2(allowed))
    # scale_out = scale_first / (m_first * 2**-k): for each m_first find the m_second that fits best.
    ratio = second.scale / first.scale
    wanted = mantissa[:, None] * ratio
    octave = np.floor(np.log2(wanted / mantissa[None, :]) + 0.5)
    error = np.abs(np.log(mantissa[None, :] * 2.0**octave / wanted))
    i, j = np.unravel_index(int(np.argmin(error)), error.shape)
    target = lowering.output_format(signed=signed)
    base = first.scale / mantissa[i]
    exponent = np.floor(np.log2(target.scale / base))
    scales = [float(base * 2.0**e) for e in (exponent, exponent + 1)]
    scales = [scale for scale in scales if scale >= lowering.scale.least]
    if lowering.is_result:
        format_ = Format(32, True, scales[0])
    else:
        format_ = best_format(lowering.output, signed=signed, bits=lowering.activation_bits, scales=scales)
    multipliers = [first.scale / format_.scale, mantissa[j] * 2.0 ** octave[i, j] * base / format_.scale]
    shift = _FRACTION_BITS
    while shift and all((m * 2.0**shift) % 2 == 0 for m in multipliers):
        shift -= 1
    return CommonScale(np.array([int(m * 2.0**shift) for m in multipliers], dtype=np.int64), shift, format_)


def _given_scale(first: Format, second: Format, output: Format, *, subtracts: bool) -> CommonScale:
    """Return multipliers of as many bits as int32 has room for, about 20; of 8-bit codes those that miss none."""
    gains = np.array([first.scale, second.scale]) / output.scale
    reach = np.array([max(map(abs, centred_bounds(f))) + abs(f.zero_point) for f in (first, second)])
    zero = abs(output.zero_point) + 1
    # The signed powers of two of a multiplier add up to less than twice as much.
    shift = math.floor(math.log2(INT32_MAX / (2 * float(gains @ reach) + zero))) - 1
    shift = min(max(shift, 0), MAX_SHIFT - 1)
    multipliers, exponent = _halved(np.maximum(np.floor(gains * 2.0**shift + 0.5), 1).astype(np.int64), shift)
    is_exact = exponent > 0 and np.array_equal(gains * 2.0**exponent, multipliers)
    nearest = CommonScale(multipliers, exponent, output, ties_to_even=is_exact)
    if is_exact or first.bits > 8 or second.bits > 8:
        return nearest
    signs = (1, -1 if subtracts else 1)
    codes = [np.arange(f.minimum, f.maximum + 1) for f in (first, second)]
    centred = [sign * (c - f.zero_point) for sign, c, f in zip(signs, codes, (first, second), strict=True)]
    exact = _sums_of_codes(codes, (first, second), output, subtracts=subtracts)
    wanted = np.clip(exact, output.minimum, output.maximum)
    for tried in range(shift, max(shift - _SHIFTS_TRIED, 0), -1):
        for pair in itertools.product(*(_around(gain * 2.0**tried) for gain in gains)):
            sums = np.add.outer(centred[0] * pair[0], centred[1] * pair[1])
            # sums + offset reaches the code, but not the next one.
            least = ((wanted << tried) - sums)[wanted > output.minimum].max(initial=-INT32_MAX)
            most = ((wanted + 1 << tried) - 1 - sums)[wanted < output.maximum].min(initial=INT32_MAX)
            if least <= most:
                nudge = int(least + most) // 2 - (output.zero_point << tried) - (1 << (tried - 1))
                return CommonScale(np.array(pair), tried, output, nudge=nudge)
    return nearest


def _sums_of_codes(codes: list[Int], formats: tuple[Format, Format], output: Format, *, subtracts: bool) -> Int:
    """Return the output codes, unclamped, for all pairs of codes, rounded as onnxruntime's QLinearAdd rounds.

    It computes fma(a, ratio of a, fma(b, ratio of b, fixed part)) in float32. Products of codes and float32 are exact
    in float64, and so nearly are the sums: each is rounded once.
    """
    ratios = [np.float32(f.scale) / np.float32(output.scale) for f in formats]
    ratios[1] = -ratios[1] if subtracts else ratios[1]
    first, second = (float(ratio) for ratio in ratios)
    moved = np.float32(first * formats[0].zero_point + float(ratios[1] * np.float32(formats[1].zero_point)))
    fixed = np.float32(output.zero_point - float(moved))
    inner = (codes[1] * second + float(fixed)).astype(np.float32)
    sums = np.add.outer(codes[0] * first, inner.astype(np.float64)).astype(np.float32)
    return np.asarray(np.rint(sums), dtype=np.int64)


def _around(real: float) -> tuple[int, ...]:
    """Return the integers around a positive real, the nearest first, those of at least 1."""
    nearest = math.floor(real + 0.5)
    return tuple(sorted((m for m in range(nearest - 3, nearest + 4) if m > 0), key=lambda m: abs(m - real)))


def _halved(multipliers: Int, shift: int) -> tuple[Int, int]:
    """Return multipliers and their shift halved while that loses nothing."""
    while shift and not (multipliers & 1).any():
        multipliers, shift = multipliers >> 1, shift - 1
    return multipliers, shift


def product_requantization(
    lowering: Lowering, format_: Format, unit: float, bounds: tuple[int, int], multipliers: tuple[int, ...]
) -> Requantization:
    """Return the requantization of products in steps of `unit`, the sums' smallest and largest in bounds."""
    return lowering.requantize_to(
        format_,
        gain=np.array([unit / format_.scale]),
        bias=np.zeros(1),
        bounds=(np.array([bounds[0]]), np.array([bounds[1]])),
        multipliers=multipliers,
    )


def product_format(lowering: Lowering, unit: float) -> tuple[Format, tuple[int, ...]]:
    """Return an output format near the best one whose scale has an exact multiplier, and the allowed multipliers.

    unit: the real value of one step of the accumulator.
    """
    is_free = lowering.given is None and lowering.is_result
    wanted = lowering.output_format(signed=True) if is_free else lowering.free_format()
    multipliers = short_multipliers(max(lowering.terms, _PRODUCT_TERMS), _PRODUCT_WIDTH)
    if lowering.given is not None:
        return wanted, multipliers
    octave = np.array([1.0, 0.985, 0.97, 0.955, 0.94, 0.925, 0.91])
    scales = unit / nearest_exact(unit / wanted.scale * octave, multipliers)
    scale = float(min(s for s in scales if s >= wanted.scale * (1 - 1e-9)))
    return Format(wanted.bits, wanted.signed, scale, wanted.zero_point), multipliers


def pair_shape(op: Op, *shapes: Shape) -> Shape:
    """Return the shape that two inputs of one rank broadcast to."""
    try:
        if len(shapes) == 2 and len(shapes[0]) == len(shapes[1]):
            return tuple(int(n) for n in np.broadcast_shapes(*shapes))
    except ValueError:
        pass
    listed = " and ".join(map(str, shapes))
    raise ModelError(op.source, f"combines activations of shapes {listed}", "give both inputs the same shape")


def pair_access(*shapes: Shape) -> RowAccess | None:
    """Return how two images (1, h, w, c) are combined row by row; None if one of them is broadcast."""
    first, second = shapes
    is_image = first == second and len(first) == 4 and first[0] == 1
    return RowAccess(first[1], first[1]) if is_image else None


def centred_bounds(format_: Format) -> tuple[int, int]:
    """Return the smallest and largest code - zero point."""
    return format_.minimum - format_.zero_point, format_.maximum - format_.zero_point


def product_bounds(first: Format, second: Format) -> tuple[int, int]:
    """Return the smallest and largest product of two centred codes."""
    ends = [a * b for a in centred_bounds(first) for b in centred_bounds(second)]
    return min(ends), max(ends)


def bits_beyond(bounds: tuple[int, int], bits: int) -> int:
    """Return by how many bits the bounds exceed a magnitude of 2**bits."""
    return max(0, math.ceil(math.log2(max(abs(bound) for bound in bounds) + 1)) - bits)
