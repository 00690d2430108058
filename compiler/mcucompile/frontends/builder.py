"""What both front-ends build with: values that are constants or activations, and the operators on them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from mcucompile.errors import ModelError
from mcucompile.frontends.dequantized import output_steps
from mcucompile.frontends.names import UniqueNames, short_name
from mcucompile.frontends.refusals import RefusalError
from mcucompile.ir import Format, Graph, Op, Shape, Source, Tensor, build_graph
from mcucompile.lowering import MASKED, RealOp
from mcucompile.ops import Affine, ArgMax, Dense, FakeQuantize, FourView, LogSoftmax, Relu, Reshape, Softmax, Transpose

# No board here has the flash or the RAM for this many numbers; it bounds what a hostile file can ask for.
MAX_ELEMENTS = 1 << 26


class Kind(Enum):
    """What the numbers of an activation mean in the user's model."""

    REAL = "real numbers"
    BYTES = "the input's integers"
    CODES = "quantized codes"
    INDEX = "an index"
    TRUTH = "truth values"


@dataclass(frozen=True, slots=True)
class Activation:
    """A value known only when the model runs: a tensor of the graph."""

    tensor: str
    shape: Shape
    kind: Kind = Kind.REAL

    def as_real(self) -> "Activation":
        """Return the same numbers as reals, as a cast to float does: nothing is computed."""
        return replace(self, kind=Kind.REAL)


Constant = npt.NDArray[Any]
Value = Activation | Constant


