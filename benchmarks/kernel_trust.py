"""Every kernel on every layer of tests/kernel_cases.py, against the reference: all cores, tool chains and levels.

    python benchmarks/kernel_trust.py                hours: the whole product
    python benchmarks/kernel_trust.py --turns 256    one 256th of it: minutes

A pair of a layer and a kernel is compared in each of the eight builds of a core (two tool chains, -O1, -O2, -O3, -Os),
with and without its multiplier, in unicorn; with --turns, a pair has its turn in one build of so many. Writes
benchmarks/results/kernel_trust.json; exits 1 if a layer differs from the reference.
"""

import itertools
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from mcucompile.targets.boards import load_board
from rich.progress import Progress

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "kernel_trust.json"
sys.path.insert(0, str(ROOT / "tests"))

from kernel_cases import FAMILIES  # noqa: E402 - found by the line above
from kernel_models import (  # noqa: E402
    Instance,
    applications,
    builds_of,
    every_choice,
    model_of_all,
    wrong_on_board,
)

# One board of each core.
BOARDS = ("ch32v003", "hifive1", "microbit", "nucleo-f401re")
BUILDS = tuple(itertools.product(("gcc", "zig"), ("1", "2", "3", "s")))
# Graphs in a firmware: code and data of more would leave what the emulator and branches reach.
AT_ONCE = 150


def chunks(instances: Sequence[Instance]) -> Iterator[Sequence[Instance]]:
    """Yield the instances, so many as one firmware takes."""
    for start in range(0, len(instances), AT_ONCE):
        yield instances[start : start + AT_ONCE]


def compare(name: str, turns: int, bar: Progress) -> Iterator[dict[str, Any]]:
    """Yield what was compared in each build of a board."""
    board = load_board(name)
    for core in builds_of(board):
        found = applications([graph for family in FAMILIES.values() for graph in family()], core)
        instances = list(every_choice(found))
        for turn, (toolchain, level) in enumerate(BUILDS):
            # Builds of a core, and cores, begin elsewhere.
            first = (turn * max(turns // len(BUILDS), 1) + BOARDS.index(name)) % turns
            mine = instances[first::turns]
            wrong: list[str] = []
            for some in bar.track(list(chunks(mine)), description=f"{name} {toolchain} -O{level}"):
                with tempfile.TemporaryDirectory() as folder:
                    model = model_of_all(some, core)
                    wrong += wrong_on_board(model, board, Path(folder), toolchain=toolchain, optimize=level)
            yield {
                "board": name,
                "multiplier": core.has_multiplier,
                "toolchain": toolchain,
                "level": level,
                "pairs": sum(len(instance.kernels) for instance in mine),
                "kernels": len({kernel for instance in mine for kernel in instance.kernels.values()}),
                "wrong": wrong,
            }


@click.command(help=__doc__)
@click.option(
    "--turns", type=click.IntRange(min=1), default=1, show_default=True, help="A pair is in one build of so many."
)
def main(turns: int) -> None:
    """Compare, print and write the results."""
    builds = []
    with Progress(transient=True) as bar:
        for name in BOARDS:
            for build in compare(name, turns, bar):
                builds.append(build)
                shown = build | {"wrong": ", ".join(build["wrong"])}
                bar.console.print(*shown.values(), sep=" | ", highlight=False, soft_wrap=True)
    RESULTS.write_text(json.dumps({"turns": turns, "builds": builds}, indent=1) + "\n", encoding="utf-8")
    if any(build["wrong"] for build in builds):
        raise SystemExit("a kernel differs from the reference")


if __name__ == "__main__":
    main()
