"""What every layer of weighted sums shares: choosing its weights' integers, scales and requantization.

A dense layer is one such sum over a row, a convolution one over each window; groups see disjoint inputs.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mcucompile.encodings import Codebook, Encoding, Weights, given_weights
from mcucompile.errors import QuantizationError
from mcucompile.ir import Array, Format, Source
from mcucompile.lowering import Lowering, best_format, code_limits, largest, requantize_exactly_to
from mcucompile.numerics import INT32_MAX, Int, Real, Requantization, requantization, short_multipliers
from mcucompile.ops.rounding import Spread, round_together, spread_of

_CHANNEL_CLIPS = np.linspace(1.0, 0.4, 31)
# A bias in steps of a product, and how much smaller than an output's step that step may be.
_LARGEST_BIAS, _LEAST_GAIN = 2.0**29, 2.0**-24
# Multipliers where the output's format is given, by bits of the input: within 0.8 % and 3 % of any gain.
_GIVEN_TERMS, _GIVEN_WIDTHS = 4, {8: 7, 16: 5}
# Scales from 64 times the largest weight's to a little clip, one for each power of two, for sums that need the room.
_COARSE_CLIPS = 2.0 ** np.arange(6.0, -1.5, -1.0)
# Weights that take over errors may grow a little.
_ROOM = 0.9
# Rows of inputs that moments are taken over; more do not change which scale is best.
MAX_ROWS = 4096
# How far from whole a whole number of a bias's steps may be once it was a float32.
_FLOAT32_ERROR, _WHOLE = 2.0**-22, 2.0**-13


@dataclass(frozen=True, slots=True, eq=False)
class LinearLayer:
    """A layer of weighted sums as its quantization sees it.

    Attributes:
        source: for errors.
        weight: (n_out, n_in) of each output over its own group's inputs.
        bias: (n_out,).
        relu: the result is clamped at 0 and at `ceiling`.
        rows: (groups, rows, n_in) real inputs from the samples; outputs are split evenly over groups.
        format: of the result, None to choose the best one.
        weight_scale: (n_out,) if the model gives integer weights: their real size of 1.
    """

    source: Source
    weight: Real
    bias: Real
    relu: bool
    ceiling: float
    rows: Array
    format: Format | None = None
    weight_scale: Real | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LoweredLinear:
    """The integers of a layer of weighted sums."""

    weights: Weights
    requantize: Requantization
    format: Format


def lower_linear(lowering: Lowering, layer: LinearLayer) -> LoweredLinear:
    """Encode the weights and choose scales for which the requantization multiplier is exact.

    A channel's (or, for logarithmic encodings, the output's) scale is free within a clip that
    measures well, so it is taken from those that make the multiplier a short one: then rounding it
    costs nothing.

    Raises:
        QuantizationError: a weight is not finite.
    """
    source, weight = lowering.formats[0], layer.weight
    if not np.isfinite(weight).all():
        raise QuantizationError(layer.source, "a weight is not a finite number", "re-train or repair the model")
    if layer.weight_scale is not None:
        return _lower_given(lowering, layer, layer.weight_scale)
    multipliers = _multipliers(lowering, layer.format)
    codebooks = list(lowering.encoding.codebooks(weight, _value_bits(lowering, weight, max(multipliers))))
    if source.bits > 8 and layer.format is None and not codebooks[0].per_channel:
        # A power of two as multiplier leaves sums of wide inputs, and so the codebook, most bits.
        lowering = replace(lowering, terms=1)
        multipliers = lowering.multipliers
        codebooks = list(lowering.encoding.codebooks(weight, _value_bits(lowering, weight, max(multipliers))))
    rounding = _Rounding(lowering.encoding, layer, spread_of(layer.rows) if lowering.corrects_rounding else None)
    if codebooks[0].per_channel:
        codebook = codebooks[0]
        format_ = layer.format or lowering.output_format(signed=not layer.relu)
        codes, scale = _channel_scales(lowering, rounding, codebook, format_)
    else:
        codebook, codes = _best_codebook(rounding, codebooks)
        scale = np.array([codebook.scale])
        unit = source.scale * codebook.scale
        format_ = layer.format or fitted_format(lowering, unit, signed=not layer.relu)
    weights = Weights(
        lowering.encoding.name, lowering.encoding.bits, codes, codebook.values, scale, codebook.parameters
    )
    bias = layer.bias
    if lowering.corrects_rounding:
        # What rounding the weights moves the mean of each sum by, the bias takes back (Nagel et al.,
        # arXiv:1906.04721, section 4.2, with the mean from samples).
        mean = _of_outputs(layer, layer.rows.mean(axis=1, dtype=np.float64))
        bias = bias + ((weight - weights.values * scale[:, None]) * mean).sum(axis=1)
    if lowering.given is not None:
        return LoweredLinear(weights, _requantize_given(lowering, layer, weights, bias, format_), format_)
    minimum, maximum = code_limits(format_, relu=layer.relu, ceiling=layer.ceiling)
    requantize = requantization(
        source.scale * scale / format_.scale,
        bias / (source.scale * scale) - source.zero_point * weights.values.sum(axis=1),
        minimum=minimum,
        maximum=maximum,
        zero_point=format_.zero_point,
        multipliers=multipliers,
    )
    return LoweredLinear(weights, requantize, format_)


def _lower_given(lowering: Lowering, layer: LinearLayer, scale: Real) -> LoweredLinear:
    """Take the integer weights that the model gives, and round every sum exactly."""
    values = np.rint(layer.weight / scale[:, None]).astype(np.int64)
    weights = given_weights(values, scale)
    if weights is None:
        raise QuantizationError(
            layer.source,
            f"its weights minus their zero points have {len(np.unique(values))} different values, 256 work",
            "quantize the weights with one zero point for the layer",
        )
    format_ = lowering.output_format(signed=not layer.relu)
    # A bias that was stored in steps of a product is whole again once float32's error is rounded away.
    steps = layer.bias / (lowering.formats[0].scale * scale)
    is_whole = np.abs(steps - np.rint(steps)) <= np.maximum(np.abs(steps) * _FLOAT32_ERROR, _WHOLE)
    bias = np.where(is_whole, np.rint(steps), steps) * (lowering.formats[0].scale * scale)
    return LoweredLinear(weights, _requantize_given(lowering, layer, weights, bias, format_), format_)


def _requantize_given(
    lowering: Lowering, layer: LinearLayer, weights: Weights, bias: Real, format_: Format
) -> Requantization:
    source = lowering.formats[0]
    values = weights.values
    scale = np.broadcast_to(weights.scale, len(values))
    return requantize_exactly_to(
        format_,
        # In float32, step by step, as onnxruntime's quantized kernels compute it.
        gain=(np.float32(source.scale) * scale.astype(np.float32) / np.float32(format_.scale)).astype(np.float64),
        bias=bias / (source.scale * scale) - source.zero_point * values.sum(axis=1),
        bounds=weighted_bounds(values, source),
        limits=code_limits(format_, relu=layer.relu, ceiling=layer.ceiling),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Rounding:
    """How a layer's weights become codes.

    Attributes:
        spread: how weights take over each other's errors; None rounds each for itself.
    """

    encoding: Encoding
    layer: LinearLayer
    spread: tuple[Spread, ...] | None

    def codes(self, codebook: Codebook, scale: Real) -> tuple[Int, Real]:
        """Return codes, (n_out, n_in), and the mean squared error of each output's sum, for scale (n_out, 1)."""
        weight = self.layer.weight

        def round_(some: Real) -> tuple[Int, Real]:
            # The weights of one input, or all of them.
            codes = self.encoding.encode(some, codebook, scale)
            return codes, codebook.values[codes] * scale

        if self.spread is not None:
            return round_together(weight, round_, self.spread)
        codes, rounded = round_(weight)
        importance = _of_outputs(self.layer, np.mean(np.square(self.layer.rows, dtype=np.float64), axis=1)) + 1e-12
        return codes, (np.square(weight - rounded) * importance).sum(axis=1)


