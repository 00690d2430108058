"""Counts the instructions of one inference in an emulator, layer by layer, and estimates its cycles."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from mcucompile.errors import ProjectError
from mcucompile.ir import Array, Graph
from mcucompile.project import Project, open_emulator
from mcucompile.targets.counting import CountingLink, InstructionCounts
from mcucompile.tune import Candidate


@dataclass(frozen=True, slots=True)
class LayerCount:
    """One layer's share.

    Attributes:
        name, op, kernel: as in the facts of `compile`.
        ops: weight operations of one inference.
        instructions: executed, with everything inside the layer; the mean over the inputs.
        cycles: that they are estimated to take, None from an emulator that does not estimate them.
        plain_kernel, plain_instructions: the first kernel of the table that applies, and what it takes; None if it
            was not counted.
    """

    name: str
    op: str
    kernel: str
    ops: int
    instructions: int
    cycles: int | None = field(compare=False)
    plain_kernel: str | None = None
    plain_instructions: int | None = None


@dataclass(frozen=True, slots=True)
class Bench:
    """Instructions of one inference.

    Attributes:
        board, emulator: where.
        inputs: how many inferences were counted.
        instructions: mean of one inference, calls between layers included.
        least, most: over the inputs.
        cycles: estimated for one inference from the board's times, without waits for memory; None as of a layer.
        clock_hz: of the board.
        layers: in order.
    """

    board: str
    emulator: str
    inputs: int
    instructions: int
    least: int
    most: int
    cycles: int | None
    clock_hz: int
    layers: tuple[LayerCount, ...]

    @property
    def kernels(self) -> dict[str, int]:
        """Instructions by kernel, the most first."""
        totals: Counter[str] = Counter()
        for layer in self.layers:
            totals[layer.kernel] += layer.instructions
        return dict(totals.most_common())

    def facts(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self) | {"kernels": self.kernels}


def bench_project(project: Project, emulator: str, codes: Array) -> Bench:
    """Run inputs, (n, *input shape) codes, in an emulator and count.

    Raises:
        ProjectError: the project is for the host, which has no emulator.
    """
    if project.board.is_host:
        raise ProjectError(project.directory, "is built for the host", "compile for a board: --target hifive1")
    graph = project.graph
    with open_emulator(project, emulator, project.functions) as link:
        counts = [_count(link, code, graph) for code in codes]
    totals = [counted.total for counted in counts]
    layers = np.mean([counted.layers for counted in counts], axis=0)
    cycles = [counted.cycles for counted in counts if counted.cycles is not None]
    of_layers = np.mean([each for _, each in cycles], axis=0) if cycles else [None] * len(layers)
    return Bench(
        board=project.board.name,
        emulator=emulator,
        inputs=len(codes),
        instructions=round(sum(totals) / len(totals)),
        least=min(totals),
        most=max(totals),
        cycles=_rounded(np.mean([total for total, _ in cycles]) if cycles else None),
        clock_hz=project.board.clock_hz,
        layers=tuple(
            LayerCount(
                name=op.name,
                op=op.kind,
                kernel=kernel,
                ops=op.operations(*graph.shapes_of(op)),
                instructions=round(float(count)),
                cycles=_rounded(estimate),
            )
            for op, kernel, count, estimate in zip(graph.layers, project.kernels, layers, of_layers, strict=True)
        ),
    )


def beside_plain(result: Bench, plain: Sequence[Candidate]) -> Bench:
    """Return the counts with those of plain kernels beside them, one for each layer."""
    layers = tuple(
        replace(layer, plain_kernel=each.kernel, plain_instructions=each.instructions)
        for layer, each in zip(result.layers, plain, strict=True)
    )
    return replace(result, layers=layers)


def _count(link: CountingLink, code: Array, graph: Graph) -> InstructionCounts:
    link.infer(code.astype(graph.input.stored.dtype).tobytes(), digests=False)
    return link.counts()


def _rounded(value: np.floating[Any] | None) -> int | None:
    return None if value is None else round(float(value))
