"""The straight line: calls the stages in their order, and is the only one to do so.

model -> front-end -> passes -> calibrate -> quantize -> plan -> emit -> build -> budget -> project directory
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mcucompile import reference, statistics
from mcucompile.calibrate import Calibration, as_samples, calibrate
from mcucompile.data import load_array
from mcucompile.emit import Model, emit_model, headers, render
from mcucompile.errors import ModelError, UserError
from mcucompile.frontends.onnx import load_onnx
from mcucompile.ir import Array, Graph
from mcucompile.kernels import Kernel
from mcucompile.ops import IntegerConv, IntegerDense, activation_method, weights_of
from mcucompile.output import put_in_place, scratch_directory, write_files
from mcucompile.passes import simplify
from mcucompile.plan import (
    Arena,
    Budget,
    Limits,
    PlannedLayer,
    budget,
    choose_streams,
    parse_kernels,
    plan_arena,
    pool_convolutions,
    select_kernels,
)
from mcucompile.project import BOARD_FILE, FACTS_FILE, MANIFEST, core_of
from mcucompile.quantize import parse_activation_methods, parse_activations, parse_weights, quantize
from mcucompile.resources import resource_dir
from mcucompile.statistics import LayerStatistics, Statistics
from mcucompile.targets.boards import Board, board_facts, load_board
from mcucompile.targets.elf import inspect_elf, prove
from mcucompile.targets.firmware import firmware_files, linker_script
from mcucompile.targets.toolchain import build_firmware, compiler_version, find_compiler

_KEPT_SAMPLES = 16
_HASH_BYTES = 16
# Firmware around a model, for estimates without a build: link, start-up and port; their variables; their
# stack; and C code of a layer. tests/test_driver.py holds them against real builds.
_FIRMWARE_FLASH, _FIRMWARE_RAM, _FIRMWARE_STACK, _LAYER_CODE = 2600, 110, 200, 250
# Counters of a layer that runs row by row.
_STREAMED_LAYER_STACK = 12

STREAMING = ("auto", "never", "always")
OPTIMIZE = ("balanced", "speed", "size")
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What a user can choose.

    Attributes:
        weights: encodings, as of `quantize.parse_weights`.
        activations: formats of layers' outputs, as of `quantize.parse_activations`.
        activation_method: "table" or "cordic", as of `quantize.parse_activation_methods`.
        toolchain: "auto", "gcc" or "zig".
        no_multiply: the firmware may hold no multiply or divide, whatever the core has.
        csd_terms: signed powers of two in a requantization multiplier, 1..3.
        bias_correction: biases, and weights not yet rounded, take back what rounding weights does on the samples.
        kernels: those that layers must have instead of the cheapest, as of `plan.parse_kernels`.
        optimize: what kernels are chosen for: "speed" (instructions), "size" (flash) or "balanced".
        streaming: whether layers run row by row: "auto" if whole tensors do not fit, "never" or "always".
        name: prefix of the C names; default: from the model file.
    """

    weights: str = "int8"
    activations: str = "int8"
    activation_method: str = "table"
    toolchain: str = "auto"
    no_multiply: bool = False
    csd_terms: int = 2
    bias_correction: bool = True
    kernels: str = ""
    optimize: str = "balanced"
    streaming: str = "auto"
    name: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """A model up to the point where the board begins to matter.

    Attributes:
        real: the simplified graph of reals.
        graph: the graph of integers, the reference.
        calibration: of the real graph.
        statistics: of the one against the other.
        origin: the model file's name.
        model_hash: SHA-256 of the model file, "" for a module in memory.
        kept_tables: layers that CORDIC was wanted for and does not cover.
    """

    real: Graph
    graph: Graph
    calibration: Calibration
    statistics: Statistics
    origin: str
    model_hash: str
    kept_tables: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """A model on a board: what it costs, whether it fits, where it is.

    Attributes:
        directory: the project, None if nothing was written.
        board: the target.
        graph: of integers: `graph.run(codes)` is the reference.
        real: of reals.
        layers: with kernels and estimated costs.
        arena: the plan of intermediate results.
        statistics: ranges, noise and weights of the layers.
        budget: totals against the board; estimates if not `built`.
        built: the totals are those of the built firmware.
        guessed_ranges: no samples were given.
        kept_tables: layers that CORDIC was wanted for and does not cover.
    """

    directory: Path | None
    board: Board
    graph: Graph
    real: Graph
    layers: tuple[PlannedLayer, ...]
    arena: Arena
    statistics: Statistics
    budget: Budget
    built: bool
    guessed_ranges: bool
    kept_tables: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the firmware fits the board."""
        return self.budget.fits

    def facts(self) -> dict[str, Any]:
        """Return everything as plain values: the JSON of `compile` and `analyze`."""
        totals = self.budget
        return {
            "model": self.graph.name,
            "target": self.board.name,
            "built": self.built,
            "fits": totals.fits,
            "shortfalls": list(totals.shortfalls),
            "flash_bytes": totals.flash_bytes,
            "flash_limit_bytes": totals.limits.flash_bytes,
            "ram_bytes": totals.ram_bytes,
            "ram_limit_bytes": totals.limits.ram_bytes,
            "arena_bytes": totals.arena_bytes,
            "arena_lower_bound_bytes": self.arena.lower_bound,
            "streams": [
                {
                    "first": self.layers[stream.first].layer.op.name,
                    "last": self.layers[stream.last].layer.op.name,
                    "rings_bytes": stream.bytes,
                }
                for stream in self.arena.streams
            ],
            "arena_peak_layer": self.arena.peak,
            "buffers": [{"tensor": name, **asdict(buffer)} for name, buffer in self.arena.buffers.items()],
            "stack_bytes": totals.stack_bytes,
            "guessed_ranges": self.guessed_ranges,
            "kept_tables": list(self.kept_tables),
            "layers": [
                _layer_facts(self.graph, planned, measured)
                for planned, measured in zip(self.layers, self.statistics.layers, strict=True)
            ],
            "loses_most": [layer.name for layer in self.statistics.worst],
            "statistics_samples": self.statistics.samples,
            "directory": None if self.directory is None else str(self.directory),
        }


def compile_model(
    model: Any,
    *,
    target: str | Board = "host",
    samples: Path | str | Array | None = None,
    output: Path | str | None = None,
    example_inputs: tuple[Any, ...] | None = None,
    progress: Progress = lambda _stage: None,
    **choices: Any,
) -> Compiled:
    """Compile a model to a firmware project for a board.

    Args:
        model: path of an .onnx or .pt2 file, or a torch module (then give example_inputs).
        target: a board's name or file.
        samples: calibration inputs, (n, *input shape): an array or the path of an .npy or .npz file.
        output: the project directory to write; None builds, measures and keeps nothing.
        example_inputs: for a torch module, as torch.export takes them.
        progress: told the name of each stage as it begins.
        **choices: of `Options`: weights, activations, no_multiply, streaming, ...


    Returns:
        The facts. If the firmware does not fit, nothing is written.

    Raises:
        UserError: the model, the samples or an option is wrong; nothing is written.
    """
    options = Options(**choices)
    board = target if isinstance(target, Board) else load_board(target)
    final = None if output is None else Path(output)
    # What can be refused without work is refused before any.
    compiler = find_compiler(board, options.toolchain)
    with scratch_directory(final) as scratch:
        quantized = _pooled(quantize_model(model, samples, options, example_inputs, progress), board, options)
        plans = tuple(_plans(quantized, board, options))
        _refuse_hopeless(plans[-1])
        built = plans[-1]
        for planned in [plan for plan in plans if plan.fits] or plans[-1:]:
            built = _emit_and_build(scratch, quantized, planned, options, progress)
            if built.budget.is_short_of_ram and not planned.arena.streams:
                streamed = _streamed(planned, options)
                if streamed.arena.streams:
                    built = _emit_and_build(scratch, quantized, streamed, options, progress)
            if built.fits:
                break
        if not built.fits or final is None:
            return built
        write_files(scratch, {FACTS_FILE: json.dumps(built.facts(), indent=1) + "\n"})
        manifest = _manifest(quantized, board, model_of(built, options), options, compiler_version(compiler), scratch)
        write_files(scratch, {MANIFEST: manifest})
        put_in_place(scratch, final)
    return replace(built, directory=final)


def analyze_model(
    model: Any,
    *,
    target: str | Board = "host",
    samples: Path | str | Array | None = None,
    example_inputs: tuple[Any, ...] | None = None,
    progress: Progress = lambda _stage: None,
    **choices: Any,
) -> Compiled:
    """Return the facts of a model on a board without building: totals are estimates. Arguments: compile_model."""
    options = Options(**choices)
    board = target if isinstance(target, Board) else load_board(target)
    quantized = _pooled(quantize_model(model, samples, options, example_inputs, progress), board, options)
    plans = tuple(_plans(quantized, board, options))
    return next((plan for plan in plans if plan.fits), plans[-1])


def quantize_model(
    model: Any,
    samples: Path | str | Array | None,
    options: Options,
    example_inputs: tuple[Any, ...] | None = None,
    progress: Progress = lambda _stage: None,
) -> Quantized:
    """Run the front half of the line: front-end, passes, calibration, quantization."""
    if options.streaming not in STREAMING:
        raise UserError("--streaming", f"is '{options.streaming}'", f"use {', '.join(STREAMING)}")
    if options.optimize not in OPTIMIZE:
        raise UserError("--optimize", f"is '{options.optimize}'", f"use {', '.join(OPTIMIZE)}")
    if not 1 <= options.csd_terms <= 3:
        raise UserError("--csd-terms", f"is {options.csd_terms}", "use 1, 2 or 3")
    progress("reading the model")
    graph, origin, model_hash = _load(model, example_inputs)
    if options.name is not None:
        if not options.name.isidentifier() or not options.name.isascii():
            raise UserError("--name", f"'{options.name}' is not a C identifier", "use letters, digits and underscores")
        graph = replace(graph, name=options.name)
    real = simplify(graph)
    progress("calibrating")
    array = load_array(samples) if isinstance(samples, (str, Path)) else samples
    where = str(samples) if isinstance(samples, (str, Path)) else "samples"
    calibration = calibrate(real, None if array is None else as_samples(np.asarray(array), real.input, where))
    progress("quantizing")
    by_cordic = parse_activation_methods(options.activation_method, real)
    integers = quantize(
        real,
        calibration,
        parse_weights(options.weights, real),
        options.csd_terms,
        activations=parse_activations(options.activations, real),
        by_cordic=by_cordic,
        corrects_rounding=options.bias_correction,
    )
    kept_tables = tuple(op.name for op in integers.layers if activation_method(op) == "table" and by_cordic.of(op.name))
    progress("measuring")
    measured = statistics.measure(real, integers, calibration.codes)
    return Quantized(real, integers, calibration, measured, origin, model_hash, kept_tables)


def _load(model: Any, example_inputs: tuple[Any, ...] | None) -> tuple[Graph, str, str]:
    if not isinstance(model, (str, Path)):
        # torch is an extra: only those who pass a module have it, and only they pay for importing it.
        from mcucompile.frontends.torch import load_module  # noqa: PLC0415

        if example_inputs is None:
            raise ModelError("compile_model", "got a module without example_inputs", "pass example_inputs=(tensor,)")
        return load_module(model, example_inputs, type(model).__name__.lower()), type(model).__name__, ""
    path = Path(model)
    if path.suffix == ".pt2":
        from mcucompile.frontends.torch import load_exported  # noqa: PLC0415

        graph = load_exported(path)
    else:
        graph = load_onnx(path)
    return graph, path.name, hashlib.sha256(path.read_bytes()).hexdigest()


def _pooled(quantized: Quantized, board: Board, options: Options) -> Quantized:
    """Return the model with pools inside convolutions where the board has a kernel for both that is faster.

    Layers that a kernel is asked for stay as they are.
    """
    kept = {part.rpartition("=")[0].strip() for part in options.kernels.split(",")}
    graph = pool_convolutions(quantized.graph, core_of(board, no_multiply=options.no_multiply), kept)
    measured = statistics.follow(quantized.statistics, quantized.graph, graph)
    return replace(quantized, graph=graph, statistics=measured)


def _plans(quantized: Quantized, board: Board, options: Options) -> Iterator[Compiled]:
    """Yield plans in the order in which they are wanted: whole, row by row; with smaller and the smallest kernels."""
    arena = plan_arena(quantized.graph)
    tried: list[list[Kernel]] = []
    # Flash is known when it is built: the second attempt is for estimates that were too low.
    for wanted, flash in ((options, 1.0), (options, 0.9), (replace(options, optimize="size"), 1.0)):
        whole = _plan(quantized, board, wanted, arena, flash)
        kernels = [planned.kernel for planned in whole.layers]
        if kernels in tried:
            continue
        tried.append(kernels)
        plans = [whole] if options.streaming != "always" else []
        if plans == [] or whole.budget.is_short_of_ram or wanted.optimize == "speed":
            streamed = _streamed(whole, options)
            if streamed is not whole or options.streaming == "always":
                plans.append(_plan(quantized, board, wanted, streamed.arena, flash))
        # Beside a smaller arena there is room for kernels that are faster and take more of the stack.
        yield from sorted(plans, key=_time) if not whole.budget.is_short_of_ram else plans


def _time(planned: Compiled) -> int:
    return sum(each.cost.time for each in planned.layers)


def _plan(quantized: Quantized, board: Board, options: Options, arena: Arena, flash: float) -> Compiled:
    """Choose kernels whose scratch the RAM has room for beside the arena, and that fit a share of the flash."""
    graph = quantized.graph
    core = core_of(board, no_multiply=options.no_multiply)
    limits = _limits(board)
    ram = limits.ram_bytes
    stack = ram - _static_ram(graph, arena) - _FIRMWARE_STACK - _streamed_stack(arena) if ram else None
    kernels = parse_kernels(options.kernels, graph)
    data = round(flash * limits.flash_bytes) - _code_bytes(graph) if limits.flash_bytes else None
    layers = select_kernels(graph, core, kernels, options.optimize, stack, data)
    return Compiled(
        directory=None,
        board=board,
        graph=graph,
        real=quantized.real,
        layers=layers,
        arena=arena,
        statistics=quantized.statistics,
        budget=_estimate(graph, layers, arena, board),
        built=False,
        guessed_ranges=quantized.calibration.guessed,
        kept_tables=quantized.kept_tables,
    )


def _streamed(compiled: Compiled, options: Options) -> Compiled:
    """Return the plan with layers running row by row, unless that is not wanted or saves nothing."""
    if options.streaming == "never":
        return compiled
    arena = plan_arena(compiled.graph, choose_streams(compiled.graph))
    if arena.bytes >= compiled.arena.bytes and options.streaming != "always":
        return compiled
    estimate = _estimate(compiled.graph, compiled.layers, arena, compiled.board)
    return replace(compiled, arena=arena, budget=estimate, built=False)


def _estimate(graph: Graph, layers: tuple[PlannedLayer, ...], arena: Arena, board: Board) -> Budget:
    data = sum(planned.cost.flash_bytes for planned in layers)
    flash = data + _code_bytes(graph)
    stack = _FIRMWARE_STACK + max(planned.cost.stack_bytes for planned in layers) + _streamed_stack(arena)
    return budget(graph, layers, arena, _limits(board), (flash, _static_ram(graph, arena), stack))


def _code_bytes(graph: Graph) -> int:
    return _LAYER_CODE * len(graph.layers) + _FIRMWARE_FLASH


def _static_ram(graph: Graph, arena: Arena) -> int:
    return arena.bytes + graph.input.bytes + graph.result.bytes + 4 * len(graph.layers) + _FIRMWARE_RAM


def _streamed_stack(arena: Arena) -> int:
    return _STREAMED_LAYER_STACK * max((stream.last - stream.first + 1 for stream in arena.streams), default=0)


def _limits(board: Board) -> Limits:
    return Limits(board.memory.flash_bytes, board.memory.ram_bytes)


def _refuse_hopeless(compiled: Compiled) -> None:
    """Refuse a model that no encoding can bring onto the board: even one bit a weight is too much."""
    limit = compiled.board.memory.flash_bytes
    weights = sum(weights.codes.size for op in compiled.graph.ops for weights in weights_of(op))
    if limit and weights > 8 * limit:
        raise ModelError(
            compiled.graph.source.file,
            f"has {weights:,} weights; {compiled.board.name} has {limit:,} bytes of flash, too few even at 1 bit each",
            "choose a larger board (mcucompile boards) or train a smaller network",
        )


def model_of(compiled: Compiled, options: Options) -> Model:
    """Return what the C files are made from. The digest covers the reference and the kernels."""
    digest = hashlib.sha256(reference.fingerprint(compiled.graph))
    digest.update(" ".join(planned.kernel.name for planned in compiled.layers).encode())
    digest.update(str(options.no_multiply).encode())
    return Model(compiled.graph, compiled.layers, compiled.arena, digest.digest()[:_HASH_BYTES], options.no_multiply)


def _project_files(quantized: Quantized, compiled: Compiled, model: Model) -> dict[str, str | bytes]:
    runtime = resource_dir("runtime_c")
    files: dict[str, str | bytes] = {**emit_model(model), **firmware_files(compiled.board)}
    files |= {f"include/{header}": (runtime / header).read_text(encoding="utf-8") for header in headers(model)}
    build = compiled.board.build
    if build.platformio_board:
        context = {"board": compiled.board, "model": compiled.graph.name, "no_multiply": model.no_multiply}
        files["platformio.ini"] = render("platformio.ini.j2", context)
    files[BOARD_FILE] = json.dumps(board_facts(compiled.board), indent=1) + "\n"
    files[reference.SAMPLES_FILE] = reference.store_samples(
        quantized.calibration.codes[:_KEPT_SAMPLES], compiled.graph.input.stored
    )
    return files


def _emit_and_build(
    directory: Path, quantized: Quantized, planned: Compiled, options: Options, progress: Progress
) -> Compiled:
    progress("emitting C")
    files = reference.store(planned.graph) | _project_files(quantized, planned, model_of(planned, options))
    write_files(directory, files)
    progress(f"building for {planned.board.name}")
    return _build(directory, planned, options)


def _build(directory: Path, planned: Compiled, options: Options) -> Compiled:
    """Build and measure, then build again with the stack that the first build turned out to need."""
    board = planned.board
    if board.is_host:
        build_firmware(directory, board, toolchain=options.toolchain)
        return replace(planned, budget=replace(planned.budget, stack_bytes=0), built=True)
    elf = build_firmware(
        directory, board, toolchain=options.toolchain, no_multiply=options.no_multiply, enforce_limits=False
    )
    facts = inspect_elf(elf, board.core)
    prove(facts, elf, no_multiply=options.no_multiply)
    if facts.stack_bytes is None:
        raise TypeError("the stack of a firmware is always computed")
    sizes = (facts.flash_bytes, facts.ram_bytes, facts.stack_bytes)
    totals = budget(planned.graph, planned.layers, planned.arena, _limits(board), sizes)
    built = replace(planned, budget=totals, built=True)
    if built.fits:
        (directory / "link.ld").write_text(linker_script(board, facts.stack_bytes), encoding="utf-8")
        elf = build_firmware(directory, board, toolchain=options.toolchain, no_multiply=options.no_multiply)
        prove(inspect_elf(elf, board.core), elf, no_multiply=options.no_multiply)
    return built


def _manifest(
    quantized: Quantized, board: Board, model: Model, options: Options, compiler: str, directory: Path
) -> str:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    content = {
        "mcucompile": version("mcucompile"),
        "compiler": compiler,
        "model": {"file": quantized.origin, "sha256": quantized.model_hash, "name": model.graph.name},
        "board": board.name,
        "options": {
            "weights": options.weights,
            "activations": options.activations,
            "activation_method": options.activation_method,
            "no_multiply": options.no_multiply,
            "csd_terms": options.csd_terms,
            "bias_correction": options.bias_correction,
            "kernels": options.kernels,
            "optimize": options.optimize,
            "streaming": options.streaming,
            "guessed_ranges": quantized.calibration.guessed,
        },
        "kernels": [planned.kernel.name for planned in model.layers],
        "digest": model.digest.hex(),
        "files": {
            path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
        },
    }
    return json.dumps(content, indent=1) + "\n"


def _layer_facts(graph: Graph, planned: PlannedLayer, measured: LayerStatistics) -> dict[str, Any]:
    op = planned.layer.op
    facts: dict[str, Any] = {
        "name": op.name,
        "op": op.kind,
        "source": str(op.source),
        "kernel": planned.kernel.name,
        "ops": op.operations(*planned.layer.shapes),
        "output_shape": list(planned.layer.output_shape),
        "output_format": str(planned.layer.output_format),
        "output_bytes": graph.tensors[op.output].bytes,
        "flash_bytes": planned.cost.flash_bytes,
        "estimated_instructions": planned.cost.instructions,
    }
    if activation_method(op) is not None:
        facts["activation_method"] = activation_method(op)
    for weights in weights_of(op)[:1]:
        facts |= {"weights": weights.encoding, "weights_chosen": weights.parameters}
    if isinstance(op, IntegerDense | IntegerConv):
        facts["similarity"] = op.similarity
    return facts | {
        "range": [measured.minimum, measured.maximum],
        "sqnr_db": measured.sqnr_db,
        "own_sqnr_db": measured.own_sqnr_db,
        "drop_db": measured.drop_db,
        "weight_statistics": [asdict(weights) for weights in measured.weights],
    }
