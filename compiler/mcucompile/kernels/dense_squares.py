"""Dense layer whose weights are code, by squares of differences (kernels/squares.py): two instructions for each weight.

Each x becomes, once, a pointer to its square in the table. A weight is how far from it a load looks.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mcucompile.kernels.assembly import Assembly
from mcucompile.kernels.dense import Sums, sums_of
from mcucompile.kernels.dense_code import MAX_WEIGHTS, REQUANTIZE_BYTES, SAVED_BYTES, Block, DenseCode, requantize_each
from mcucompile.kernels.kernel import Context, Core, Cost, Layer
from mcucompile.kernels.requantize import RequantizeCode
from mcucompile.kernels.squares import (
    DIFFERENCES,
    FINISHES,
    differences_as_sums,
    origin_of_differences,
    refusal_of_differences,
)

# A load sees so many pointers.
_MOST_INPUTS = 512
_POINTER_BYTES = 4
# Instructions to make a pointer, and to add what x adds to the norm: its square or its code.
_PER_POINTER = 5
_PER_NORM = {"dot": 3, "euclid": 1}
_PER_FINISH = 3


@dataclass(frozen=True, slots=True)
class DenseSquares(DenseCode):
    """For layers of products or squared distances with few weights, on RISC-V cores."""

    headers: ClassVar[tuple[str, ...]] = ("mcu_blocks.h",)

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse other cores, groups, what differences cannot make, and layers with too many weights."""
        sums = sums_of(layer)
        if core.name != self.assembly.core:
            return f"is made for {self.assembly.core}"
        if sums.groups > 1:
            return "computes one group of channels only"
        count = int(sums.weights.codes.size)
        if count > MAX_WEIGHTS:
            return f"{count} weights would make too much code"
        if sums.weights.codes.shape[1] > _MOST_INPUTS:
            return f"takes at most {_MOST_INPUTS} inputs"
        return refusal_of_differences(sums)

    def cost(self, layer: Layer, core: Core) -> Cost:  # noqa: ARG002 - it is for one core
        """Count the instructions, and what it takes to make pointers."""
        sums = sums_of(layer)
        inputs = int(sums.weights.codes.shape[1])
        lines = sum(len(block.lines) for block in self.blocks(sums))
        requantize = sum(code.literal_instructions_on(self.assembly.core) for code in self._requantize_each(sums))
        has_norm = (sums.similarity, sums.input.signed) in FINISHES
        if has_norm:
            requantize += _PER_FINISH * len(sums.weights.codes)
        pointers = inputs * (_PER_POINTER + has_norm * _PER_NORM[sums.similarity])
        size = self.line_bytes * lines + REQUANTIZE_BYTES * requantize + DIFFERENCES.bytes
        stack = SAVED_BYTES + _POINTER_BYTES * inputs
        return Cost(sums.rows * (pointers + lines + requantize), round(size), stack)

    def context(self, layer: Layer) -> Context:
        """Return the blocks, the table, the norm and the codes."""
        sums = sums_of(layer)
        return {
            # A class with slots is made twice, and `super()` without arguments knows the first.
            **DenseCode.context(self, layer),
            "requantize_each": self._requantize_each(sums),
            "shared_tables": (DIFFERENCES,),
            "origin": origin_of_differences(sums),
            "similarity": sums.similarity,
            "finish": FINISHES.get((sums.similarity, sums.input.signed), ""),
        }

    def blocks(self, sums: Sums) -> Iterator[Block]:
        """Yield a few outputs at a time, in parts of nearly the same size."""
        values = sums.weights.values
        for part in np.array_split(np.arange(len(values)), math.ceil(len(values) / self.sums)):
            count = len(part)
            columns = tuple((i, tuple(values[part, i].tolist())) for i in range(values.shape[1]))
            none = (False,) * count
            yield Block(int(part[0]), count, none, none, columns, tuple(_lines(columns)))

    def _requantize_each(self, sums: Sums) -> tuple[RequantizeCode, ...]:
        return requantize_each(replace(sums, requantize=differences_as_sums(sums, sums.weights.values)))


def _lines(columns: tuple[tuple[int, tuple[int, ...]], ...]) -> Iterator[str]:
    for number, (i, weights) in enumerate(columns):
        yield f"lw %[v], {_POINTER_BYTES * i}(%[x_0])"
        for k, weight in enumerate(weights):
            target = f"sum_{k}" if number == 0 else "t"
            yield f"lhu %[{target}], {-2 * weight}(%[v])"
            if number > 0:
                yield f"add %[sum_{k}], %[sum_{k}], %[t]"


# Registers left for sums, and bytes of an instruction.
DENSE_SQUARES = tuple(
    DenseSquares("square code", "dense", "kernels/dense_squares.c.j2", Assembly(core), sums, 3.0)
    for core, sums in (("rv32ec", 8), ("rv32imac", 16))
)
