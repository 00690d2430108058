"""The arena plan against brute force, and the budget's sentences."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from graphs import GRAPHS, SOURCE, affine, dense
from graphs_convolution import conv
from hypothesis import given, settings
from hypothesis import strategies as st
from mcucompile.calibrate import calibrate
from mcucompile.ir import Format, Graph, Op, Tensor, build_graph
from mcucompile.kernels import KERNELS, Core, Cost
from mcucompile.ops import Add, Relu, Reshape
from mcucompile.ops.window import Window
from mcucompile.passes import simplify
from mcucompile.plan import Limits, budget, plan_arena, select_kernels
from mcucompile.plan.stream import can_stream
from mcucompile.quantize import parse_weights, quantize

BYTE = Format(8, False)


def _chain(sizes: list[int], skips: list[int]) -> Graph:
    """Return element-wise layers over vectors; layer i also adds what was made skips[i] layers before, if equal."""
    ops = []
    names = ["x"]
    for i, _ in enumerate(sizes):
        back = names[max(len(names) - 1 - skips[i], 0)]
        name = f"t{i}"
        if skips[i] and back != names[-1]:
            ops.append(Add(name=name, inputs=(names[-1], back), output=name, source=SOURCE))
        else:
            ops.append(Relu(name=name, inputs=(names[-1],), output=name, source=SOURCE))
        names.append(name)
    built = build_graph("n", (Tensor("x", (4,), BYTE),), (names[-1],), tuple(ops), SOURCE)
    # The planner reads sizes only: give every tensor its own.
    shapes = dict(zip(names, [4, *sizes], strict=True))
    tensors = {name: Tensor(name, (shapes[name],), BYTE) for name in built.tensors}
    return Graph("n", built.inputs, built.outputs, tensors, built.ops, SOURCE)


def _clobbered(graph: Graph) -> list[tuple[str, str]]:
    """Run the plan over a memory of tags: (layer, tensor) wherever a layer reads a byte that is not its input's."""
    arena = plan_arena(graph)
    memory: dict[int, tuple[str, int]] = {}
    wrong = []

    def place(tensor: str) -> int | None:
        owner = arena.owner[tensor]
        return arena.buffers[owner].offset if owner in arena.buffers else None

    for op in graph.layers:
        target = graph.tensors[op.output]
        elements = op.is_elementwise
        access = None if elements else op.row_access(*graph.shapes_of(op))
        rows = target.size if elements else access.rows if access else 1
        for row in range(rows):
            for name in op.inputs:
                start = place(name)
                size = graph.tensors[name].bytes
                step = size // (rows if elements else access.input_rows if access else 1)
                first, last = (row, row) if access is None else (access.first(row), access.last(row))
                for byte in range(first * step, (last + 1) * step):
                    if start is not None and memory.get(start + byte) != (arena.owner[name], byte):
                        wrong.append((op.name, name))
            written = target.bytes // rows
            start = place(op.output)
            for byte in range(row * written, (row + 1) * written):
                if start is not None:
                    memory[start + byte] = (arena.owner[op.output], byte)
    return wrong


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=7))
def test_nothing_is_overwritten_before_it_is_read(layers: list[tuple[int, int]]) -> None:
    graph = _chain([size for size, _ in layers], [skip for _, skip in layers])
    arena = plan_arena(graph)
    assert _clobbered(graph) == []
    assert arena.bytes >= arena.lower_bound
    assert all(buffer.offset % 4 == 0 for buffer in arena.buffers.values())
    # Independent lifetimes: a buffer lives from the layer that writes it to the last that reads it.
    for i, op in enumerate(graph.ops):
        alive = {op.output, *op.inputs} - {"x", graph.outputs[0]}
        for name in alive:
            assert arena.buffers[name].first <= i <= arena.buffers[name].last


