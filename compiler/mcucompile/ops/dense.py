"""Fully connected layer: y[o] = requantize(sum_i S(x[i], w[o, i]))."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mcucompile.encodings import Codebook, Weights
from mcucompile.errors import ModelError, QuantizationError
from mcucompile.ir import Array, Format, Op, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp, best_format, largest, squared_error
from mcucompile.numerics import INT32_MAX, Int, Real, Requantization, requantization
from mcucompile.similarities import SIMILARITIES

_CHANNEL_CLIPS = np.linspace(1.0, 0.4, 31)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Dense(RealOp):
    """y = relu?(x @ weight.T + bias) over the last axis. x: (..., n_in) -> y: (..., n_out), real.

    Attributes:
        weight: (n_out, n_in).
        bias: (n_out,).
        relu: clamp the result at 0.
    """

    kind: ClassVar[str] = "dense"
    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    relu: bool = False

    def output_shape(self, *shapes: Shape) -> Shape:
        """The last axis, n_in long, becomes n_out long."""
        return _output_shape(self, shapes[0], self.weight.shape)

    def run(self, *inputs: Array) -> Array:
        """Compute in float32, as other runtimes do."""
        y = inputs[0].astype(np.float32) @ self.weight.T + self.bias
        return np.maximum(y, 0) if self.relu else y

    def operations(self, *shapes: Shape) -> int:
        """n_out * n_in for each row."""
        return math.prod(shapes[0][:-1]) * self.weight.size

    def lower(self, lowering: Lowering) -> Lowered:
        """Encode the weights and choose scales for which the requantization multiplier is exact.

        A channel's (or, for logarithmic encodings, the output's) scale is free within a clip that
        measures well, so it is taken from those that make the multiplier a short one: then rounding it
        costs nothing.
        """
        source = lowering.formats[0]
        weight = self.weight.astype(np.float64)
        if not np.isfinite(weight).all():
            raise QuantizationError(self.source, "a weight is not a finite number", "re-train or repair the model")
        codebooks = list(lowering.encoding.codebooks(weight, self._value_bits(source, lowering)))
        if codebooks[0].per_channel:
            format_ = lowering.output_format(signed=not self.relu)
            scale = self._channel_scales(lowering, codebooks[0], format_)
            codebook = codebooks[0]
        else:
            codebook = self._best_codebook(lowering, codebooks)
            scale = np.array([codebook.scale])
            format_ = self._fitted_format(lowering, source.scale * codebook.scale)
        codes = lowering.encoding.encode(weight, codebook, scale[:, None])
        weights = Weights(
            lowering.encoding.name, lowering.encoding.bits, codes, codebook.values, scale, codebook.parameters
        )
        real_bias = self.bias.astype(np.float64)
        if lowering.corrects_bias:
            # What rounding the weights moves the mean of each sum by, the bias takes back (Nagel et al.,
            # arXiv:1906.04721, section 4.2, with the mean from samples).
            mean = lowering.inputs[0].reshape(-1, weight.shape[1]).astype(np.float64).mean(axis=0)
            real_bias += (weight - weights.values * scale[:, None]) @ mean
        bias = real_bias / (source.scale * scale) - source.zero_point * weights.values.sum(axis=1)
        requantize = requantization(
            source.scale * scale / format_.scale,
            bias,
            minimum=max(format_.minimum, 0) if self.relu else format_.minimum,
            maximum=format_.maximum,
            zero_point=format_.zero_point,
            multipliers=lowering.multipliers,
        )
        op = IntegerDense(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            similarity="dot",
            weights=weights,
            requantize=requantize,
        )
        return Lowered(op, format_)

    def _value_bits(self, source: Format, lowering: Lowering) -> int:
        """Return how large a weight's integer may be so that no sum can leave int32."""
        magnitude = np.abs(self.weight.astype(np.float64))
        row = float((magnitude.sum(axis=1) / (magnitude.max() or 1.0)).max())
        reach = max(abs(source.minimum), source.maximum) * max(row, 1.0)
        widest = max(lowering.multipliers) * 2
        return max(int(math.log2(INT32_MAX / (widest * 2 * reach))), 2)

    def _channel_scales(self, lowering: Lowering, codebook: Codebook, format_: Format) -> Real:
        """Return (n_out,) scales: each the one with the least error among those with an exact multiplier."""
        weight = self.weight.astype(np.float64)
        importance = np.mean(np.square(lowering.inputs[0].reshape(-1, weight.shape[1]).astype(np.float64)), axis=0)
        limit = int(codebook.values.max())
        unit = format_.scale / lowering.formats[0].scale
        peak = np.abs(weight).max(axis=1)
        peak[peak == 0] = float(peak.max()) or 1.0
        best = np.full(len(weight), np.inf)
        scales = np.ones(len(weight))
        for wanted in (peak / limit)[None, :] * _CHANNEL_CLIPS[:, None]:
            scale = nearest_exact(wanted / unit, lowering.multipliers) * unit
            rounded = codebook.values[lowering.encoding.encode(weight, codebook, scale[:, None])] * scale[:, None]
            error = np.square(weight - rounded) @ (importance + 1e-12)
            better = error < best
            best = np.where(better, error, best)
            scales = np.where(better, scale, scales)
        return scales

    def _best_codebook(self, lowering: Lowering, codebooks: list[Codebook]) -> Codebook:
        """Return the codebook whose layer output differs least on the calibration samples."""
        weight = self.weight.astype(np.float64)
        x = lowering.inputs[0].reshape(-1, weight.shape[1]).astype(np.float64)

        def output_error(codebook: Codebook) -> float:
            scale = np.array([[codebook.scale]])
            rounded = codebook.values[lowering.encoding.encode(weight, codebook, scale)] * codebook.scale
            return squared_error(x @ weight.T, x @ rounded.T)

        return min(codebooks, key=output_error)

    def _fitted_format(self, lowering: Lowering, unit: float) -> Format:
        """Return the output format, its scale one for which `unit` has an exact multiplier."""
        wanted = lowering.output_format(signed=not self.relu)
        octaves = wanted.scale * np.array([0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5])
        # unit / scale must be m * 2**-k: take the scales that are unit / (m * 2**-k).
        scales = sorted({float(unit / g) for g in nearest_exact(unit / octaves, lowering.multipliers)})
        if lowering.is_result:
            enough = [scale for scale in scales if scale >= largest(lowering.output) / INT32_MAX]
            return Format(32, True, min(enough, key=lambda scale: abs(math.log(scale / wanted.scale))))
        return best_format(lowering.output, signed=not self.relu, bits=lowering.activation_bits, scales=scales)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerDense(Op):
    """x: (..., n_in) codes -> y: (..., n_out) codes; the zero point of x is inside the offset.

    Attributes:
        similarity: name in the similarity table.
        weights: codes (n_out, n_in).
        requantize: one multiplier for all outputs or one each; one offset each.
    """

    kind: ClassVar[str] = "dense"
    similarity: str
    weights: Weights
    requantize: Requantization

    def output_shape(self, *shapes: Shape) -> Shape:
        """The last axis, n_in long, becomes n_out long."""
        return _output_shape(self, shapes[0], self.weights.codes.shape)

    def accumulate(self, x: Array) -> Int:
        """Return the accumulators, (..., n_out)."""
        return SIMILARITIES[self.similarity].accumulate(x, self.weights.values)

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes."""
        return self.requantize.apply(self.accumulate(inputs[0]))

    def operations(self, *shapes: Shape) -> int:
        """n_out * n_in for each row."""
        return math.prod(shapes[0][:-1]) * int(self.weights.codes.size)

    def accumulator_bounds(self, *formats: Format) -> tuple[Int, Int]:
        """Return the smallest and largest accumulator of each output for any input, (n_out,) each."""
        values = self.weights.values
        ends = np.stack([values * formats[0].minimum, values * formats[0].maximum])
        return ends.min(axis=0).sum(axis=1), ends.max(axis=0).sum(axis=1)


def nearest_exact(gain: Real, multipliers: tuple[int, ...]) -> Real:
    """Return, for each gain, the nearest m * 2**k in log distance, m one of the multipliers."""
    mantissas = np.array(sorted({m / 2.0 ** math.floor(math.log2(m)) for m in multipliers} | {2.0}))
    octave = 2.0 ** np.floor(np.log2(gain))
    distance = np.abs(np.log(mantissas[None, :] * octave[:, None] / gain[:, None]))
    return np.asarray(mantissas[np.argmin(distance, axis=1)] * octave)


def _output_shape(op: Op, shape: Shape, weight_shape: tuple[int, ...]) -> Shape:
    n_out, n_in = weight_shape
    if not shape or shape[-1] != n_in:
        raise ModelError(
            op.source, f"takes {n_in} values on its last axis, its input is {shape}", "re-export the model"
        )
    return (*shape[:-1], n_out)
