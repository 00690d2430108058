"""Integer graphs of one layer, and their firmware on a board's emulator, for tests of kernels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from mcucompile.calibrate import calibrate
from mcucompile.emit import Model, emit_model, headers, layer_names
from mcucompile.ir import Array, Graph, Source, Tensor, build_graph
from mcucompile.kernels import Core
from mcucompile.ops import Conv, Dense
from mcucompile.ops.window import Window
from mcucompile.plan import plan_arena, select_kernels
from mcucompile.quantize import parse_weights, quantize
from mcucompile.resources import resource_dir
from mcucompile.targets.boards import Board
from mcucompile.targets.elf import inspect_elf, prove
from mcucompile.targets.firmware import firmware_files
from mcucompile.targets.toolchain import build_firmware
from mcucompile.targets.unicorn_emulator import open_unicorn

SOURCE = Source("model.onnx", "layer", "Layer")


def layer_graph(
    weight: Array,
    weights: str,
    *,
    similarity: str = "dot",
    signed: bool = False,
    rows: int = 1,
    image: tuple[int, int] | None = None,
    window: Window | None = None,
    groups: int = 1,
    name: str = "net",
) -> Graph:
    """Return an integer graph of one layer of 8-bit inputs.

    Args:
        weight: real, (n_out, n_in), or with `window` (n_out, kernel rows, kernel columns, channels of a group).
        weights: encoding.
        similarity: name in the similarity table.
        signed: inputs are -128..127 instead of 0..255.
        rows: of a dense layer's input.
        image: height and width of a convolution's input.
        window, groups: of a convolution.
        name: of the graph.
    """
    random = np.random.default_rng(17)
    bias = random.normal(0, 1, len(weight)).astype(np.float32)
    fields = {"name": "y", "inputs": ("x",), "output": "y", "source": SOURCE, "bias": bias, "similarity": similarity}
    op: Conv | Dense
    if window is None or image is None:
        size: tuple[int, ...] = (rows, weight.shape[1])
        op = Dense(weight=weight.astype(np.float32), **fields)  # type: ignore[arg-type]
    else:
        size = (1, *image, weight.shape[3] * groups)
        op = Conv(weight=weight.astype(np.float32), window=window, groups=groups, **fields)  # type: ignore[arg-type]
    real = build_graph(name, (Tensor("x", size),), ("y",), (op,), SOURCE)
    samples = random.uniform(-1 if signed else 0, 1, (6, *size)).astype(np.float32)
    graph = quantize(real, calibrate(real, samples), parse_weights(weights, real), 2)
    assert graph.input.stored.signed == signed
    return graph


def edge_codes(graph: Graph, count: int) -> Array:
    """Return inputs of one value each, 0, the ends and +-1 of them, and random ones."""
    source = graph.input.stored
    ends = sorted({source.minimum, source.minimum + 1, 0, 1, 127, source.maximum - 1, source.maximum})
    constant = [np.full((1, *graph.input.shape), code) for code in ends]
    random = np.random.default_rng(18)
    return np.concatenate([*constant, random.integers(source.minimum, source.maximum + 1, (count, *graph.input.shape))])


def model_of(graph: Graph, core: Core, kernel: str) -> Model:
    """Plan a graph whose one layer has a kernel."""
    planned = select_kernels(graph, core, {"y": kernel})
    assert planned[-1].kernel.name == kernel
    return Model(graph, planned, plan_arena(graph), bytes(16), not core.has_multiplier)


def run_emulated(model: Model, board: Board, toolchain: str, codes: Array, directory: Path) -> tuple[Array, float]:
    """Return the results of a firmware, once proven, and how many instructions an inference of its last layer takes."""
    graph = model.graph
    runtime = resource_dir("runtime_c")
    files = {**emit_model(model), **firmware_files(board, 1 << 15)}
    files |= {f"include/{header}": (runtime / header).read_text() for header in headers(model)}
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    elf = build_firmware(directory, board, toolchain=toolchain, no_multiply=model.no_multiply, observe_layers=False)
    prove(inspect_elf(elf, board.core), elf, no_multiply=model.no_multiply)
    found, counts = [], []
    with open_unicorn(elf, board, no_multiply=model.no_multiply, layers=layer_names(graph), time_limit_s=60) as link:
        for code in codes:
            done = link.infer(code.astype(graph.input.stored.dtype).tobytes(), digests=False)
            found.append(np.frombuffer(done.output, graph.result.stored.dtype))
            counts.append(link.counts().layers[-1])
    return np.stack(found).reshape(len(codes), *graph.result.shape).astype(np.int64), sum(counts) / len(counts)


def large(board: Board) -> Board:
    """Return a board whose memories take any layer here."""
    return replace(board, memory=replace(board.memory, ram_bytes=1 << 18, flash_bytes=1 << 19))
