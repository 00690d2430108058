"""The plain kernels of operators that copy elements: choosing them on every axis, joining tensors."""

import math
from dataclasses import dataclass
from itertools import pairwise

from mcucompile.ir import Shape
from mcucompile.kernels.kernel import Context, Layer
from mcucompile.kernels.plain import PlainKernel
from mcucompile.kernels.requantize import requantize_code
from mcucompile.ops import IntegerConcat, Take
from mcucompile.ops.take import FILL


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop over an axis of the output, or over several that are one in memory.

    Attributes:
        count: iterations.
        start, step: of the place in x, in elements, where it moves evenly.
        places: else every place relative to the outer loops'; `fill_mark` where it is the fill.
        block: elements of the output that one iteration writes.
    """

    count: int
    start: int
    step: int
    places: tuple[int, ...]
    fill_mark: int
    has_fill: bool
    block: int

    @property
    def type(self) -> str:
        """The C type of a place in a table."""
        return "uint16_t" if self.fill_mark < 1 << 16 else "uint32_t"

    @property
    def table_bytes(self) -> int:
        """Flash the table takes."""
        return len(self.places) * (2 if self.fill_mark < 1 << 16 else 4)


def _loops(indices: tuple[tuple[int, ...], ...], shape: Shape) -> tuple[Loop, ...]:
    """Return as few loops as possible, outermost first."""
    mark = 0xFFFF if math.prod(shape) <= 0xFFFF else 0xFFFFFFFF
    block = 1
    stride = 1
    loops: list[Loop] = []
    for index, length in zip(reversed(indices), reversed(shape), strict=True):
        steps = {after - before for before, after in pairwise(index)}
        is_even = len(steps) < 2 and FILL not in index
        step = stride * next(iter(steps), 0) if is_even else 0
        inner = loops[-1] if loops else None
        if is_even and inner is not None and not inner.places and (len(index) == 1 or step == inner.step * inner.count):
            # This axis goes on where the inner one ends: one loop does both.
            loops[-1] = Loop(
                inner.count * len(index), inner.start + index[0] * stride, inner.step, (), mark, False, inner.block
            )
        elif is_even:
            loops.append(Loop(len(index), index[0] * stride, step, (), mark, False, block))
        else:
            places = tuple(mark if i == FILL else i * stride for i in index)
            loops.append(Loop(len(index), 0, 0, places, mark, FILL in index, block))
        block *= len(index)
        stride *= length
    return tuple(reversed(loops))


def _take(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, Take):
        raise TypeError(op.kind)
    return {
        "loops": _loops(op.indices, layer.shapes[0]) or (Loop(1, 0, 0, (), 0xFFFF, False, 1),),
        "fill": int(op.fill),
    }


def _take_table_bytes(layer: Layer) -> int:
    op = layer.op
    if not isinstance(op, Take):
        raise TypeError(op.kind)
    return sum(loop.table_bytes for loop in _loops(op.indices, layer.shapes[0]))


def _concat(layer: Layer) -> Context:
    op = layer.op
    if not isinstance(op, IntegerConcat):
        raise TypeError(op.kind)
    inner = math.prod(layer.output_shape[op.axis + 1 :])
    parts = []
    for i, (shape, format_) in enumerate(zip(layer.shapes, layer.formats, strict=True)):
        code = None if format_ == layer.output_format else requantize_code(op.of_input(i), layer.output_format)
        parts.append({"run": shape[op.axis] * inner, "requantize": code})
    return {"outer": math.prod(layer.output_shape[: op.axis]), "parts": tuple(parts)}


MOVEMENT_KERNELS = (
    PlainKernel("plain", "take", "ops/take.c.j2", 6, _take, _take_table_bytes),
    PlainKernel("plain", "concat", "ops/concat.c.j2", 6, _concat),
)
