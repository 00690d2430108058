"""Every operator and weight encoding on every board's emulator: the firmware equals the reference, layer by layer.

This is what `mcucompile verify` does, over the same link; counts and proofs included.
"""

import itertools
from pathlib import Path

import numpy as np
import pytest
from graphs import GRAPHS
from graphs_convolution import residual
from kernel_cases import quantized
from mcucompile.bench import bench_project
from mcucompile.calibrate import calibrate
from mcucompile.driver import compile_model
from mcucompile.emit import Model, layer_names
from mcucompile.encodings import ENCODINGS
from mcucompile.ir import Graph
from mcucompile.kernels import Core
from mcucompile.measure import build_planned, roomy_board
from mcucompile.ops import activation_method
from mcucompile.passes import simplify
from mcucompile.plan import choose_streams, plan_arena, select_kernels
from mcucompile.project import devices, load_project
from mcucompile.quantize import parse_weights, quantize
from mcucompile.targets.boards import Board, list_boards
from mcucompile.targets.elf import inspect_elf, prove
from mcucompile.targets.unicorn_emulator import open_unicorn
from mcucompile.verify import verify_devices
from merged_graphs import merged

DIGITS = Path(__file__).resolve().parent.parent / "examples" / "digits"
MODEL = DIGITS / "models" / "four_view_64_16_10.onnx"
BOARDS = {board.name: board for board in list_boards() if not board.is_host}
# One board of each core; the others differ in their memories only.
CORES = {board.core: board for board in reversed(BOARDS.values())}
EMULATED = 20
# What the firmware and kernels without scratch take.
FIRMWARE_RAM_BYTES = 900
ROOMY_FLASH_BYTES = 1 << 15


def _covering() -> tuple[str, ...]:
    """Return few graphs that together have every operator; tests/test_parity.py has all of them on the host."""
    kinds = {name: {op.kind for op in simplify(make(np.random.default_rng(7))).layers} for name, make in GRAPHS.items()}
    chosen: list[str] = []
    missing = set().union(*kinds.values())
    while missing:
        chosen.append(max(kinds, key=lambda name: len(kinds[name] & missing)))
        missing -= kinds[chosen[-1]]
    return tuple(chosen)


# One of each kind of operator, and the terms that no other graph has.
COVERING = (*_covering(), "similar_conv_adder", "similar_conv_minconv", "similar_conv_euclid", "similar_conv_trig")


def test_the_boards_are_all_there() -> None:
    assert set(BOARDS) == {"hifive1", "hifive1-revb", "microbit", "nucleo-f401re", "ch32v003"}
    assert len(CORES) == 4
    assert len(COVERING) >= 17


def _firmware(graph: Graph, board: Board, directory: Path) -> Path:
    """Build a test graph's firmware row by row, without a multiply, and prove that: the fastest kernels that fit."""
    arena = plan_arena(graph, choose_streams(graph))
    assert arena.streams
    memory = board.memory
    tensors = arena.bytes + graph.input.bytes + graph.result.bytes
    room = max(memory.ram_bytes - tensors - FIRMWARE_RAM_BYTES, 0) // 2
    optimize = "size" if memory.flash_bytes < ROOMY_FLASH_BYTES else "speed"
    planned = select_kernels(graph, Core(has_multiplier=False, name=board.core), None, optimize, room)
    model = Model(graph, planned, arena, bytes(range(16)), no_multiply=True)
    elf = build_planned(model, board, directory)
    prove(inspect_elf(elf, board.core), elf, no_multiply=True)
    return elf


def _verify(graph: Graph, board: Board, elf: Path) -> None:
    """Compare the firmware's answers with the reference: extreme and random inputs."""
    random = np.random.default_rng(8)
    source = graph.input.stored
    ends = [np.full((1, *graph.input.shape), code) for code in (source.minimum, source.maximum)]
    codes = np.concatenate([*ends, random.integers(source.minimum, source.maximum + 1, (12, *graph.input.shape))])
    names = layer_names(graph)
    result = verify_devices(
        graph,
        codes,
        [("unicorn", lambda: open_unicorn(elf, board, no_multiply=True, layers=names))],
        model_hash=bytes(range(16)),
    )
    assert result.ok, result.first
    assert len(result.layers) == len(graph.layers) >= 1