class Builder:
    """Appends operators; `at` sets the user's node that the following ones come from.

    Args:
        file: the model's name in errors.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.source = Source(file, "graph", "Graph")
        self._inputs: list[Tensor] = []
        self._ops: list[Op] = []
        self._producers: dict[str, Op] = {}
        self._first_of_node = 0
        self._names = UniqueNames()
        self._tensors = UniqueNames()

    def at(self, source: Source) -> None:
        """Say which node of the user's model the next operators come from."""
        self._first_of_node = len(self._ops)
        self.source = source

    def input(self, name: str, shape: Shape, format_: Format | None) -> Activation:
        """Declare the graph's input; a format means raw integers."""
        tensor = self._tensors.take(name)
        self._inputs.append(Tensor(tensor, shape, format_))
        return Activation(tensor, shape, Kind.REAL if format_ is None else Kind.BYTES)

    def give_input_format(self, format_: Format) -> None:
        """Say what the input's integers mean; they are no raw integers any more."""
        (tensor,) = self._inputs
        declared = tensor.format
        if declared is None or (declared.bits, declared.signed) != (format_.bits, format_.signed):
            raise ModelError(self.source, f"reads the input as {format_}", "give the zero point the input's type")
        if declared not in (format_, Format(format_.bits, format_.signed)):
            raise RefusalError(f"reads the input as {format_}, another node as {declared}", "use one scale for it")
        self._inputs[0] = replace(tensor, format=format_)

    def producer(self, x: Activation) -> Op | None:
        """Return the operator that makes x, None if that is the input."""
        return self._producers.get(x.tensor)

    def format_of(self, codes: Activation) -> Format:
        """Return the format that quantized codes were made in, or the input's; what lies between only moves them."""
        tensor = codes.tensor
        while tensor in self._producers:
            op = self._producers[tensor]
            if isinstance(op, FakeQuantize):
                return op.format
            tensor = op.inputs[0]
        (given,) = self._inputs
        return Format(8, signed=False) if given.format is None else given.format

    def require_one_format(self, values: Sequence[Activation]) -> None:
        """Refuse quantized codes of several formats where one is needed."""
        formats = {self.format_of(value) for value in values if value.kind is Kind.CODES}
        if len(formats) > 1:
            listed = " and ".join(sorted(map(str, formats)))
            raise RefusalError(f"joins codes of {listed}", "dequantize them before it")

    def meaning(self, x: Activation, number: float) -> float:
        """Return what a number beside quantized codes means; beside anything else, the number."""
        return float(self.format_of(x).dequantize(np.array(number))) if x.kind is Kind.CODES else number

    def finish(self, name: str, result: Activation) -> Graph:
        """Return the verified graph of the operators that the result needs; a result of codes has their format."""
        source = Source(self.file, name, "Graph")
        needed = {result.tensor}
        ops: list[Op] = []
        for op in reversed(self._ops):
            if op.output in needed:
                needed.update(op.inputs)
                ops.append(op)
        graph = build_graph(name, tuple(self._inputs), (result.tensor,), tuple(reversed(ops)), source)
        if result.kind is not Kind.CODES:
            return graph
        output = replace(graph.result, format=self.format_of(result))
        return graph.replaced(tensors={**graph.tensors, result.tensor: output})

    def rename(self, result: Activation, tensor: str) -> Activation:
        """Give an output of the node the name it has in the user's model, if that is free and nothing reads it yet."""
        new = range(self._first_of_node, len(self._ops))
        place = next((i for i in new if self._ops[i].output == result.tensor), None)
        if place is None or tensor in self._tensors or any(result.tensor in op.inputs for op in self._ops[place:]):
            return result
        self._ops[place] = self._producers[tensor] = replace(self._ops[place], output=tensor)
        self._tensors.take(tensor)
        return replace(result, tensor=tensor)

    def dense(self, x: Activation, weight: Constant, bias: Constant | None, *, similarity: str = "dot") -> Activation:
        """x: (..., n_in), weight: (n_out, n_in), bias: anything that broadcasts to (n_out,)."""
        self.require_real(x)
        bias = np.zeros(1) if bias is None else bias
        return self.emit(
            Dense,
            (x,),
            weight=self.single(weight, "weight"),
            weight_scale=output_steps(weight),
            bias=self.single(np.broadcast_to(bias.reshape(-1), weight.shape[:1]), "bias"),
            similarity=similarity,
        )

    def affine(self, x: Activation, scale: Constant, offset: Constant) -> Activation:
        """Return x * scale + offset, both broadcast to x's shape; the axes along which they vary become one.

        An infinite offset, which masks what a Softmax shall not see, becomes MASKED.
        """
        self.require_real(x)
        offset = np.where(np.isinf(offset), np.sign(offset) * MASKED, offset)
        try:
            fits = np.broadcast_shapes(scale.shape, offset.shape, x.shape) == x.shape
        except ValueError:
            fits = False
        if not fits:
            shape = scale.shape if scale.size > 1 else offset.shape
            raise RefusalError(
                f"a constant of shape {shape} would enlarge its input of shape {x.shape}",
                "give the constant a shape that broadcasts to the input's",
            )
        flat, axis, (factors, offsets) = self.lanes(x, scale, offset)
        y = self.emit(
            Affine, (flat,), scale=self.single(factors, "factor"), offset=self.single(offsets, "offset"), axis=axis
        )
        return self.reshape(y, x.shape)

    def lanes(self, x: Activation, *constants: Constant) -> tuple[Activation, int, list[Constant]]:
        """Return x with the axes along which constants vary made one, that axis, and the constants along it.

        constants: of shapes that broadcast to x's; one number if they vary nowhere.
        """
        rank = len(x.shape)
        wide = [values.reshape((1,) * (rank - values.ndim) + values.shape) for values in constants]
        varying = [axis for axis in range(rank) if max(values.shape[axis] for values in wide) > 1]
        if not varying:
            return x, 0, [values.reshape(-1) for values in wide]
        first, last = varying[0], varying[-1]
        hull = x.shape[first : last + 1]
        lanes = [np.broadcast_to(v, (1,) * first + hull + (1,) * (rank - last - 1)).reshape(-1) for v in wide]
        flat = self.reshape(x, (*x.shape[:first], math.prod(hull), *x.shape[last + 1 :])) if len(hull) > 1 else x
        return flat, first, lanes

    def pair(self, operator: type[RealOp], a: Activation, b: Activation, **fields: Any) -> Activation:
        """An operator of two activations, broadcast to one shape as numpy does."""
        self.require_real(a, b)
        try:
            np.broadcast_shapes(a.shape, b.shape)
        except ValueError as error:
            raise ModelError(
                self.source, f"combines activations of shapes {a.shape} and {b.shape}", "export the model again"
            ) from error
        rank = max(len(a.shape), len(b.shape))
        first, second = (self.reshape(x, (1,) * (rank - len(x.shape)) + x.shape) for x in (a, b))
        return self.emit(operator, (first, second), **fields)

    def relu(self, x: Activation) -> Activation:
        """max(x, 0)."""
        self.require_real(x)
        return self.emit(Relu, (x,))

    def reshape(self, x: Activation, shape: Shape, *, part: str = "") -> Activation:
        """Return the same elements in the same order; no operator if the shape is the same. part: as of transpose."""
        return x if x.shape == shape else replace(self.emit(Reshape, (x,), part=part, shape=shape), kind=x.kind)

    def transpose(self, x: Activation, permutation: Sequence[int], *, part: str = "") -> Activation:
        """Permute the axes; if only axes of length 1 move, the elements keep their order.

        part: suffix of the operator's name, for one that its node's name does not fit.
        """
        if sorted(permutation) != list(range(len(x.shape))):
            raise ModelError(self.source, f"permutes {x.shape} by {tuple(permutation)}", "use each axis once")
        long = [axis for axis in permutation if x.shape[axis] != 1]
        if long == sorted(long):
            return self.reshape(x, tuple(x.shape[axis] for axis in permutation), part=part)
        return replace(self.emit(Transpose, (x,), part=part, permutation=tuple(permutation)), kind=x.kind)

    def softmax(self, x: Activation, axis: int, *, logarithm: bool = False) -> Activation:
        """Softmax along one axis, counted from the front, or its logarithm."""
        self.require_real(x)
        flat = self.with_last_axis(x, axis)
        y = self.emit(LogSoftmax if logarithm else Softmax, (flat,))
        if math.prod(x.shape[axis + 1 :]) == 1:
            return self.reshape(y, x.shape)
        last = len(x.shape) - 1
        return self.transpose(y, (*range(axis), last, *range(axis, last)), part="_back")

    def arg_max(
        self, x: Activation, axis: int, *, keep: bool, smallest: bool = False, last: bool = False
    ) -> Activation:
        """Index of the first (or last) maximum (or minimum) along one axis, counted from the front."""
        if x.kind is Kind.INDEX:
            self.require_real(x)
        rest = [other for other in range(len(x.shape)) if other != axis]
        moved = self.transpose(x, [*rest, axis])
        keeps = keep and axis == len(x.shape) - 1
        y = self.emit(ArgMax, (moved,), keep_axis=keeps, smallest=smallest, last=last)
        shape = (*x.shape[:axis], *((1,) if keep else ()), *x.shape[axis + 1 :])
        return replace(self.reshape(y, shape), kind=Kind.INDEX)

    def four_view(self, x: Activation, zone_height: int, zone_width: int, shift: int) -> Activation:
        """Four-view features of an image of bytes, cast to float or not."""
        if min(zone_height, zone_width) < 1 or not 0 <= shift <= 31:
            raise RefusalError(
                f"zones of {zone_height}x{zone_width} pixels, shift {shift}",
                "use zones of at least 1x1 pixels and a shift of 0..31",
            )
        if x.kind is Kind.INDEX:
            self.require_real(x)
        return self.emit(FourView, (x,), zone_height=zone_height, zone_width=zone_width, shift=shift)

    def with_last_axis(self, x: Activation, axis: int) -> Activation:
        """Return x with one axis last; those after it are dropped if they are 1 long, else moved before it."""
        if math.prod(x.shape[axis + 1 :]) == 1:
            return self.reshape(x, x.shape[: axis + 1])
        order = [other for other in range(len(x.shape)) if other != axis]
        return self.transpose(x, (*order, axis), part="_moved")

    def require_real(self, *values: Activation) -> None:
        """Refuse the input's integers and indices where real numbers are computed with."""
        for value in values:
            if value.kind is Kind.BYTES:
                raise RefusalError("computes with integers", "cast the input to float before it")
            if value.kind is Kind.CODES:
                raise RefusalError("computes with quantized codes", "put a DequantizeLinear before it")
            if value.kind is Kind.INDEX:
                raise RefusalError("computes with an index", "end the model at the ArgMax")
            if value.kind is Kind.TRUTH:
                raise RefusalError("computes with truth values", "cast them to float before it, or use Where")

    def single(self, values: Constant, what: str) -> npt.NDArray[np.float32]:
        """Return constants as float32; NaN, and what float32 cannot hold, are the user's to repair."""
        with np.errstate(over="ignore", invalid="ignore"):
            single = np.ascontiguousarray(values, dtype=np.float32)
        if not np.isfinite(single).all():
            worst = single[~np.isfinite(single)][0]
            raise ModelError(
                self.source, f"its {what} becomes {worst} as float32", "re-train or repair the model's constants"
            )
        return single

    def emit(
        self, operator: type[RealOp], inputs: tuple[Activation, ...], *, part: str = "", **fields: Any
    ) -> Activation:
        """Append an operator, named after the node and the part of it that it is, and return its output."""
        name = self._names.take(short_name(self.source.node) + part)
        tensor = self._tensors.take(name)
        op = operator(name=name, inputs=tuple(x.tensor for x in inputs), output=tensor, source=self.source, **fields)
        shape = op.output_shape(*(x.shape for x in inputs))
        if not 0 < math.prod(shape) <= MAX_ELEMENTS:
            raise RefusalError(f"makes an output of shape {shape}", f"keep tensors between 1 and {MAX_ELEMENTS} values")
        self._ops.append(op)
        self._producers[tensor] = op
        return Activation(tensor, shape)
