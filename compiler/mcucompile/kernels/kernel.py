"""What a kernel is: one way to compute a layer on a kind of CPU."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from mcucompile.ir import Format, Op, Shape

# What templates receive: plain values, tuples, dataclasses.
Context = Mapping[str, object]
Value = TypeVar("Value")
_DSP_CORES = ("cortex-m4",)


@dataclass(frozen=True, slots=True)
class Core:
    """What a kernel must know of the CPU.

    Attributes:
        has_multiplier: the core multiplies in hardware and the build may use it.
        name: the instruction set, as a board file names it.
        multiply_cycles: that a product takes, of other instructions.
    """

    has_multiplier: bool
    name: str = "host"
    multiply_cycles: int = 1

    def pick(self, values: Mapping[str, Value]) -> Value:
        """Return this core's of values that a table gives by core; the host is taken for an RV32IMAC."""
        return values.get(self.name, values["rv32imac"])

    @property
    def has_dsp(self) -> bool:
        """Whether it has the DSP extension of Armv7E-M and Armv8-M."""
        return self.name in _DSP_CORES


@dataclass(frozen=True, slots=True)
class Cost:
    """An estimate before anything is built; `bench` measures.

    Attributes:
        instructions: of one inference of the layer.
        flash_bytes: weights and tables; of weights that are code, the code.
        stack_bytes: scratch on the stack.
        waits: cycles beyond one for each product. Other instructions wait about as often in every kernel.
    """

    instructions: int
    flash_bytes: int
    stack_bytes: int = 0
    waits: int = 0

    @property
    def time(self) -> int:
        """What kernels are compared by."""
        return self.instructions + self.waits


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """An operator in its place: what a kernel is asked to compute.

    Attributes:
        op: the integer operator.
        shapes, formats: of its inputs.
        output_shape, output_format: of its output.
        ring_rows: None for a layer that runs whole. Otherwise it makes one row at a call, and its input is a
            ring of so many rows, 0 for all of them.
        zeros: of each input, the expected share of codes that are 0; none where nothing is known.
    """

    op: Op
    shapes: tuple[Shape, ...]
    formats: tuple[Format, ...]
    output_shape: Shape
    output_format: Format
    ring_rows: int | None = None
    zeros: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SharedTable:
    """A table that every layer which needs it shares.

    Attributes:
        suffix: of its name, behind the model's.
        c_type: of an entry.
        comment: what it holds.
        values: its entries.
    """

    suffix: str
    c_type: str
    comment: str
    values: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Bytes of flash."""
        return len(self.values) * int(self.c_type.strip("uint_")) // 8


@dataclass(frozen=True, slots=True)
class Kernel(ABC):
    """One row of the kernel table.

    Attributes:
        name: in reports.
        kind: the operator kind it computes.
        template: relative to templates/.
        headers: of the runtime that it needs beside the operator's, relative to runtime_c/.
    """

    headers: ClassVar[tuple[str, ...]] = ()
    name: str
    kind: str
    template: str

    @property
    def included(self) -> tuple[str, ...]:
        """The headers of what it is made of, too."""
        return self.headers

    @abstractmethod
    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Return why the kernel cannot compute the layer on the core, None if it can."""

    @abstractmethod
    def cost(self, layer: Layer, core: Core) -> Cost:
        """Estimate what one inference of the layer costs on the core."""

    @abstractmethod
    def context(self, layer: Layer) -> Context:
        """Return what the template needs beyond the layer's names, shapes and formats."""
