"""The intermediate representation: immutable graphs of operators over named tensors.

A graph is first one of real operators (a tensor has no format, or the one that the model gives it) and becomes,
by `quantize`, one of integer operators (every tensor has a format). Both are executed by the same few lines: an
operator computes its output from its inputs, and the integer graph's execution *is* the reference.
Shapes are those of the user's file with one sample (a batch of 1 stays in the shape as 1).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mcucompile.errors import ModelError
from mcucompile.numerics import Int, Real

Shape = tuple[int, ...]
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Source:
    """The place in the user's model that an operator came from."""

    file: str
    node: str
    op_type: str

    def __str__(self) -> str:
        """E.g. "model.onnx: node 'fc1' (Gemm)"."""
        return f"{self.file}: node '{self.node}' ({self.op_type})"


@dataclass(frozen=True, slots=True)
class Format:
    """What a stored code means: real = scale * (code - zero_point).

    Attributes:
        bits: 8, 16 or 32.
        signed: two's complement if true.
        scale: real size of one step, positive.
        zero_point: the code of the real 0.
        limits: smallest and largest code, of a format that uses fewer than its bits hold; None: all of them.
    """

    bits: int
    signed: bool
    scale: float = 1.0
    zero_point: int = 0
    limits: tuple[int, int] | None = None

    @property
    def minimum(self) -> int:
        """Smallest code. Signed formats are symmetric for quantized values: -127, not -128, is used."""
        if self.limits is not None:
            return self.limits[0]
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        """Largest code."""
        if self.limits is not None:
            return self.limits[1]
        return (1 << (self.bits - self.signed)) - 1

    @property
    def item_bytes(self) -> int:
        """Bytes of one stored code."""
        return self.bits // 8

    @property
    def dtype(self) -> np.dtype[Any]:
        """The little-endian numpy type of one stored code."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.item_bytes}")

    @property
    def c_type(self) -> str:
        """The C99 type of one stored code."""
        return f"{'' if self.signed else 'u'}int{self.bits}_t"

    def quantize(self, real: Array) -> Int:
        """Return the nearest codes (ties up), clamped to the format."""
        codes = np.floor(np.asarray(real, dtype=np.float64) / self.scale + 0.5) + self.zero_point
        return np.asarray(np.clip(codes, self.minimum, self.maximum), dtype=np.int64)

    def dequantize(self, codes: Array) -> Real:
        """Return the real values of codes."""
        return np.asarray(self.scale * (np.asarray(codes, dtype=np.float64) - self.zero_point))

    def __str__(self) -> str:
        """E.g. "uint8 x 0.0039"."""
        return f"{'' if self.signed else 'u'}int{self.bits} x {self.scale:.4g}"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named value in a graph.

    Attributes:
        format: None while the graph is one of reals, unless the model gives it.
        zeros: the share of codes that are 0 on the samples, 0 where nothing is known. What is fast may depend on it,
            results do not.
    """

    name: str
    shape: Shape
    format: Format | None = None
    zeros: float = 0.0

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def stored(self) -> Format:
        """The format of a tensor in an integer graph."""
        if self.format is None:
            raise TypeError(f"tensor '{self.name}' has no format yet: the graph is not quantized")
        return self.format

    @property
    def bytes(self) -> int:
        """Bytes the tensor takes in the arena."""
        return self.size * self.stored.item_bytes


@dataclass(frozen=True, slots=True)
class RowAccess:
    """Which rows of its inputs an operator over images (1, h, w, c) needs for each row of its output.

    Rows are made in order; output row r needs input rows r * stride - before and the `reach` after it, those
    that exist, and no row before them is needed again.

    Attributes:
        rows: of the output.
        input_rows: of every input.
        state_bytes: if not 0, a row can also be summed up from one input row at a time, which none shares with
            another row; the sums take these bytes.
        is_scattered: the bytes of an input row are not together, as in an image of planes: nothing can be laid over
            the rows that were read, and they cannot be made row by row.
    """

    rows: int
    input_rows: int
    stride: int = 1
    before: int = 0
    reach: int = 0
    state_bytes: int = 0
    is_scattered: bool = False

    def first(self, row: int) -> int:
        """Return the first input row that is needed for an output row."""
        return max(row * self.stride - self.before, 0)

    def last(self, row: int) -> int:
        """Return the last input row that is needed for an output row."""
        return min(row * self.stride - self.before + self.reach, self.input_rows - 1)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Op(ABC):
    """One operator: reads `inputs`, writes `output`. Subclasses are in ops/, one file each."""

    name: str
    inputs: tuple[str, ...]
    output: str
    source: Source
    kind: ClassVar[str]
    # True for an operator whose output is its input's bytes under another shape: it costs nothing.
    is_view: ClassVar[bool] = False
    # True if element i of the output is made from the elements i of the inputs, in order.
    is_elementwise: ClassVar[bool] = False

    @abstractmethod
    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the output's shape, or raise ModelError naming what does not match."""

    @abstractmethod
    def run(self, *inputs: Array) -> Array:
        """Compute the output. Every array has a leading axis of samples before the tensor's shape."""

    def operations(self, *_shapes: Shape) -> int:
        """Return the number of weight operations (x, w pairs) of one inference."""
        return 0

    def row_access(self, *shapes: Shape) -> RowAccess | None:
        """Return how it works row by row, None if it needs all of its input before it writes."""
        is_image = self.is_elementwise and len(shapes[0]) == 4 and shapes[0][0] == 1
        return RowAccess(shapes[0][1], shapes[0][1]) if is_image else None


