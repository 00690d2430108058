"""Counts the instructions of one inference in an emulator, layer by layer."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mcucompile.errors import ProjectError
from mcucompile.ir import Array
from mcucompile.project import Project, open_emulator


@dataclass(frozen=True, slots=True)
class LayerCount:
    """One layer's share.

    Attributes:
        name, op, kernel: as in the facts of `compile`.
        ops: weight operations of one inference.
        instructions: executed, with everything inside the layer; the mean over the inputs.
    """

    name: str
    op: str
    kernel: str
    ops: int
    instructions: int


@dataclass(frozen=True, slots=True)
class Bench:
    """Instructions of one inference.

    Attributes:
        board, emulator: where.
        inputs: how many inferences were counted.
        instructions: mean of one inference, calls between layers included.
        least, most: over the inputs.
        clock_hz: of the board.
        layers: in order.
    """

    board: str
    emulator: str
    inputs: int
    instructions: int
    least: int
    most: int
    clock_hz: int
    layers: tuple[LayerCount, ...]

    def facts(self) -> dict[str, Any]:
        """Return everything as plain values."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return plain | {"layers": [{name: getattr(c, name) for name in c.__slots__} for c in self.layers]}


def bench_project(project: Project, emulator: str, codes: Array) -> Bench:
    """Run inputs, (n, *input shape) codes, in an emulator and count.

    Raises:
        ProjectError: the project is for the host, which has no emulator.
    """
    if project.board.is_host:
        raise ProjectError(project.directory, "is built for the host", "compile for a board: --target hifive1")
    graph = project.graph
    totals: list[int] = []
    layers = np.zeros(len(graph.layers), dtype=np.int64)
    with open_emulator(project, emulator, project.functions) as link:
        for code in codes:
            link.infer(code.astype(graph.input.stored.dtype).tobytes(), digests=False)
            counts = link.counts()
            totals.append(counts.total)
            layers += np.array(counts.layers)
    return Bench(
        board=project.board.name,
        emulator=emulator,
        inputs=len(codes),
        instructions=round(sum(totals) / len(totals)),
        least=min(totals),
        most=max(totals),
        clock_hz=project.board.clock_hz,
        layers=tuple(
            LayerCount(
                name=op.name,
                op=op.kind,
                kernel=kernel,
                ops=op.operations(*graph.shapes_of(op)),
                instructions=round(int(count) / len(totals)),
            )
            for op, kernel, count in zip(graph.layers, project.kernels, layers, strict=True)
        ),
    )
