"""Measures the kernels that could compute each layer of a project, and chooses by what is counted.

All layers' first kernels are measured together, then their second ones, and so on: a layer's count does not depend
on the kernels of others.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

from mcucompile.emit import Model
from mcucompile.errors import ProjectError
from mcucompile.ir import Array
from mcucompile.kernels import Core, Cost
from mcucompile.measure import measure
from mcucompile.plan import Arena, PlannedLayer, candidates_of, choose_streams, layers_of, plan_arena, price
from mcucompile.project import Project, core_of, load_facts

# What `bench --tune` writes into a project: the choice, as --kernels takes it.
KERNELS_FILE = "kernels.txt"
# Stack that functions take beside a kernel's scratch.
_STACK_BYTES = 200


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kernel that was measured on a layer.

    Attributes:
        kernel: its name.
        instructions, cycles: of one inference; cycles are estimated from the board's times.
        flash_bytes: weights and tables; of weights that are code, the code.
        stack_bytes: scratch.
    """

    kernel: str
    instructions: int
    cycles: int
    flash_bytes: int
    stack_bytes: int

    def cost(self) -> Cost:
        """Return what the planner compares."""
        return Cost(self.instructions, self.flash_bytes, self.stack_bytes, self.cycles - self.instructions)


@dataclass(frozen=True, slots=True)
class TunedLayer:
    """A layer that several kernels can compute.

    Attributes:
        name: of the layer.
        planned, chosen: names of the kernels that it has and that it should have.
        candidates: in the order of the table, the plain one first.
    """

    name: str
    planned: str
    chosen: str
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was measured of a project.

    Attributes:
        board, optimize: of the project.
        layers: those with a choice.
    """

    board: str
    optimize: str
    layers: tuple[TunedLayer, ...]

    @property
    def kernels(self) -> str:
        """The choice as --kernels takes it."""
        return ",".join(f"{layer.name}={layer.chosen}" for layer in self.layers)

    def facts(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self) | {"kernels": self.kernels}


def tune(
    project: Project, codes: Array, *, toolchain: str = "auto", progress: Callable[[str], None] = lambda _stage: None
) -> Tuning:
    """Measure in unicorn every kernel that applies to a layer and whose scratch the board's RAM has room for.

    Args:
        project: for a board with an emulator.
        codes: inputs, (n, *input shape).
        toolchain: "auto", "gcc" or "zig".
        progress: told what is measured.
    Raises:
        ProjectError: the project is for the host.
    """
    core = _core(project)
    room = _room(project)
    candidates = [_distinct(candidates_of(layer, core), room) for layer in layers_of(project.graph)]
    measured: list[dict[str, Candidate]] = [{} for _ in candidates]
    rounds = list(zip_longest(*candidates))
    for number, choice in enumerate(rounds, 1):
        progress(f"measuring kernels, build {number} of {len(rounds)}")
        planned = tuple(each or of_layer[0] for each, of_layer in zip(choice, candidates, strict=True))
        for found, candidate in zip(measured, _measure(project, planned, codes, toolchain), strict=True):
            found[candidate.kernel] = candidate
    optimize = project.manifest["options"]["optimize"]
    return Tuning(
        project.board.name,
        optimize,
        tuple(
            TunedLayer(
                op.name,
                kernel,
                min(found.values(), key=lambda candidate: price(candidate.cost(), optimize)).kernel,
                tuple(found.values()),
            )
            for op, kernel, found in zip(project.graph.layers, project.kernels, measured, strict=True)
            if len(found) > 1
        ),
    )


def count_plain(project: Project, codes: Array, *, toolchain: str = "auto") -> tuple[Candidate, ...]:
    """Measure each layer with its plain kernel, the first of the table that can compute it.

    Raises:
        ProjectError: the project is for the host.
    """
    core = _core(project)
    planned = tuple(candidates_of(layer, core)[0] for layer in layers_of(project.graph))
    return tuple(_measure(project, planned, codes, toolchain))


def _core(project: Project) -> Core:
    if project.board.is_host:
        raise ProjectError(project.directory, "is built for the host", "compile for a board: --target hifive1")
    return core_of(project.board, no_multiply=project.no_multiply)


def _room(project: Project) -> int:
    """Return the RAM that the board has for a kernel's scratch, beside what the project keeps in it."""
    facts = load_facts(project.directory)
    return int(facts["ram_limit_bytes"]) - int(facts["ram_bytes"]) + int(facts["stack_bytes"]) - _STACK_BYTES


def _distinct(candidates: tuple[PlannedLayer, ...], room: int) -> tuple[PlannedLayer, ...]:
    """Return the cheapest of each name that there is room for; without any, the one with the least scratch."""
    best: dict[str, PlannedLayer] = {}
    for each in candidates:
        name = each.kernel.name
        if each.cost.stack_bytes <= room and (name not in best or each.cost.time < best[name].cost.time):
            best[name] = each
    return tuple(best.values()) or (min(candidates, key=lambda each: each.cost.stack_bytes),)


def _measure(project: Project, planned: tuple[PlannedLayer, ...], codes: Array, toolchain: str) -> Iterator[Candidate]:
    model = Model(project.graph, planned, _arena(project), bytes(16), project.no_multiply)
    measured = measure(model, project.board, codes, toolchain=toolchain)
    for each, instructions, cycles in zip(planned, measured.instructions, measured.cycles, strict=True):
        yield Candidate(each.kernel.name, instructions, cycles, each.cost.flash_bytes, each.cost.stack_bytes)


def _arena(project: Project) -> Arena:
    streams = choose_streams(project.graph) if load_facts(project.directory)["streams"] else ()
    return plan_arena(project.graph, streams)