@pytest.mark.parametrize("core", CORES)
def test_every_operator_on_every_core(core: str, tmp_path: Path) -> None:
    """All in one firmware: with activations of 8 bits and of 16, functions by table and by CORDIC."""
    graphs = [quantized(name, "int8") for name in COVERING]
    wide = ("conv_same", "residual", "dense_softmax", "multiply", "average_pool")
    graphs += [quantized(name, "int8", bits=16) for name in wide]
    assert all(any(tensor.stored.bits == 16 for tensor in graph.tensors.values()) for graph in graphs[-len(wide) :])
    graphs += [quantized("lookup_functions", "int8", bits=bits, by_cordic=True) for bits in (8, 16)]
    assert [activation_method(op) for graph in graphs[-2:] for op in graph.layers].count("cordic") == 12
    graph, board = merged(graphs), roomy_board(CORES[core])
    planned = select_kernels(graph, Core(has_multiplier=False, name=core), None, "speed")
    model = Model(graph, planned, plan_arena(graph), bytes(range(16)), no_multiply=True)
    elf = build_planned(model, board, tmp_path)
    prove(inspect_elf(elf, core), elf, no_multiply=True)
    _verify(graph, board, elf)


@pytest.mark.parametrize("core", CORES)
def test_layers_row_by_row_on_every_core(core: str, tmp_path: Path) -> None:
    real = simplify(residual(size=8, mean=4))
    graph = quantize(real, calibrate(real, None), parse_weights("int8", real), 2)
    _verify(graph, CORES[core], _firmware(graph, CORES[core], tmp_path))


# Each board with two encodings, and each other encoding on one of them; tests/test_kernel_trust.py has more.
ON_BOARDS = {
    *((board, weights) for board in BOARDS for weights in ("int8", "dlq4")),
    *zip(itertools.cycle(BOARDS), ENCODINGS),
}


@pytest.mark.parametrize(("board", "weights"), sorted(ON_BOARDS))
def test_every_encoding_on_every_board_without_multiply(board: str, weights: str, tmp_path: Path) -> None:
    compiled = compile_model(
        MODEL,
        target=board,
        samples=DIGITS / "calibration.npy",
        weights=weights,
        no_multiply=True,
        output=tmp_path / "project",
    )
    assert compiled.fits, compiled.budget.shortfalls
    project = load_project(tmp_path / "project")
    images = np.load(DIGITS / "test_images.npy")[:EMULATED].reshape(-1, 1, 28, 28).astype(np.int64)
    labels = np.load(DIGITS / "test_labels.npy")[:EMULATED]
    result = verify_devices(
        project.graph, images, devices(project, "unicorn"), model_hash=project.digest, labels=labels
    )
    assert result.ok, result.first
    assert len(result.layers) == 3
    assert result.accuracy is not None
    assert result.accuracy > 0.85


@pytest.mark.parametrize(("toolchain", "no_multiply"), [("gcc", True), ("zig", False)])
@pytest.mark.parametrize("board", BOARDS)
def test_both_emulators_give_the_same_bits_and_counts(
    board: str, no_multiply: bool, toolchain: str, tmp_path: Path
) -> None:
    compiled = compile_model(
        MODEL,
        target=board,
        samples=DIGITS / "calibration.npy",
        weights="dlq4",
        no_multiply=no_multiply,
        toolchain=toolchain,
        output=tmp_path / "project",
    )
    assert compiled.fits, compiled.budget.shortfalls
    project = load_project(tmp_path / "project")
    emulators = ["unicorn"] if project.board.qemu is None else ["unicorn", "qemu"]
    assert len(emulators) == 1 + (board != "ch32v003")
    images = np.load(DIGITS / "test_images.npy")[:6].reshape(-1, 1, 28, 28).astype(np.int64)
    opened = [device for emulator in emulators for device in devices(project, emulator)]
    assert verify_devices(project.graph, images, opened, model_hash=project.digest).ok
    counts = [bench_project(project, emulator, images) for emulator in emulators]
    assert len({(c.instructions, c.least, c.most, c.layers) for c in counts}) == 1
    assert counts[0].instructions > sum(layer.ops for layer in counts[0].layers)