_WINDOWS = st.builds(
    lambda size, stride, dilation, before, after: Window(
        (size, 3), (stride, 1), (dilation, 1), (before, 1), (after, 1)
    ),
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.integers(0, 3), st.integers(0, 3),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(_WINDOWS, st.integers(1, 5), st.booleans()), min_size=2, max_size=5))
def test_convolutions_over_their_inputs_overwrite_nothing_needed(layers: list[tuple[Window, int, bool]]) -> None:
    random = np.random.default_rng(0)
    ops: list[Op] = []
    height, channels, last = 14, 2, "x"
    for i, (window, n_out, adds) in enumerate(layers):
        ops.append(conv(random, last, f"c{i}", channels, n_out, window))
        reach = (window.size[0] - 1) * window.dilations[0] + 1
        height = (height + window.before[0] + window.after[0] - reach) // window.strides[0] + 1
        if height < 1:
            return
        last = f"c{i}"
        if adds:
            ops += [
                Relu(name=f"r{i}", inputs=(last,), output=f"r{i}", source=SOURCE),
                Add(name=f"s{i}", inputs=(f"r{i}", last), output=f"s{i}", source=SOURCE),
            ]
            last = f"s{i}"
        channels = n_out
    real = build_graph("n", (Tensor("x", (1, 14, 4, 2)),), (last,), tuple(ops), SOURCE)
    integers = quantize(real, calibrate(real, None), parse_weights("int8", real), 2)
    arena = plan_arena(integers)
    assert _clobbered(integers) == []
    assert arena.lower_bound <= arena.bytes


def test_a_residual_block_takes_two_images_and_two_rows() -> None:
    """The second convolution writes over its input, the sum over either: by hand 2 * 8 * 8 * 4 + 2 * 8 * 4."""
    random = np.random.default_rng(0)
    same = Window((3, 3), before=(1, 1), after=(1, 1))
    shape = (1, 8, 8, 4)
    ops = (
        conv(random, "x", "a", 4, 4, same),
        conv(random, "a", "b", 4, 4, same),
        conv(random, "b", "c", 4, 4, same),
        Add(name="s", inputs=("c", "a"), output="s", source=SOURCE),
        conv(random, "s", "y", 4, 4, same),
    )
    real = build_graph("n", (Tensor("x", shape),), ("y",), ops, SOURCE)
    arena = plan_arena(quantize(real, calibrate(real, None), parse_weights("int8", real), 2))
    assert arena.bytes == arena.lower_bound == 2 * 8 * 8 * 4 + 2 * 8 * 4


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 16), st.integers(0, 2)), min_size=2, max_size=5))
def test_small_plans_are_near_the_best_of_all_orders(layers: list[tuple[int, int]]) -> None:
    """Brute force: first fit over every order of buffers, without overlaps, is no better than the plan."""
    graph = _chain([size for size, _ in layers], [skip for _, skip in layers])
    arena = plan_arena(graph)
    lives = [(b.first, b.last, b.size) for b in arena.buffers.values()]

    def first_fit(order: tuple[tuple[int, int, int], ...]) -> int:
        placed: list[tuple[int, int, int, int]] = []
        for first, last, size in order:
            offset = 0
            for other_offset, other_first, other_last, other_size in sorted(placed):
                if other_first <= last and first <= other_last and offset < other_offset + other_size:
                    if offset + size <= other_offset:
                        break
                    offset = other_offset + other_size
            placed.append((offset, first, last, size))
        return max((offset + size for offset, _, _, size in placed), default=0)

    best = min((first_fit(order) for order in itertools.permutations(lives)), default=0)
    assert arena.lower_bound <= arena.bytes <= best


def _quantized(name: str) -> Graph:
    random = np.random.default_rng(3)
    real = simplify(GRAPHS[name](random))
    return quantize(real, calibrate(real, None), parse_weights("int8", real), 2)


def test_views_share_bytes_and_the_callers_keep_theirs() -> None:
    random = np.random.default_rng(3)
    ops = (
        affine(random, "x", "t", 4, 1),
        Reshape(name="f", inputs=("t",), output="f", source=SOURCE, shape=(1, 24)),
        dense(random, "f", "y", 24, 5),
    )
    real = simplify(build_graph("n", (Tensor("x", (1, 4, 6)),), ("y",), ops, SOURCE))
    arena = plan_arena(quantize(real, calibrate(real, None), parse_weights("int8", real), 2))
    assert arena.owner["f"] == "t"
    assert set(arena.buffers) == {"t"}
    assert arena.bytes == 24


