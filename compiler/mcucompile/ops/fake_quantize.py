"""A place where the model itself says how a tensor is stored: y = the real that the nearest code of x means."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.ir import Array, Format, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp, requantize_exactly_to
from mcucompile.ops.affine import IntegerAffine
from mcucompile.ops.reshape import Reshape


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FakeQuantize(RealOp):
    """QuantizeLinear and DequantizeLinear in one, real; passes/give_formats.py gives most formats to the layer before.

    Attributes:
        format: of the output.
    """

    kind: ClassVar[str] = "fake_quantize"
    takes_format: ClassVar[bool] = True
    keeps_format: ClassVar[bool] = True
    format: Format

    def output_shape(self, *shapes: Shape) -> Shape:
        """The input's shape."""
        return shapes[0]

    def run(self, *inputs: Array) -> Array:
        """Compute in float32, ties to even, as quantized models' runtimes do it."""
        scale = np.float32(self.format.scale)
        codes = np.rint(inputs[0].astype(np.float32) / scale) + np.float32(self.format.zero_point)
        clamped = np.clip(codes, self.format.minimum, self.format.maximum)
        return np.asarray((clamped - np.float32(self.format.zero_point)) * scale, dtype=np.float32)

    def permuted(self, _permutation: tuple[int, ...]) -> "FakeQuantize":
        """The same operator."""
        return self

    def lower(self, lowering: Lowering) -> Lowered:
        """Requantize; nothing is computed where the input has the format already."""
        (source,) = lowering.formats
        if source == self.format:
            shape = lowering.output.shape[1:]
            view = Reshape(name=self.name, inputs=self.inputs, output=self.output, source=self.source, shape=shape)
            return Lowered(view, source)
        op = IntegerAffine(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            source=self.source,
            sign=np.array([1]),
            requantize=requantize_exactly_to(
                self.format,
                gain=np.array([source.scale / self.format.scale]),
                bias=np.array([-float(source.zero_point)]),
                bounds=(np.array([source.minimum]), np.array([source.maximum])),
            ),
            axis=0,
        )
        return Lowered(op, self.format)
