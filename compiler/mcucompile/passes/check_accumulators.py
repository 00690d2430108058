"""Prove that no accumulator and no intermediate of requantize can leave int32, for any input."""

from typing import Protocol, runtime_checkable

import numpy as np

from mcucompile.errors import QuantizationError
from mcucompile.ir import Format, Graph
from mcucompile.numerics import INT32_MAX, Int, Requantization


@runtime_checkable
class Accumulates(Protocol):
    """An integer operator that sums and requantizes."""

    requantize: Requantization

    def accumulator_bounds(self, *formats: Format) -> tuple[Int, Int]:
        """Return the smallest and largest accumulator of each channel for any input."""


def check_accumulators(graph: Graph) -> Graph:
    """Return the graph unchanged, or name the layer whose worst input overflows.

    Needs: an integer graph. Gives: |every intermediate| < 2**31 for every input, by interval arithmetic
    over the actual weights; the generated C relies on it.
    """
    for op in graph.ops:
        if not isinstance(op, Accumulates):
            continue
        low, high = op.accumulator_bounds(*(graph.tensors[name].stored for name in op.inputs))
        worst = int(np.max(op.requantize.worst(low, high)))
        if worst > INT32_MAX:
            excess = worst.bit_length() - 31
            raise QuantizationError(
                op.source,
                f"the sum can reach {worst}, int32 holds {INT32_MAX}: {excess} bit{'s' * (excess > 1)} too many",
                f"give '{op.name}' fewer inputs or an encoding with fewer bits (--weights {op.name}=int4)",
            )
    return graph