@pytest.mark.parametrize(("flash", "ram", "words"), [
    (100, 10_000, "short by 900 bytes of flash (needs 1,000 of 100) because layer 'a' needs"),
    (10_000, 64, "short by 436 bytes of RAM (needs 500 of 64) because layer 'a' takes the stack to 100"),
])  # fmt: skip
def test_a_shortfall_says_how_much_and_why(flash: int, ram: int, words: str) -> None:
    graph = _quantized("dense_relu_dense")
    layers = select_kernels(graph, Core(has_multiplier=False))
    totals = budget(graph, layers, plan_arena(graph), Limits(flash, ram), (1000, 400, 100))
    assert not totals.fits
    assert totals.shortfalls[0].startswith(words)


@pytest.mark.parametrize("has_multiplier", [True, False])
def test_the_cheapest_kernel_that_applies_is_taken(has_multiplier: bool) -> None:
    graph = _quantized("dense_relu_dense")
    core = Core(has_multiplier)
    prices: dict[str, Callable[[Cost], int]] = {
        "speed": lambda cost: cost.instructions,
        "size": lambda cost: cost.flash_bytes + cost.stack_bytes,
        "balanced": lambda cost: cost.instructions * (cost.flash_bytes + 2048),
    }
    chosen = {}
    for optimize, price in prices.items():
        for planned in select_kernels(graph, core, optimize=optimize):
            kernels = [k for k in KERNELS if k.kind == "dense" and not k.refusal(planned.layer, core)]
            assert len(kernels) >= 2
            assert price(planned.cost) == min(price(kernel.cost(planned.layer, core)) for kernel in kernels)
            chosen[optimize] = planned.kernel.name
    assert chosen["speed"] == "row code"
    assert chosen["size"] != "row code"


def test_planes_are_read_whole() -> None:
    """Their rows are not together: an output over the rows that were read would be over other planes."""
    random = np.random.default_rng(5)
    ops = (
        Relu(name="r", inputs=("x",), output="r", source=SOURCE),
        conv(random, "r", "c", 3, 4, Window((3, 3), before=(1, 1), after=(1, 1)), planar=True),
        Relu(name="y", inputs=("c",), output="y", source=SOURCE),
    )
    real = build_graph("n", (Tensor("x", (1, 3, 6, 5)),), ("y",), ops, SOURCE)
    graph = quantize(real, calibrate(real, None), parse_weights("int8", real), 2)
    read, written = (plan_arena(graph).buffers[name] for name in ("r", "c"))
    assert read.offset + read.size <= written.offset or written.offset + written.size <= read.offset
    assert not can_stream(graph, 0, 1)
    assert can_stream(graph, 1, 2)


def test_kernels_fit_the_flash_and_lose_little_time() -> None:
    """Against every combination of kernels: at most the least flash, or what is asked for; near the least time."""
    graph = _quantized("dense_relu_dense")
    core = Core(has_multiplier=False)
    fastest = select_kernels(graph, core, optimize="speed")
    candidates = [
        [
            kernel.cost(planned.layer, core)
            for kernel in KERNELS
            if kernel.kind == "dense" and not kernel.refusal(planned.layer, core)
        ]
        for planned in fastest
    ]
    combinations = [
        (sum(c.flash_bytes for c in each), sum(c.time for c in each)) for each in itertools.product(*candidates)
    ]
    least = min(flash for flash, _ in combinations)
    most = sum(planned.cost.flash_bytes for planned in fastest)
    assert least < most
    times = []
    for room in range(least - 1, most + 1):
        planned = select_kernels(graph, core, optimize="speed", flash_bytes=room)
        assert sum(each.cost.flash_bytes for each in planned) <= max(room, least)
        times.append(sum(each.cost.time for each in planned))
        assert times[-1] <= 1.1 * min(time for flash, time in combinations if flash <= max(room, least))
    assert times[-1] == sum(planned.cost.time for planned in fastest) < times[0]
