"""A page about a compiled project: graph, memory over time, cost and accuracy of every layer. The same as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcucompile.bench import Bench
from mcucompile.emit import render
from mcucompile.errors import ProjectError
from mcucompile.output import write_files
from mcucompile.project import FACTS_FILE, Project, load_facts

PAGE_FILE = "report.html"
FACTS_REPORT = "report.json"

# Pixels of the graph: a row for each layer, a lane for each connection that passes layers by.
_ROW, _LANE, _DOT = 68, 14, 14
_GUTTER_LANES = 8
_CURVE = 16
# Pixels of the memory map, and of a line of text in it; colours before they come again.
_MAP_HEIGHT, _MAP_LINE = 320, 20
_COLOURS = 6
_MOST_TICKS = 12


def write_report(project: Project, bench: Bench | None, output: Path) -> dict[str, Any]:
    """Write report.html and report.json into a directory, and return what the JSON holds.

    Args:
        project: as of `load_project`.
        bench: measured instructions; None takes the planner's estimates, and says so.
        output: made if it does not exist.

    Raises:
        ProjectError: the project holds no facts, or the directory cannot be written.
    """
    facts = report_facts(project, bench)
    text = json.dumps(facts, indent=1) + "\n"
    write_files(output, {PAGE_FILE: render_page(facts), FACTS_REPORT: text})
    return facts


def report_facts(project: Project, bench: Bench | None) -> dict[str, Any]:
    """Return everything the page shows as plain values."""
    compiled = load_facts(project.directory)
    try:
        return _facts(project, compiled, bench)
    except (KeyError, TypeError, ValueError) as error:
        where = project.directory / FACTS_FILE
        raise ProjectError(where, f"is damaged: {error!r}", "compile the model again") from error


def render_page(facts: dict[str, Any]) -> str:
    """Return the page: HTML with its style, no scripts, nothing to load."""
    return render("report/page.html.j2", {"report": facts, **_pictures(facts)})


def _facts(project: Project, compiled: dict[str, Any], bench: Bench | None) -> dict[str, Any]:
    graph, manifest = project.graph, project.manifest
    layers = compiled["layers"]
    inputs = _layer_inputs(project)
    weights = sum(layer["flash_bytes"] for layer in layers)
    written_by = {op.output: i for i, op in enumerate(graph.layers)}
    names = [layer["name"] for layer in layers]
    # What layers sum up rows in is no tensor, and is called by its own name.
    buffers = [
        {
            "layer": written_by.get(one["tensor"], one["first"]),
            "name": names[written_by[one["tensor"]]] if one["tensor"] in written_by else one["tensor"],
            **one,
        }
        for one in compiled["buffers"]
    ]
    arena = {
        "bytes": compiled["arena_bytes"],
        "lower_bound_bytes": compiled["arena_lower_bound_bytes"],
        "peak_layer": compiled["arena_peak_layer"],
        "buffers": sorted(buffers, key=lambda one: (one["layer"], one["offset"])),
        "streams": compiled["streams"],
    }
    streamed = {
        i
        for stream in compiled["streams"]
        for i in range(names.index(stream["first"]), names.index(stream["last"]) + 1)
    }
    counts = [layer["estimated_instructions"] for layer in layers]
    if bench is not None:
        counts = [layer.instructions for layer in bench.layers]
    return {
        "model": compiled["model"],
        "file": manifest["model"]["file"],
        "mcucompile": manifest["mcucompile"],
        "compiler": manifest["compiler"],
        "digest": manifest["digest"],
        "options": manifest["options"],
        "board": {
            "name": project.board.name,
            "description": project.board.description,
            "core": project.board.core,
            "clock_hz": project.board.clock_hz,
        },
        "fits": compiled["fits"],
        "flash": {
            "bytes": compiled["flash_bytes"],
            "limit_bytes": compiled["flash_limit_bytes"],
            "weights_bytes": weights,
            "code_bytes": compiled["flash_bytes"] - weights,
            "measured": not project.board.is_host,
        },
        "ram": {
            "bytes": compiled["ram_bytes"],
            "limit_bytes": compiled["ram_limit_bytes"],
            "arena_bytes": compiled["arena_bytes"],
            "stack_bytes": compiled["stack_bytes"],
            "other_bytes": compiled["ram_bytes"] - compiled["arena_bytes"] - compiled["stack_bytes"],
        },
        "instructions": {
            "source": "estimate" if bench is None else bench.emulator,
            "total": sum(counts) if bench is None else bench.instructions,
            "inputs": 0 if bench is None else bench.inputs,
        },
        "accuracy": {"samples": compiled["statistics_samples"], "loses_most": compiled["loses_most"]},
        "input": {"name": graph.input.name, "shape": list(graph.input.shape), "format": str(graph.input.stored)},
        "arena": arena,
        "layers": [
            {
                "inputs": inputs[i],
                **layer,
                "instructions": count,
                "live_bytes": _covered([b for b in arena["buffers"] if b["first"] <= i <= b["last"]]),
                "row_by_row": i in streamed,
            }
            for i, (layer, count) in enumerate(zip(layers, counts, strict=True))
        ],
    }


def _covered(buffers: Sequence[dict[str, Any]]) -> int:
    """Return how many bytes lie in any of the buffers, which may overlap."""
    covered = end = 0
    for buffer in sorted(buffers, key=lambda one: int(one["offset"])):
        stop = buffer["offset"] + buffer["size"]
        covered += max(0, stop - max(end, buffer["offset"]))
        end = max(end, stop)
    return covered


def _layer_inputs(project: Project) -> list[list[int]]:
    """Return for each layer the indices of the layers it reads, -1 for the model's input; views are looked through."""
    made_by = {project.graph.inputs[0]: -1}
    inputs: list[list[int]] = []
    for op in project.graph.ops:
        read = [made_by[name] for name in op.inputs]
        if op.is_view:
            made_by[op.output] = read[0]
        else:
            made_by[op.output] = len(inputs)
            inputs.append(read)
    return inputs


