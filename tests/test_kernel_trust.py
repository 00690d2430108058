"""Every kernel of the table gives the bits of the reference: on each core, at each level, with both tool chains.

Here each kernel runs once at each level, on each core where it applies at one level at least, and under sanitizers;
benchmarks/kernel_trust.py runs every kernel on every layer of tests/kernel_cases.py in every build.
"""

import functools
from pathlib import Path

import pytest
from firmware_builds import require_emulator, require_toolchain
from host_model import SANITIZERS
from kernel_cases import given_graphs, operator_graphs, recurrent_graphs, weighted_graphs
from kernel_models import (
    Application,
    Instance,
    applications,
    few_choices,
    kernels_in,
    model_of_all,
    wrong_on_board,
    wrong_on_host,
)
from mcucompile.ir import Graph
from mcucompile.kernels import KERNELS, Core
from mcucompile.project import core_of
from mcucompile.targets.boards import load_board

# One board of each core.
BOARDS = ("ch32v003", "hifive1", "microbit", "nucleo-f401re")
LEVELS = ("1", "2", "3", "s")
TOOLCHAINS = ("gcc", "zig")
# Builds that may not multiply have emitted code of their own; a core's share of the kernels does for them.
WITHOUT = (("hifive1", "2"), ("microbit", "3"), ("nucleo-f401re", "s"))
HOST_CORES = (Core(has_multiplier=True), Core(has_multiplier=False))


@functools.cache
def _graphs() -> list[Graph]:
    graphs = [*operator_graphs(), *recurrent_graphs(), *weighted_graphs(every=7), *given_graphs(every=32)]
    assert len(graphs) >= 200
    return graphs


@functools.cache
def _found(core: Core) -> list[Application]:
    return applications(_graphs(), core)


@functools.cache
def _applicable() -> dict[str, set[int]]:
    """Return the kernels that apply on each board's core."""
    return {name: kernels_in(_found(core_of(load_board(name), no_multiply=False))) for name in BOARDS}


def _share(board: str, level: str) -> set[int]:
    """Return the kernels that a board has at a level: of the boards on which one applies, each has its turn."""
    share = set()
    for kernel in _applicable()[board]:
        boards = [name for name in BOARDS if kernel in _applicable()[name]]
        if boards[(kernel + LEVELS.index(level)) % len(boards)] == board:
            share.add(kernel)
    return share


def _share_without(board: str) -> set[int]:
    kernels = kernels_in(_found(core_of(load_board(board), no_multiply=True)))
    number = [name for name, _ in WITHOUT].index(board)
    return {kernel for kernel in kernels if kernel % len(WITHOUT) == number or kernel not in _applicable()[board]}


def _chosen(instances: list[Instance]) -> set[int]:
    return {kernel for instance in instances for kernel in instance.kernels.values()}


def test_every_kernel_has_its_turns() -> None:
    applicable = _applicable()
    on_host = set().union(*(kernels_in(_found(core)) for core in HOST_CORES))
    everywhere = set(range(len(KERNELS)))
    unused = [
        (KERNELS[kernel].name, KERNELS[kernel].kind) for kernel in everywhere - on_host.union(*applicable.values())
    ]
    assert unused == []
    assert len(KERNELS) >= 146
    assert min(map(len, applicable.values())) >= 85
    for level in LEVELS:
        assert set().union(*(_share(board, level) for board in BOARDS)) == set().union(*applicable.values())
    for board in BOARDS:
        assert set().union(*(_share(board, level) for level in LEVELS)) == applicable[board]
    without = set().union(*(_share_without(board) for board, _ in WITHOUT))
    assert without >= applicable["ch32v003"] & applicable["hifive1"] & applicable["nucleo-f401re"]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", BOARDS)
def test_kernels_on_the_core(name: str, level: str, tmp_path: Path) -> None:
    turn = BOARDS.index(name) + LEVELS.index(level)
    _check(name, level, _share(name, level), turn, tmp_path, no_multiply=False)


@pytest.mark.parametrize(("name", "level"), WITHOUT)
def test_kernels_without_multiplier(name: str, level: str, tmp_path: Path) -> None:
    _check(name, level, _share_without(name), BOARDS.index(name), tmp_path, no_multiply=True)


def _check(name: str, level: str, share: set[int], turn: int, folder: Path, *, no_multiply: bool) -> None:
    board = load_board(name)
    toolchain = TOOLCHAINS[turn % 2]
    require_toolchain(board, toolchain)
    require_emulator(board, "unicorn")
    core = core_of(board, no_multiply=no_multiply)
    instances = few_choices(_found(core), share, turn)
    assert _chosen(instances) >= share
    model = model_of_all(instances, core)
    assert wrong_on_board(model, board, folder, toolchain=toolchain, optimize=level) == []


@pytest.mark.parametrize("core", HOST_CORES, ids=["multiplier", "none"])
def test_kernels_on_the_host(core: Core, tmp_path: Path) -> None:
    """Under sanitizers; with a multiplier, what does not apply without one."""
    kernels = kernels_in(_found(core))
    if core.has_multiplier:
        kernels -= kernels_in(_found(HOST_CORES[1]))
    assert kernels
    instances = few_choices(_found(core), kernels, 0)
    assert _chosen(instances) >= kernels
    assert wrong_on_host(model_of_all(instances, core), tmp_path, flags=("-O1", *SANITIZERS)) == []
