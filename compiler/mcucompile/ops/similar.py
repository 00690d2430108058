"""Integers of layers that compare x and w instead of multiplying them, or multiply by signs only.

A product's scale is free: any scale of the weights will do. Here it is not. What compares x and w needs both in one
scale, that of x, and a batch-norm behind the layer cannot go into the weights: it is the requantization's multiplier.
Either passes/share_scales.py sees to it that the scale has room for the weights, or those beyond every x are moved to
its largest, which changes each sum by a constant.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mcucompile.encodings import Codebook, Weights, given_weights
from mcucompile.errors import QuantizationError
from mcucompile.ir import Array, Format, Source
from mcucompile.lowering import Lowering, code_limits
from mcucompile.numerics import INT32_MAX, Int, Real, Requantization, requantization, short_multipliers
from mcucompile.ops.linear import LoweredLinear, fitted_format, weighted_bounds
from mcucompile.similarities import Similarity

# A multiplier has no free scale to hide its rounding in: three signed digits are within 3 % of any gain. Wider ones
# are nearer, if the sums leave them room.
_TERMS, _WIDEST = 3, 8
# An output that moves by less than this many of its steps is constant.
_NEGLIGIBLE = 0.25
# A codebook's values, in its own steps and in those of x, which are 16 bits in a table.
_VALUE_BITS, _LARGEST_VALUE = 15, 32767
# How far an encoding with fewer levels than 256 may clip the largest weight.
_CLIPS = np.linspace(1.0, 0.3, 36)


@dataclass(frozen=True, slots=True, eq=False)
class SimilarLayer:
    """A layer of similarities as its quantization sees it.

    Attributes:
        source: for errors.
        similarity: not the dot product.
        weight: (n_out, n_in) of each output over its own group's inputs.
        gain: (n_out,) what each sum is multiplied by.
        bias: (n_out,) what is added then.
        relu: the result is clamped at 0 and at `ceiling`.
        rows: (groups, rows, n_in) real inputs from the samples; outputs are split evenly over groups.
    """

    source: Source
    similarity: Similarity
    weight: Real
    gain: Real
    bias: Real
    relu: bool
    ceiling: float
    rows: Array


def lower_similar(lowering: Lowering, layer: SimilarLayer) -> LoweredLinear:
    """Encode the weights in the scale of x and choose each output's multiplier and offset.

    Raises:
        QuantizationError: a weight is not finite, or x has a format that weights cannot share.
    """
    _check(lowering, layer)
    source, similarity = lowering.formats[0], layer.similarity
    if similarity.beyond is not None:
        layer = _clamped(layer, similarity.beyond, source)
    weights = _signs(layer) if similarity.signs else _shared(lowering, layer)
    unit = similarity.unit(source.scale)
    format_ = _output_format(lowering, layer, unit)
    low, high = sum_bounds(similarity, weights.values, source)
    bias = layer.bias
    if lowering.corrects_rounding:
        # What rounding x and w moves the mean of each sum by, the bias takes back.
        bias = bias + layer.gain * _mean_error(layer, weights.values, source, unit)
    minimum, maximum = code_limits(format_, relu=layer.relu, ceiling=layer.ceiling)
    scaling = _Scaling(layer.gain * unit / format_.scale, bias / format_.scale, low, high, format_)
    return LoweredLinear(weights, scaling.requantization(lowering.terms, minimum, maximum), format_)


def sum_bounds(similarity: Similarity, values: Int, format_: Format) -> tuple[Int, Int]:
    """Return the smallest and largest sum of each output for any input codes, (n_out,) each. values: (n_out, n_in)."""
    if similarity.name == "dot":
        return weighted_bounds(values, format_)
    distinct, places = np.unique(values, return_inverse=True)
    codes = np.arange(format_.minimum, format_.maximum + 1)
    terms = similarity.term(codes[:, None], distinct)
    places = places.reshape(values.shape)
    return terms.min(axis=0)[places].sum(axis=1), terms.max(axis=0)[places].sum(axis=1)


def _output_format(lowering: Lowering, layer: SimilarLayer, unit: float) -> Format:
    """Return the output's format; its scale has an exact multiplier if one serves all outputs."""
    gain = float(layer.gain[0])
    if lowering.scale.only_signs or not gain or (layer.gain != gain).any():
        return lowering.output_format(signed=not layer.relu)
    return fitted_format(lowering, abs(gain) * unit, signed=not layer.relu)


@dataclass(frozen=True, slots=True, eq=False)
class _Scaling:
    """How sums become codes: code = gain * sum + bias, both in output steps, for sums in low..high."""

    gain: Real
    bias: Real
    low: Int
    high: Int
    format: Format

    def requantization(self, terms: int, minimum: int, maximum: int) -> Requantization:
        """Return for each output the widest multiplier that int32 has room for, negative if the gain is."""
        reach = np.maximum(np.abs(self.low), np.abs(self.high)).astype(np.float64)
        gain = np.maximum(np.abs(self.gain), np.maximum(_NEGLIGIBLE / (reach + 1), np.abs(self.bias) * 4 / INT32_MAX))
        best = self._rounded(gain, terms, 1, minimum, maximum)
        for width in range(2, _WIDEST + 1):
            wider = self._rounded(gain, max(terms, _TERMS), width, minimum, maximum)
            fits = wider.worst(self.low, self.high) <= INT32_MAX
            best = Requantization(
                np.where(fits, wider.multiplier, best.multiplier),
                np.where(fits, wider.offset, best.offset),
                np.where(fits, wider.shift, best.shift),
                minimum,
                maximum,
            )
        sign = np.where(self.gain < 0, -1, 1)
        return Requantization(best.multiplier * sign, best.offset, best.shift, minimum, maximum)

    def _rounded(self, gain: Real, terms: int, width: int, minimum: int, maximum: int) -> Requantization:
        return requantization(
            gain,
            self.bias / gain,
            minimum=minimum,
            maximum=maximum,
            zero_point=self.format.zero_point,
            multipliers=short_multipliers(terms, width),
        )


