"""What dense layers and convolutions share: weights, a similarity, and what becomes of the sums."""

import math
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mcucompile.ir import Array
from mcucompile.lowering import Lowering, RealOp, rectified
from mcucompile.numerics import Real
from mcucompile.ops.linear import LinearLayer, LoweredLinear, lower_linear
from mcucompile.ops.similar import SimilarLayer, lower_similar
from mcucompile.similarities import SIMILARITIES, Similarity

Layer = TypeVar("Layer", bound="Sums")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Sums(RealOp):
    """y = relu?(gain * sum S(x, weight) + bias), real.

    Attributes:
        weight: (n_out, ...).
        bias: (n_out,).
        similarity: name in the similarity table.
        gain: (n_out,) of a similarity that cannot have it in its weights; None: 1.
        weight_scale: (n_out,) if the model gives integers for weights: every weight is a whole multiple of it.
        relu: clamp the result at 0 and at `ceiling`.
    """

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    similarity: str = "dot"
    gain: npt.NDArray[np.float32] | None = None
    weight_scale: npt.NDArray[np.float64] | None = None
    relu: bool = False
    ceiling: float = math.inf

    @property
    def term(self) -> Similarity:
        """The similarity."""
        return SIMILARITIES[self.similarity]

    @property
    def is_linear(self) -> bool:
        """Whether scaling x or the weights scales the sums."""
        return self.similarity == "dot"

    def finished(self, sums: Real) -> Array:
        """Return the output from the sums, (..., n_out), made in float64 so that their order does not show."""
        scaled = sums if self.gain is None else sums * self.gain
        return rectified((scaled + self.bias).astype(np.float32), relu=self.relu, ceiling=self.ceiling)

    def scaled(self: Layer, scale: Array, offset: Array) -> Layer:
        """Return the layer with scale and offset, (n_out,) or (1,), applied to what it gives without a rectifier."""
        factor = scale.astype(np.float64)
        bias = self.bias * factor + offset
        if not self.is_linear:
            gain = np.ones(len(self.bias)) if self.gain is None else self.gain
            return replace(self, gain=single(gain * factor), bias=single(bias))
        steps = None if self.weight_scale is None else self.weight_scale * np.abs(factor)
        weight = self.weight * factor.reshape(-1, *(1,) * (self.weight.ndim - 1))
        return replace(self, weight=single(weight), bias=single(bias), weight_scale=steps)

    def lower_sums(self, lowering: Lowering, rows: Array) -> LoweredLinear:
        """Choose the integers. rows: (groups, rows, n_in) real inputs from the samples."""
        weight = self.weight.reshape(len(self.weight), -1).astype(np.float64)
        bias = self.bias.astype(np.float64)
        if not self.is_linear:
            gain = np.ones(len(bias)) if self.gain is None else self.gain.astype(np.float64)
            layer = SimilarLayer(self.source, self.term, weight, gain, bias, self.relu, self.ceiling, rows)
            return lower_similar(lowering, layer)
        return lower_linear(
            lowering,
            LinearLayer(self.source, weight, bias, self.relu, self.ceiling, rows, weight_scale=self.weight_scale),
        )


def single(values: Array) -> npt.NDArray[np.float32]:
    """Return values in float32; what that cannot hold becomes infinite, which the layer's quantization refuses."""
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float32)
