"""Integer graphs whose layers are computed by all kernels that apply, many graphs in one model of one firmware."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from host_model import build_observed, run_observed
from mcucompile.emit import Model
from mcucompile.ir import Graph
from mcucompile.kernels import KERNELS, Core, Layer
from mcucompile.measure import build_planned, roomy_board
from mcucompile.plan import PlannedLayer, layers_of, plan_arena
from mcucompile.project import core_of
from mcucompile.targets.boards import Board
from mcucompile.targets.unicorn_emulator import open_unicorn
from merged_graphs import merged, merged_inputs
from tile_firmware import layer_digests

# A graph, and for each of its layers, by name, the places in the table of the kernels that can compute it.
Application = tuple[Graph, Mapping[str, tuple[int, ...]]]


@dataclass(frozen=True, eq=False)
class Instance:
    """A graph with a kernel, by its place in the table, for each of its layers, by their names."""

    graph: Graph
    kernels: Mapping[str, int]


def choices(graph: Graph, core: Core) -> Mapping[str, tuple[int, ...]]:
    """Return the places in the table of the kernels that can compute each layer on a core, by the layer's name."""
    return {layer.op.name: _applicable(layer, core) for layer in layers_of(graph)}


def _applicable(layer: Layer, core: Core) -> tuple[int, ...]:
    return tuple(i for i, k in enumerate(KERNELS) if k.kind == layer.op.kind and k.refusal(layer, core) is None)


def applications(graphs: Iterable[Graph], core: Core) -> list[Application]:
    """Return the graphs all of whose layers can be computed on a core, with `choices` of each."""
    found = ((graph, choices(graph, core)) for graph in graphs)
    return [(graph, choice) for graph, choice in found if all(choice.values())]


def kernels_in(found: Iterable[Application]) -> set[int]:
    """Return the kernels that can compute any of the layers."""
    return {kernel for _, choice in found for kernels in choice.values() for kernel in kernels}


def every_choice(found: Iterable[Application]) -> Iterator[Instance]:
    """Yield each graph as often as one of its layers has kernels, so that each layer has each of its kernels."""
    for graph, choice in found:
        for turn in range(max(map(len, choice.values()))):
            yield Instance(graph, {name: kernels[turn % len(kernels)] for name, kernels in choice.items()})


def few_choices(found: Sequence[Application], wanted: set[int], turn: int) -> list[Instance]:
    """Return few graphs in which each wanted kernel is chosen; others at another turn."""
    users: dict[int, list[int]] = {}
    for number, (graph, choice) in enumerate(found):
        for kernel in wanted & kernels_in([(graph, choice)]):
            users.setdefault(kernel, []).append(number)
    instances = []
    left = set(wanted)
    # The rarest first: their graphs have layers for others too.
    for kernel in sorted(users, key=lambda k: (len(users[k]), k)):
        if kernel not in left:
            continue
        fewest = min(len(found[number][1]) for number in users[kernel])
        smallest = [number for number in users[kernel] if len(found[number][1]) == fewest]
        graph, choice = found[smallest[(turn + kernel) % len(smallest)]]
        chosen = {}
        for name, kernels in choice.items():
            some = [k for k in kernels if k in left]
            chosen[name] = kernel if kernel in some else some[0] if some else kernels[turn % len(kernels)]
            left.discard(chosen[name])
        instances.append(Instance(graph, chosen))
    return instances


def model_of_all(instances: Sequence[Instance], core: Core) -> Model:
    """Plan one model of all instances; the layers that bring its input to theirs have their first kernel."""
    graph = merged([instance.graph for instance in instances])
    wanted = {f"g{n}_{name}": kernel for n, i in enumerate(instances) for name, kernel in i.kernels.items()}
    planned = []
    for layer in layers_of(graph):
        kernel = KERNELS[wanted[layer.op.name] if layer.op.name in wanted else _applicable(layer, core)[0]]
        planned.append(PlannedLayer(layer, kernel, kernel.cost(layer, core)))
    return Model(graph, tuple(planned), plan_arena(graph), bytes(16), no_multiply=not core.has_multiplier)


def wrong_on_board(
    model: Model, board: Board, folder: Path, *, toolchain: str, optimize: str, random_inputs: int = 2
) -> list[str]:
    """Build and run a model on a board's emulator; return the layers, with kernels, that differ from the reference.

    What a build may not multiply is proven elsewhere: at -Os compilers make products of shifts and additions.
    """
    roomy = roomy_board(board)
    elf = build_planned(model, roomy, folder, toolchain=toolchain, optimize=optimize)
    graph = model.graph
    wrong: dict[str, None] = {}
    with open_unicorn(elf, roomy) as link:
        for code in merged_inputs(random_inputs):
            digests = link.infer(code.astype(np.uint8).tobytes()).digests
            same = [a == b for a, b in zip(digests, layer_digests(graph, code), strict=True)]
            wrong |= dict.fromkeys(_differing(model, same))
    return list(wrong)


def wrong_on_host(model: Model, folder: Path, *, flags: tuple[str, ...], random_inputs: int = 2) -> list[str]:
    """Build and run a model on the host; return the layers, with kernels, that differ from the reference."""
    program = build_observed(model, folder, flags=flags)
    codes = merged_inputs(random_inputs)
    outputs = run_observed(program, model.graph, codes)
    expected = (output for op, output in model.graph.execute(codes) if not op.is_view)
    return _differing(model, [np.array_equal(a, b) for a, b in zip(outputs, expected, strict=True)])


def _differing(model: Model, same: Sequence[bool]) -> list[str]:
    """Return the layers that differ but are made from none that does; only these are wrong themselves."""
    spoilt: set[str] = set()
    found = []
    results = iter(zip(model.layers, same, strict=True))
    for op in model.graph.ops:
        is_spoilt = not spoilt.isdisjoint(op.inputs)
        if not op.is_view:
            planned, is_same = next(results)
            if not is_same and not is_spoilt:
                found.append(f"{op.name} ({planned.kernel.name})")
            is_spoilt = not is_same
        if is_spoilt:
            spoilt.add(op.output)
    return found


def builds_of(board: Board) -> tuple[Core, ...]:
    """Return the core as builds for a board may use it: with its multiplier, if there is one, and without."""
    return tuple(core_of(board, no_multiply=without) for without in (False, True) if without or board.has_multiplier)
