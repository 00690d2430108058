"""What the kernels whose weights are instructions share: straight-line code, nothing at all for a weight of 0."""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from mcucompile.kernels.assembly import Assembly
from mcucompile.kernels.dense import Sums, sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.kernels.requantize import RequantizeCode, requantize_code
from mcucompile.numerics import Int, Requantization

# More of them take longer to compile than they are worth.
MAX_WEIGHTS = 4096
_WIDEST_INPUT = 16
# Bytes of a requantization in line.
REQUANTIZE_BYTES = 3
# Registers that the callers want back.
SAVED_BYTES = 48


@dataclass(frozen=True, slots=True)
class Step:
    """The variable that holds x, or a sum of x, is shifted left in place; then these sums add or subtract it."""

    shift: int
    plus: tuple[int, ...]
    minus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of straight-line code: the same in C and in instructions of the core.

    Attributes:
        first: the first output that it makes.
        sums: number of its sums.
        negated: of each sum, whether it is made with the opposite sign.
        high: of each sum, whether it is in a register that Thumb can only add to.
        code: for the template.
        lines: instructions.
        pointers: first element of x that each pointer points at.
        labels: lines that are no instructions.
        skipped: instructions that an x of 0 leaves out, of all x together.
    """

    first: int
    sums: int
    negated: tuple[bool, ...]
    high: tuple[bool, ...]
    code: object
    lines: tuple[str, ...]
    pointers: tuple[int, ...] = (0,)
    labels: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class DenseCode(Kernel):
    """For layers of products with few weights, on one core.

    Attributes:
        assembly: of the core.
        sums: how many sums it has registers for.
        line_bytes: bytes of an instruction, on average.
    """

    assembly: Assembly
    sums: int
    line_bytes: float

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse other cores, similarities that do not multiply, and layers with too many weights."""
        sums = sums_of(layer)
        if core.name != self.assembly.core:
            return f"is made for {self.assembly.core}"
        if sums.similarity not in ("dot", "ternary"):
            return "computes dot and ternary only"
        if sums.input.bits > _WIDEST_INPUT:
            return "needs inputs of at most 16 bits"
        count = int(np.count_nonzero(factors(sums)))
        if not count:
            return "has no weight but 0"
        return f"{count} weights would make too much code" if count > MAX_WEIGHTS else None

    def cost(self, layer: Layer, core: Core) -> Cost:  # noqa: ARG002 - it is for one core
        """Count the instructions. Each x is expected to be 0 as often as the input's codes are."""
        sums = sums_of(layer)
        blocks = list(self.blocks(sums))
        lines = sum(len(block.lines) - block.labels + sum(block.negated) for block in blocks)
        left_out = expected_zeros(layer) * sum(block.skipped for block in blocks)
        requantize = sum(code.literal_instructions_on(self.assembly.core) for code in requantize_each(sums))
        size = self.line_bytes * lines + REQUANTIZE_BYTES * requantize
        return Cost(round(sums.rows * (lines + requantize - left_out)), round(size), SAVED_BYTES)

    def context(self, layer: Layer) -> Context:
        """Return the blocks."""
        sums = sums_of(layer)
        n_out, n_in = sums.weights.codes.shape
        return {
            "n_in": int(n_in) * sums.groups,
            "n_out": int(n_out),
            "rows": sums.rows,
            "groups": sums.groups,
            "part": sums.part,
            "assembly": self.assembly,
            "blocks": tuple(self.blocks(sums)),
            "requantize_each": requantize_each(sums),
        }

    @abstractmethod
    def blocks(self, sums: Sums) -> Iterable[Block]:
        """Return the code of one row."""


def expected_zeros(layer: Layer) -> float:
    """Return the expected share of zeros among the codes of a layer's first input."""
    return layer.zeros[0] if layer.zeros else 0.0


def factors(sums: Sums) -> Int:
    """Return what each x is multiplied by, (n_out, n_in)."""
    values = sums.weights.values
    return np.asarray(np.sign(values) if sums.similarity == "ternary" else values)


def requantize_each(sums: Sums) -> tuple[RequantizeCode, ...]:
    """Return the requantization of each output, as literals."""
    whole = sums.requantize
    count = len(sums.weights.codes)
    fields = [np.broadcast_to(field, (count,)) for field in (whole.multiplier, whole.offset, whole.shift)]
    return tuple(requantize_code(_one(whole, *(f[o : o + 1] for f in fields)), sums.output) for o in range(count))


def _one(whole: Requantization, multiplier: Int, offset: Int, shift: Int) -> Requantization:
    return replace(whole, multiplier=multiplier, offset=offset, shift=shift)
