"""The plain kernel of every operator but the dense layer: the loop nest around the term."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from mcucompile.errors import QuantizationError
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.kernels.requantize import requantize_code
from mcucompile.ops import ArgMax, FourView, IntegerAffine, Transpose


@dataclass(frozen=True, slots=True)
class PlainKernel(Kernel):
    """A kernel without variants: it always applies and needs no multiplier.

    Attributes:
        instructions_per_element: estimate for RV32 and Thumb code.
        describe: what the template needs.
        table_bytes: flash its tables take.
    """

    instructions_per_element: int
    describe: Callable[[Layer], Context]
    table_bytes: Callable[[Layer], int] = lambda _layer: 0

    def refusal(self, layer: Layer, core: Core) -> str | None:  # noqa: ARG002 - it always applies
        """Return None."""
        return None

    def cost(self, layer: Layer, core: Core) -> Cost:  # noqa: ARG002 - much the same on any
        """Count products, or elements of the larger of input and output."""
        elements = max(layer.op.operations(*layer.shapes), math.prod(layer.shapes[0]), math.prod(layer.output_shape))
        return Cost(self.instructions_per_element * elements, self.table_bytes(layer))

    def context(self, layer: Layer) -> Context:
        """Return the operator's own description."""
        return self.describe(layer)


def _affine(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, IntegerAffine):
        raise TypeError(op.kind)
    shape = layer.shapes[0]
    channels = len(op.sign)
    inner = math.prod(shape[op.axis + 1 :]) if channels > 1 else 1
    return {
        "channels": channels,
        "inner": inner,
        "outer": math.prod(shape) // inner // channels,
        "signs": tuple(int(s) for s in op.sign),
        "requantize": requantize_code(op.requantize, layer.output_format),
    }


def _affine_table_bytes(layer: Layer) -> int:
    op = layer.op
    if not isinstance(op, IntegerAffine):
        raise TypeError(op.kind)
    return len(op.sign) + requantize_code(op.requantize, layer.output_format).table_bytes


def _arg_max(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, ArgMax):
        raise TypeError(op.kind)
    classes = layer.shapes[0][-1]
    relation = ("<" if op.smallest else ">") + ("=" if op.last else "")
    return {"rows": math.prod(layer.shapes[0]) // classes, "classes": classes, "relation": relation}


def _relu(layer: Layer) -> Context:
    return {"count": math.prod(layer.output_shape), "zero_point": layer.output_format.zero_point}


def _transpose(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, Transpose):
        raise TypeError(op.kind)
    shape = layer.shapes[0]
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    axes = tuple((shape[axis], strides[axis]) for axis in op.permutation if shape[axis] > 1)
    return {"axes": axes or ((1, 1),)}


def four_view_context(layer: Layer) -> Context:
    """Return the sizes of a four-view projection."""
    op = layer.op
    if not isinstance(op, FourView):
        raise TypeError(op.kind)
    *lead, height, width = layer.shapes[0]
    if op.zone_height + op.zone_width > 256:
        raise QuantizationError(op.source, "a zone has more than 255 diagonals", "use smaller zones")
    return {
        "images": math.prod(lead),
        "height": height,
        "width": width,
        "zone_height": op.zone_height,
        "zone_width": op.zone_width,
        "shift": op.shift,
    }


PLAIN_KERNELS = (
    PlainKernel("plain", "affine", "ops/affine.c.j2", 16, _affine, _affine_table_bytes),
    PlainKernel("plain", "relu", "ops/relu.c.j2", 6, _relu),
    PlainKernel("plain", "transpose", "ops/transpose.c.j2", 6, _transpose),
    PlainKernel("plain", "arg_max", "ops/arg_max.c.j2", 5, _arg_max),
    PlainKernel("plain", "four_view", "ops/four_view.c.j2", 22, four_view_context),
)