def _check(lowering: Lowering, layer: SimilarLayer) -> None:
    source, name = lowering.formats[0], layer.similarity.name
    if not all(np.isfinite(values).all() for values in (layer.weight, layer.gain, layer.bias)):
        raise QuantizationError(layer.source, "a weight is not a finite number", "re-train or repair the model")
    if lowering.given is not None or source.zero_point:
        raise QuantizationError(
            layer.source,
            f"{name} cannot take formats that the model gives",
            "export the float model: mcucompile quantizes it itself",
        )
    if layer.similarity.shares_scale and source.bits != 8:
        raise QuantizationError(
            layer.source,
            f"{name} compares 8-bit weights with x in one scale, and x has {source.bits} bits",
            "give the layer before it 8-bit activations (--activations int8)",
        )
    _check_reach(layer, source)


def _check_reach(layer: SimilarLayer, source: Format) -> None:
    """Refuse weights, and inputs that no layer could clamp, beyond what the similarity is defined for."""
    similarity = layer.similarity
    if similarity.input_scale is None:
        return
    largest_weight = float(np.abs(layer.weight).max())
    if largest_weight > similarity.input_reach + similarity.input_scale:
        raise QuantizationError(
            layer.source,
            f"has a weight of {largest_weight:.4g}; {similarity.name} takes up to {similarity.input_reach:.4g}",
            "clamp the weights while training",
        )
    reach = max(-source.minimum, source.maximum) * source.scale
    if source.scale != similarity.input_scale or reach > similarity.input_reach:
        raise QuantizationError(
            layer.source,
            f"reads x in steps of {source.scale:.4g} up to {reach:.4g}; {similarity.name} takes "
            f"{similarity.input_scale:.4g} up to {similarity.input_reach:.4g}",
            "let a convolution, a dense or an affine layer make its input",
        )


def _clamped(layer: SimilarLayer, beyond: Callable[[Real, Real], Real], source: Format) -> SimilarLayer:
    """Return the layer that computes the same of every x, with weights no larger than the largest x."""
    largest = max(-source.minimum, source.maximum) * source.scale
    weight = np.clip(layer.weight, -largest, largest)
    constant = beyond(layer.weight, weight).sum(axis=1)
    return replace(layer, weight=weight, bias=layer.bias + layer.gain * constant)


def _signs(layer: SimilarLayer) -> Weights:
    """Return weights of -1, 0 and 1."""
    values = np.where(layer.weight < 0, -1, np.where(layer.weight > 0, 1, layer.similarity.sign_of_zero))
    weights = given_weights(values.astype(np.int64), np.ones(1))
    if weights is None:
        raise AssertionError("three values have an encoding")
    return weights


def _shared(lowering: Lowering, layer: SimilarLayer) -> Weights:
    """Return weights whose values are in the scale of x: whole ones, or those nearest to a codebook's."""
    encoding, scale = lowering.encoding, lowering.formats[0].scale
    tried = []
    for codebook in encoding.codebooks(layer.weight, _VALUE_BITS):
        for size in _sizes(lowering, layer, codebook):
            codes = encoding.encode(layer.weight, codebook, np.array([[size]]))
            steps = np.floor(codebook.values * size / scale + 0.5)
            most = int(min(layer.similarity.input_reach / scale, _LARGEST_VALUE))
            values = np.clip(steps, -most, most).astype(np.int64)
            if layer.similarity.jumps_at_zero:
                codes = _with_signs(layer.weight, codes, values)
            error = float(np.square(layer.weight - values[codes] * scale).sum())
            tried.append(
                (error, Weights(encoding.name, encoding.bits, codes, values, np.array([scale]), codebook.parameters))
            )
    return min(tried, key=lambda pair: pair[0])[1]


def _with_signs(weight: Real, codes: Int, values: Int) -> Int:
    """Return the codes, those that would make a weight 0 replaced by that of the smallest value with its sign."""
    for sign in (-1, 1):
        with_sign = np.flatnonzero(values * sign > 0)
        if len(with_sign):
            smallest = with_sign[np.argmin(np.abs(values[with_sign]))]
            codes = np.where((values[codes] == 0) & (weight * sign > 0), smallest, codes)
    return codes


def _sizes(lowering: Lowering, layer: SimilarLayer, codebook: Codebook) -> list[float]:
    """Return the real sizes of a codebook's value 1 to choose from."""
    if not codebook.per_channel:
        return [codebook.scale]
    limit = int(codebook.values.max())
    scale = lowering.formats[0].scale
    if limit >= 127:
        # Only where the scale of x is fixed can there be weights beyond its steps.
        return [scale, 2 * scale]
    peak = float(np.abs(layer.weight).max()) or 1.0
    return [float(max(peak / limit * clip, scale)) for clip in _CLIPS]


def _mean_error(layer: SimilarLayer, values: Int, source: Format, unit: float) -> Real:
    """Return, (n_out,), by how much the mean real sum exceeds the mean of the integer sums."""
    similarity = layer.similarity
    groups = len(layer.rows)
    errors = []
    for rows, weight, of_group in zip(
        layer.rows, np.split(layer.weight, groups), np.split(values, groups), strict=True
    ):
        exact = similarity.real(rows.astype(np.float64), weight).mean(axis=0)
        found = similarity.accumulate(source.quantize(rows), of_group).mean(axis=0)
        errors.append(exact - unit * found)
    return np.concatenate(errors)