def some_rows(rows: Array) -> Array:
    """Return at most MAX_ROWS of the rows (..., rows, n_in), evenly spread, always the same ones."""
    count = rows.shape[-2]
    if count <= MAX_ROWS:
        return rows
    return rows[..., np.linspace(0, count - 1, MAX_ROWS).astype(np.int64), :]


def weighted_bounds(values: Int, format_: Format) -> tuple[Int, Int]:
    """Return the smallest and largest sum of each output for any input codes, (n_out,) each. values: (n_out, n_in)."""
    ends = np.stack([values * format_.minimum, values * format_.maximum])
    return ends.min(axis=0).sum(axis=1), ends.max(axis=0).sum(axis=1)


def nearest_exact(gain: Real, multipliers: tuple[int, ...]) -> Real:
    """Return, for each gain, the nearest m * 2**k in log distance, m one of the multipliers."""
    mantissas = np.array(sorted({m / 2.0 ** math.floor(math.log2(m)) for m in multipliers} | {2.0}))
    octave = 2.0 ** np.floor(np.log2(gain))
    distance = np.abs(np.log(mantissas[None, :] * octave[:, None] / gain[:, None]))
    return np.asarray(mantissas[np.argmin(distance, axis=1)] * octave)


def _of_outputs(layer: LinearLayer, of_groups: Real) -> Real:
    """Return for each output what its group has: (groups, ...) -> (n_out, ...)."""
    return np.repeat(of_groups, len(layer.weight) // len(of_groups), axis=0)


def _multipliers(lowering: Lowering, given: Format | None) -> tuple[int, ...]:
    """Return the allowed multipliers.

    One scale for all weights, which encodings choose as a power of two, cannot be fitted to a format that is given:
    the multiplier is fitted instead, unless the input's scale gives an exact one.
    """
    source = lowering.formats[0]
    if given is None or math.log2(source.scale / given.scale).is_integer():
        return lowering.multipliers
    return short_multipliers(max(lowering.terms, _GIVEN_TERMS), _GIVEN_WIDTHS[source.bits])


def _value_bits(lowering: Lowering, weight: Real, multiplier: int) -> int:
    """Return how large a weight's integer may be so that no sum can leave int32."""
    source = lowering.formats[0]
    magnitude = np.abs(weight)
    row = float((magnitude.sum(axis=1) / (magnitude.max() or 1.0)).max())
    reach = max(abs(source.minimum), source.maximum) * max(row, 1.0)
    widest = multiplier * 2
    return max(int(math.log2(INT32_MAX / (widest * 2 * reach))), 2)


def _channel_scales(lowering: Lowering, rounding: _Rounding, codebook: Codebook, format_: Format) -> tuple[Int, Real]:
    """Return codes and (n_out,) scales: each the one with the least error among those with an exact multiplier."""
    weight = rounding.layer.weight
    candidates = _candidate_scales(lowering, rounding.layer, codebook, format_)
    # Neighbouring clips have the same exact scale: only steps to another one are tried.
    steps = np.cumsum(np.diff(candidates, axis=0, prepend=candidates[:1]) != 0, axis=0)
    best = np.full(len(weight), np.inf)
    scales = candidates[0]
    codes = np.zeros(weight.shape, dtype=np.int64)
    for step in range(int(steps.max()) + 1):
        scale = candidates[np.argmax(steps == step, axis=0), np.arange(len(weight))]
        found, error = rounding.codes(codebook, scale[:, None])
        better = error < best
        best = np.where(better, error, best)
        scales = np.where(better, scale, scales)
        codes[better] = found[better]
    return codes, scales


def _unclipped_scales(weight: Real, values: Int) -> Real:
    """Return for each output the smallest scale at which no weight is beyond the values; a dead one's is of the others.

    With a zero point there may be many values on one side of 0 and few, or none, on the other.
    """
    above, below = int(values.max()), -int(values.min())
    # Two's complement has one more below, which is not used.
    sides = ((weight.max(axis=1), above), (-weight.min(axis=1), above if below == above + 1 else below))
    scales = np.stack([np.maximum(peak, 0) / limit for peak, limit in sides if limit > 0]).max(axis=0)
    scales[scales == 0] = float(scales.max()) or 1.0 / max(above, below)
    return np.asarray(scales)


def _candidate_scales(lowering: Lowering, layer: LinearLayer, codebook: Codebook, format_: Format) -> Real:
    """Return (candidates, n_out) scales with an exact multiplier and, if there are any, sums that int32 holds."""
    source = lowering.formats[0]
    unit = format_.scale / source.scale
    unclipped = _unclipped_scales(layer.weight, codebook.values)
    # A dead channel's weights are tiny beside its bias: a scale as tiny would make the bias, in its steps, too
    # large for int32, and no shift reaches the output's steps. What this rounds to 0 is far below a step.
    widest = 2 * max(lowering.multipliers) * np.abs(layer.bias) / (_LARGEST_BIAS * source.scale)
    least = np.maximum(widest, _LEAST_GAIN * unit)
    candidates = _exact_scales(unclipped * _CHANNEL_CLIPS[:, None], least, unit, lowering.multipliers)
    possible = _fit_int32(lowering, layer, candidates, format_)
    if possible.all():
        return candidates
    # Sums of wide inputs: a power of two as multiplier leaves them most bits; then the weights get fewer.
    coarse = _exact_scales(unclipped * _COARSE_CLIPS[:, None], least, unit, (1,))
    candidates = np.concatenate([coarse, candidates])
    possible = np.concatenate([_fit_int32(lowering, layer, coarse, format_), possible])
    return np.where(possible, candidates, coarse[0])


def _exact_scales(wanted: Real, least: Real, unit: float, multipliers: tuple[int, ...]) -> Real:
    return np.stack([nearest_exact(np.maximum(scales, least) / unit, multipliers) * unit for scales in wanted])


def _fit_int32(lowering: Lowering, layer: LinearLayer, candidates: Real, format_: Format) -> npt.NDArray[np.bool_]:
    """Return for each candidate, (candidates, n_out), whether no sum and no product of one can leave int32."""
    source = lowering.formats[0]
    magnitude = np.abs(layer.weight).sum(axis=1)
    reach = max(-source.minimum, source.maximum) * magnitude
    bias = np.abs(layer.bias) / source.scale + abs(source.zero_point) * magnitude
    limit = INT32_MAX * _ROOM
    gain = candidates * (source.scale / format_.scale)
    if ((reach + bias) / candidates * (2 * max(lowering.multipliers) * np.maximum(gain, 1.0)) < limit).all():
        return np.ones(candidates.shape, dtype=np.bool_)
    worst = []
    for scale, gains in zip(candidates, gain, strict=True):
        requantize = requantization(
            gains, bias / scale, minimum=0, maximum=0, zero_point=format_.zero_point, multipliers=lowering.multipliers
        )
        largest_sum = np.ceil(reach / scale).astype(np.int64)
        worst.append(requantize.worst(-largest_sum, largest_sum))
    return np.asarray(np.stack(worst) < limit)


def _best_codebook(rounding: _Rounding, codebooks: list[Codebook]) -> tuple[Codebook, Int]:
    """Return the codebook whose sums differ least, and the codes of the weights."""
    tried = [(codebook, *rounding.codes(codebook, np.array([[codebook.scale]]))) for codebook in codebooks]
    codebook, codes, _ = min(tried, key=lambda candidate: float(candidate[2].sum()))
    return codebook, codes


def fitted_format(lowering: Lowering, unit: float, *, signed: bool) -> Format:
    """Return the output format, its scale one for which `unit` has an exact multiplier."""
    wanted = lowering.output_format(signed=signed)
    if lowering.given is not None or lowering.scale.exact is not None:
        return wanted
    octaves = wanted.scale * np.array([0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5])
    # unit / scale must be m * 2**-k: take the scales that are unit / (m * 2**-k).
    scales = sorted({float(unit / g) for g in nearest_exact(unit / octaves, lowering.multipliers)})
    if lowering.is_result:
        enough = [scale for scale in scales if scale >= largest(lowering.output) / INT32_MAX]
        return Format(32, True, min(enough, key=lambda scale: abs(math.log(scale / wanted.scale))))
    scales = [scale for scale in scales if scale >= lowering.scale.least] or [2 * scales[-1]]
    return best_format(lowering.output, signed=signed, bits=lowering.activation_bits, scales=scales)