@dataclass(frozen=True, eq=False)
class Graph:
    """Operators in execution order over named tensors.

    Attributes:
        name: a C identifier; prefix of everything emitted.
        inputs, outputs: tensor names.
        tensors: every tensor by name.
        ops: in execution order.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    ops: tuple[Op, ...]
    source: Source = field(default_factory=lambda: Source("graph", "graph", "Graph"))

    @property
    def input(self) -> Tensor:
        """The only input."""
        return self.tensors[self.inputs[0]]

    @property
    def result(self) -> Tensor:
        """The only output."""
        return self.tensors[self.outputs[0]]

    @cached_property
    def layers(self) -> tuple[Op, ...]:
        """The operators that compute something: one C function and one digest each."""
        return tuple(op for op in self.ops if not op.is_view)

    def consumers(self, tensor: str) -> tuple[Op, ...]:
        """Return the operators that read a tensor."""
        return tuple(self._readers.get(tensor, ()))

    def producer(self, tensor: str) -> Op | None:
        """Return the operator that writes a tensor, None for an input."""
        return self._producers.get(tensor)

    @cached_property
    def _readers(self) -> Mapping[str, list[Op]]:
        readers: dict[str, list[Op]] = {}
        for op in self.ops:
            for name in dict.fromkeys(op.inputs):
                readers.setdefault(name, []).append(op)
        return readers

    @cached_property
    def _producers(self) -> Mapping[str, Op]:
        return {op.output: op for op in self.ops}

    def shapes_of(self, op: Op) -> tuple[Shape, ...]:
        """Return the shapes of an operator's inputs."""
        return tuple(self.tensors[name].shape for name in op.inputs)

    def execute(self, samples: Array) -> Iterator[tuple[Op, Array]]:
        """Run all operators on samples (n, *input shape) and yield each with its output as it is made.

        Values are dropped as soon as nothing reads them any more, so that memory stays near the
        largest layer's.
        """
        values: dict[str, Array] = {self.inputs[0]: samples}
        last_use = {name: i for i, op in enumerate(self.ops) for name in op.inputs}
        for i, op in enumerate(self.ops):
            output = op.run(*(values[name] for name in op.inputs))
            values[op.output] = output
            yield op, output
            for name in {*op.inputs, op.output}:
                if last_use.get(name, -1) <= i and name in values:
                    del values[name]

    def run(self, samples: Array, *, batch: int = 500) -> Array:
        """Return the graph's output for samples (n, *input shape), computed `batch` samples at a time."""
        outputs = [self._last(samples[start : start + batch]) for start in range(0, len(samples), batch)]
        return np.concatenate(outputs)

    def _last(self, samples: Array) -> Array:
        result: Array = samples
        for op, value in self.execute(samples):
            if op.output == self.outputs[0]:
                result = value
        return result

    def replaced(self, **changes: Any) -> "Graph":
        """Return a copy with other fields, verified."""
        return verify(replace(self, **changes))


def verify(graph: Graph) -> Graph:
    """Return the graph unchanged, or raise ModelError naming the first broken invariant.

    Every tensor is written once, before it is read; every shape is what the operator computes; the
    inputs and outputs exist.
    """
    known = set(graph.inputs)
    for op in graph.ops:
        for name in op.inputs:
            if name not in known:
                raise ModelError(op.source, f"reads tensor '{name}' before anything writes it", "break the cycle")
        if op.output in known:
            raise ModelError(op.source, f"writes tensor '{op.output}' a second time", "rename one of the two outputs")
        computed = op.output_shape(*graph.shapes_of(op))
        declared = graph.tensors[op.output].shape
        if computed != declared:
            raise ModelError(
                op.source,
                f"computes shape {computed} but '{op.output}' is declared {declared}",
                "re-export the model",
            )
        known.add(op.output)
    for name in graph.outputs:
        if name not in known:
            raise ModelError(graph.source, f"output '{name}' is written by no node", "re-export the model")
    return graph


def build_graph(
    name: str, inputs: tuple[Tensor, ...], outputs: tuple[str, ...], ops: tuple[Op, ...], source: Source
) -> Graph:
    """Make a graph of real operators from its inputs and operators; shapes are computed."""
    tensors = {tensor.name: tensor for tensor in inputs}
    for op in ops:
        for read in op.inputs:
            if read not in tensors:
                raise ModelError(op.source, f"reads tensor '{read}' before anything writes it", "break the cycle")
        shape = op.output_shape(*(tensors[read].shape for read in op.inputs))
        tensors[op.output] = Tensor(op.output, shape)
    return verify(Graph(name, tuple(t.name for t in inputs), outputs, tensors, ops, source))


Pass = Callable[[Graph], Graph]
