"""What people see: tables, progress, errors. Machines get JSON."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mcucompile.bench import Bench
from mcucompile.driver import Compiled
from mcucompile.encodings import ENCODINGS
from mcucompile.errors import UserError
from mcucompile.frontends.onnx_ops import CONVERTERS
from mcucompile.kernels import KERNELS
from mcucompile.ops import REAL_OPERATORS
from mcucompile.project import Project
from mcucompile.similarities import SIMILARITIES
from mcucompile.targets.boards import Board
from mcucompile.targets.flash import runner_names
from mcucompile.tune import Tuning
from mcucompile.verify import Verification

_BARS = " ▁▂▃▄▅▆▇█"


def _console(*, stderr: bool = False) -> Console:
    # Names in models, boards and paths can hold anything: none of it is markup.
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=not stderr)


def _print_verdict(console: Console, verdict: str, style: str, text: str) -> None:
    """Print a line that begins with a styled verdict."""
    console.print(Text.assemble((verdict, style), text))


def _table(title: str | None, left: Sequence[str], right: Sequence[str] = ()) -> Table:
    """Return an empty table narrow enough for 80 columns: `left` and then `right` aligned columns."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE, show_edge=False, padding=(0, 1, 0, 0)
    )
    for column in left:
        table.add_column(column, overflow="fold")
    for column in right:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def json_text(facts: Any) -> None:
    """Print one JSON value."""
    print(json.dumps(facts, indent=1))


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the stage now running, on standard error."""
    console = _console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _stage: None
        return
    with console.status("starting") as status:
        yield status.update


@contextmanager
def counted_progress(total: int, *, quiet: bool) -> Iterator[Callable[[str, int], None]]:
    """Yield a function that shows how many of `total` inputs a device has done, on standard error."""
    console = _console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _device, _done: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def update(device: str, done: int) -> None:
            if device not in tasks:
                tasks[device] = bars.add_task(device, total=total)
            bars.update(tasks[device], completed=done)

        yield update


def compiled(result: Compiled) -> None:
    """Print what a model costs on its board."""
    console = _console()
    console.print(_layer_table(result))
    _totals(console, result)
    if result.guessed_ranges:
        _print_verdict(
            console,
            "warning:",
            "bold yellow",
            " no samples were given: all ranges are guesses from random input, and accuracy will be poor. "
            "Give real inputs: --samples FILE.npy",
        )
    if result.directory is not None:
        console.print(f"wrote {result.directory}; next: mcucompile verify {result.directory} --on emulator")


def analyzed(results: Sequence[Compiled]) -> None:
    """Print what a model would cost on several boards."""
    console = _console()
    for result in results:
        console.print(_layer_table(result))
        _totals(console, result)
    # Numbers do not depend on the board.
    _accuracy(console, results[0])
    if results[0].guessed_ranges:
        text = " no samples were given: all ranges are guesses (--samples FILE.npy)"
        _print_verdict(console, "warning:", "bold yellow", text)


def _operator(layer: Mapping[str, Any]) -> str:
    """Return an operator's kind with its similarity, unless that is a product."""
    similarity = layer.get("similarity", "dot")
    kind = str(layer["op"]).replace("_", " ")
    return kind if similarity == "dot" else f"{kind}, {similarity}"


def _layer_table(result: Compiled) -> Table:
    columns = ("layer", "operator", "kernel", "weights", "output", "format")
    table = _table(f"{result.graph.name} on {result.board.name}", columns, ("weight ops", "flash"))
    for layer in result.facts()["layers"]:
        table.add_row(
            layer["name"],
            _operator(layer),
            layer["kernel"],
            layer.get("weights", ""),
            "x".join(str(n) for n in layer["output_shape"] if n > 1) or "1",
            layer["output_format"],
            f"{layer['ops']:,}" if layer["ops"] else "",
            f"{layer['flash_bytes']:,}" if layer["flash_bytes"] else "",
        )
    return table


def _accuracy(console: Console, result: Compiled) -> None:
    measured = result.statistics
    table = _table(f"against float, on {measured.samples} samples", ("layer",), ("range", "SQNR", "own SQNR"))
    table.add_column("weights", no_wrap=True)
    for layer in measured.layers:
        table.add_row(
            layer.name,
            f"{layer.minimum:.4g} .. {layer.maximum:.4g}",
            decibel(layer.sqnr_db),
            decibel(layer.own_sqnr_db),
            "\n".join(bars(weights.histogram) for weights in layer.weights),
        )
    console.print(table)
    losses = ", ".join(f"'{layer.name}' ({decibel(layer.own_sqnr_db)})" for layer in measured.worst)
    if losses:
        console.print(f"most accuracy is lost in {losses}")


def decibel(level: float | None) -> str:
    """Return a signal-to-noise ratio as people read it."""
    return "exact" if level is None else f"{level:.1f} dB"


