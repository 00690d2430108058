"""Prove that no accumulator and no intermediate of requantize can leave int32, for any input."""

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from mcucompile.errors import QuantizationError
from mcucompile.ir import Format, Graph, Op
from mcucompile.numerics import INT32_MAX, WIDE_MAX, Int, Requantization


@runtime_checkable
class Accumulates(Protocol):
    """An integer operator that sums and requantizes."""

    requantize: Requantization

    def accumulator_bounds(self, *formats: Format) -> tuple[Int, Int]:
        """Return the smallest and largest accumulator of each channel for any input."""


@runtime_checkable
class AccumulatesOften(Protocol):
    """An integer operator with several sums, each requantized."""

    def accumulations(self, *formats: Format) -> Iterable[tuple[Requantization, Int, Int]]:
        """Yield each requantization with the smallest and largest accumulators of its channels for any input."""


def check_accumulators(graph: Graph) -> Graph:
    """Return the graph unchanged, or name the layer whose worst input overflows.

    Needs: an integer graph. Gives: |every intermediate| < 2**31 for every input, by interval arithmetic
    over the actual weights; the generated C relies on it.
    """
    for op in graph.ops:
        formats = [graph.tensors[name].stored for name in op.inputs]
        worst = max(
            (int(np.max(_intermediates(*accumulation))) for accumulation in _accumulations(op, formats)),
            default=0,
        )
        if worst > INT32_MAX:
            excess = worst.bit_length() - 31
            raise QuantizationError(
                op.source,
                f"the sum can reach {worst}, int32 holds {INT32_MAX}: {excess} bit{'s' * (excess > 1)} too many",
                _fix(graph, op, formats),
            )
    return graph


def _accumulations(op: Op, formats: list[Format]) -> Iterator[tuple[Requantization, Int, Int]]:
    if isinstance(op, AccumulatesOften):
        yield from op.accumulations(*formats)
    elif isinstance(op, Accumulates):
        yield op.requantize, *op.accumulator_bounds(*formats)


def _fix(graph: Graph, op: Op, formats: list[Format]) -> str:
    """Return what makes the sum smaller."""
    producer = next(
        (graph.producer(name) for name, format_ in zip(op.inputs, formats, strict=True) if format_.bits > 8), None
    )
    if producer is not None:
        return f"give '{op.name}' 8-bit inputs (--activations {producer.name}=int8) or fewer of them"
    return f"give '{op.name}' fewer inputs or an encoding with fewer bits (--weights {op.name}=int4)"


def _intermediates(requantize: Requantization, low: Int, high: Int) -> Int:
    """Return the largest magnitude of what C keeps in int32; of a wide product, only the sum and the code."""
    worst = requantize.worst(low, high)
    if not requantize.is_wide:
        return worst
    kept = np.maximum(np.maximum(np.abs(low), np.abs(high)), (worst >> requantize.shift) + 1)
    return np.where(worst < WIDE_MAX, kept, worst)