def _pictures(facts: dict[str, Any]) -> dict[str, Any]:
    layers, arena = facts["layers"], facts["arena"]
    highest = {
        key: max([*(layer[key] or 0 for layer in layers), 1])
        for key in ("flash_bytes", "live_bytes", "instructions", "sqnr_db")
    }
    return {
        "rail": _rail([layer["inputs"] for layer in layers]),
        "memory": _memory_map(arena, len(layers)),
        "highest": highest,
        "histograms": [
            {"layer": layer["name"], **weights, "bars": _bars(weights["histogram"])}
            for layer in layers
            for weights in layer["weight_statistics"]
        ],
    }


def _rail(inputs: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return the lines beside the list of layers: row 0 is the input, row i + 1 layer i.

    A layer that reads the one above it is joined by a straight line. What is read further down runs in a lane
    of its own as far as its last reader; lanes are used again when they are free.
    """
    straight = []
    reads: dict[int, list[int]] = {}
    for i, sources in enumerate(inputs):
        for source in sorted(set(sources)):
            if source == i - 1:
                straight.append((source + 1, i + 1))
            else:
                reads.setdefault(source + 1, []).append(i + 1)
    free_from: list[int] = []
    bent = []
    for source, readers in sorted(reads.items()):
        lane = next((k for k, row in enumerate(free_from) if row <= source), len(free_from))
        free_from[lane : lane + 1] = [max(readers)]
        bent += [(lane, source, reader) for reader in readers]
    # Many lanes move closer together, so that names keep their place.
    step = _LANE if len(free_from) <= _GUTTER_LANES else _LANE * _GUTTER_LANES / len(free_from)
    lines = [f"M{_DOT} {_centre(a)}V{_centre(b)}" for a, b in straight]
    curves = [_curve(round(_DOT + step * (lane + 1), 1), _centre(a), _centre(b)) for lane, a, b in bent]
    return {
        "row": _ROW,
        "width": round(2 * _DOT + step * len(free_from), 1),
        "height": _ROW * (len(inputs) + 1),
        "x": _DOT,
        "dots": [_centre(row) for row in range(len(inputs) + 1)],
        "lines": lines,
        "curves": curves,
    }


def _centre(row: int) -> int:
    return row * _ROW + _ROW // 2


def _curve(x: float, top: int, bottom: int) -> str:
    return f"M{_DOT} {top}Q{x} {top} {x} {top + _CURVE}V{bottom - _CURVE}Q{x} {bottom} {_DOT} {bottom}"


def _memory_map(arena: dict[str, Any], layers: int) -> dict[str, Any]:
    """Return the rectangles of the arena over the layers, in percent of the picture's width and height.

    A rectangle says how many lines of text it has space for.
    """
    size = max(arena["bytes"], 1)
    every = -(-layers // _MOST_TICKS)
    return {
        "height": _MAP_HEIGHT,
        "boxes": [
            {
                **buffer,
                "x": _percent(buffer["first"], layers),
                "width": _percent(buffer["last"] - buffer["first"] + 1, layers),
                "y": _percent(size - buffer["offset"] - buffer["size"], size),
                "height": _percent(buffer["size"], size),
                "colour": i % _COLOURS,
                "lines": _MAP_HEIGHT * buffer["size"] // (size * _MAP_LINE),
            }
            for i, buffer in enumerate(arena["buffers"])
        ],
        "bound_y": _percent(size - arena["lower_bound_bytes"], size),
        "ticks": [{"layer": i, "x": _percent(2 * i + 1, 2 * layers)} for i in range(0, layers, every)],
    }


def _bars(counts: Sequence[int]) -> list[float]:
    """Return the heights of a histogram's bars in percent; a bar that is not empty can be seen."""
    tallest = max(counts)
    return [max(_percent(count, tallest), 2.0) if count else 0.0 for count in counts]


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 3)