def bars(counts: Sequence[int]) -> str:
    """Return a histogram on one line; what is not 0 can be seen."""
    tallest = max(counts)
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // tallest)] for count in counts)


def _totals(console: Console, result: Compiled) -> None:
    totals = result.budget
    if result.kept_tables:
        console.print(f"CORDIC does not cover, and tables compute: {', '.join(result.kept_tables)}")
    about = "" if result.built else "about "
    flash, ram = totals.limits.flash_bytes, totals.limits.ram_bytes
    console.print(f"flash {about}{totals.flash_bytes:,} bytes" + (f" of {flash:,}" if flash else ""))
    console.print(
        f"RAM   {about}{totals.ram_bytes:,} bytes"
        + (f" of {ram:,}" if ram else "")
        + f": arena {totals.arena_bytes:,}, stack {totals.stack_bytes:,} (worst case), "
        + f"input, output and link {totals.ram_bytes - totals.arena_bytes - totals.stack_bytes:,}"
    )
    if totals.fits:
        _print_verdict(console, "fits" if result.built else "should fit", "bold green", f" {result.board.name}")
    for shortfall in totals.shortfalls:
        _print_verdict(console, "does not fit", "bold red", f" {result.board.name}: {shortfall}")


def verification(result: Verification, project: Project, *, layers: bool) -> None:
    """Print the outcome of a verification, with a table of the layers if asked for."""
    console = _console()
    if layers:
        table = _table(None, ("layer", "operator"), ("elements", "compared", "mismatches", "digests"))
        runs = result.inputs * len(result.devices)
        for layer in result.layers:
            verdict = Text("differ", "red") if layer.mismatches else Text("equal", "green")
            table.add_row(
                layer.name,
                layer.op.replace("_", " "),
                f"{layer.elements:,}",
                f"{runs:,}",
                f"{layer.mismatches:,}",
                verdict,
            )
        console.print(table)
    where = " == ".join(["Python reference", *result.devices])
    if result.ok:
        counts = f"{result.inputs:,} inputs, {len(result.layers)} layers each, 0 mismatches"
        _print_verdict(console, "verified", "bold green", f" {where}: {counts}")
    else:
        total = result.inputs * len(result.devices)
        counts = f"{result.mismatches:,} of {total:,} runs differ"
        _print_verdict(console, "differs", "bold red", f" {where}: {counts}")
    first = result.first
    if first is not None:
        place = f"layer '{first.layer}'" if first.layer else "the result"
        value = (
            "; the device did not repeat it"
            if first.index is None
            else f", index {first.index}: reference {first.reference}, device {first.device}"
        )
        console.print(f"  first: on {first.on}, input {first.input}, {place}{value}")
    if result.accuracy is not None:
        console.print(f"accuracy {100 * result.accuracy:.2f} % on {result.inputs:,} inputs ({project.board.name})")


def bench(result: Bench) -> None:
    """Print instruction counts."""
    console = _console()
    title = f"instructions on {result.board} ({result.emulator})"
    has_cycles = result.cycles is not None
    plain = [layer.plain_instructions for layer in result.layers if layer.plain_instructions is not None]
    more = (*(["cycles"] if has_cycles else []), *(["plain", "ratio"] if plain else []))
    # In 80 columns there is room for the operator or for the plain kernel.
    left = ("layer", "kernel") if plain else ("layer", "operator", "kernel")
    operations = "ops" if plain else "weight ops"
    table = _table(title, left, (operations, "instructions", f"per {operations[:-1]}", *more))
    for layer in result.layers:
        table.add_row(
            layer.name,
            *([] if plain else [layer.op.replace("_", " ")]),
            layer.kernel,
            f"{layer.ops:,}" if layer.ops else "",
            f"{layer.instructions:,}",
            f"{layer.instructions / layer.ops:.2f}" if layer.ops else "",
            *([] if layer.cycles is None else [f"{layer.cycles:,}"]),
            *([] if layer.plain_instructions is None else _beside(layer.instructions, layer.plain_instructions)),
        )
    console.print(table)
    spread = "" if result.least == result.most else f" ({result.least:,} to {result.most:,})"
    console.print(f"{result.instructions:,} instructions per inference, mean of {result.inputs} inputs{spread}")
    shares = (f"{kernel} {100 * count / result.instructions:.0f} %" for kernel, count in result.kernels.items())
    console.print(f"by kernel: {', '.join(shares)}")
    if plain:
        own = sum(layer.instructions for layer in result.layers)
        console.print(f"plain kernels take {sum(plain):,}, {sum(plain) / max(own, 1):.2f} times as many")
    if result.cycles is not None:
        milliseconds = 1000 * result.cycles / result.clock_hz
        clock = f"{milliseconds:,.3g} ms at {result.clock_hz / 1e6:g} MHz"
        console.print(f"about {result.cycles:,} cycles, {clock}, if no memory ever waits")


def _beside(instructions: int, plain: int) -> tuple[str, str]:
    return f"{plain:,}", f"{plain / max(instructions, 1):.2f}"


def tuning(result: Tuning, path: Path) -> None:
    """Print what each kernel takes and which is chosen."""
    console = _console()
    title = f"kernels measured on {result.board}, chosen for {result.optimize}"
    figures = ("instructions", "cycles", "flash", "scratch")
    table = _table(title, ("layer", "kernel", ""), figures)
    for layer in result.layers:
        for number, each in enumerate(layer.candidates):
            marks = {layer.planned: "has", layer.chosen: "chosen"}
            sizes = (each.instructions, each.cycles, each.flash_bytes, each.stack_bytes)
            name = "" if number else layer.name
            table.add_row(name, each.kernel, marks.get(each.kernel, ""), *(f"{size:,}" for size in sizes))
    console.print(table)
    changed = sum(layer.chosen != layer.planned for layer in result.layers)
    console.print(f"{changed} of {len(result.layers)} choices differ; compile again with --kernels @{path}")


def flashed(command: Sequence[str], *, dry_run: bool) -> None:
    """Print the command that was, or would be, run."""
    print("\n".join(command))
    if not dry_run:
        print("flashed")


def boards(known: Sequence[Board], *, as_json: bool) -> None:
    """Print the boards."""
    if as_json:
        json_text(
            [
                {
                    "name": board.name,
                    "description": board.description,
                    "core": board.core,
                    "clock_hz": board.clock_hz,
                    "has_multiplier": board.has_multiplier,
                    "flash_bytes": board.memory.flash_bytes,
                    "ram_bytes": board.memory.ram_bytes,
                    "runners": list(runner_names(board)),
                    "emulators": [name for name in ("qemu", "unicorn") if getattr(board, name) is not None],
                }
                for board in known
            ]
        )
        return
    table = _table(None, ("board", "multiplier"), ("flash", "RAM", "clock"))
    table.add_column("what")
    for board in known:
        table.add_row(
            board.name,
            "yes" if board.has_multiplier else "no",
            f"{board.memory.flash_bytes:,}" if board.memory.flash_bytes else "any",
            f"{board.memory.ram_bytes:,}" if board.memory.ram_bytes else "any",
            f"{board.clock_hz / 1e6:g} MHz" if board.clock_hz else "",
            board.description,
        )
    console = _console()
    console.print(table)
    console.print()
    table = _table(None, ("board", "flash --runner"))
    for board in known:
        table.add_row(board.name, ", ".join(runner_names(board)) or "(nothing to flash)")
    console.print(table)


def operators(*, as_json: bool) -> None:
    """Print operators, weight encodings and kernels."""
    # The first sentence of an operator's documentation is its formula; what follows is for developers.
    described = {op.kind: re.split(r"[.;]\s", f"{op.__doc__} ")[0].replace("\n", " ") for op in REAL_OPERATORS}
    if as_json:
        json_text(
            {
                "operators": described,
                "onnx": onnx_types(),
                "similarities": {similarity.name: similarity.formula for similarity in SIMILARITIES.values()},
                "weights": {encoding.name: encoding.summary for encoding in ENCODINGS.values()},
                "kernels": [{"op": kernel.kind, "name": kernel.name} for kernel in KERNELS],
            }
        )
        return
    console = _console()
    table = _table("operators", ("operator", "computes", "kernels"))
    for kind, formula in described.items():
        kernels = ", ".join(kernel.name for kernel in KERNELS if kernel.kind == kind)
        table.add_row(kind.replace("_", " "), formula, kernels or "(no code)")
    console.print(table)
    console.print()
    console.print("ONNX node types", style="bold")
    console.print(", ".join(onnx_types()), soft_wrap=False)
    console.print()
    table = _table("similarities of dense layers and convolutions", ("name", "computes"))
    for similarity in SIMILARITIES.values():
        table.add_row(similarity.name, similarity.formula)
    console.print(table)
    console.print()
    table = _table("weight encodings", ("--weights", "what"))
    for encoding in ENCODINGS.values():
        table.add_row(encoding.name, encoding.summary)
    console.print(table)


def onnx_types() -> list[str]:
    """Return the ONNX node types that have a converter, with their domain where it is not the standard one."""
    return sorted(f"{domain}.{op_type}" if domain else op_type for domain, op_type in CONVERTERS)


def user_error(error: UserError, *, as_json: bool) -> None:
    """Print a user's mistake: where, what, and what to do; for machines as one JSON object."""
    if as_json:
        json_text({"error": {"where": error.where, "problem": error.problem, "fix": error.fix}})
        return
    where, problem, fix = (_printable(part) for part in (error.where, error.problem, error.fix))
    print(f"error: {where}\n  {problem}\n  fix: {fix}", file=sys.stderr)


def _printable(text: str) -> str:
    """Return text on one line, with what a terminal would obey escaped: names in files can hold anything."""
    return "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text)
