"""The arena plan against brute force, and the budget's sentences."""

import itertools

import numpy as np
import pytest
from graphs import GRAPHS
from hypothesis import given, settings
from hypothesis import strategies as st
from mcucompile.calibrate import calibrate
from mcucompile.ir import Format, Graph, Tensor, build_graph
from mcucompile.kernels import KERNELS, Core
from mcucompile.ops import Add, Relu
from mcucompile.passes import simplify
from mcucompile.plan import Limits, budget, plan_arena, select_kernels
from mcucompile.quantize import parse_weights, quantize

BYTE = Format(8, False)


def _chain(sizes: list[int], skips: list[int]) -> Graph:
    """Return element-wise layers over vectors; layer i also adds what was made skips[i] layers before, if equal."""
    from graphs import SOURCE  # noqa: PLC0415

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


def _overlaps(graph: Graph) -> list[tuple[str, str]]:
    arena = plan_arena(graph)
    return [
        (a, b)
        for (a, left), (b, right) in itertools.combinations(arena.buffers.items(), 2)
        if left.first <= right.last
        and right.first <= left.last
        and left.offset < right.offset + right.size
        and right.offset < left.offset + left.size
    ]


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=7))
def test_buffers_alive_together_never_overlap(layers: list[tuple[int, int]]) -> None:
    graph = _chain([size for size, _ in layers], [skip for _, skip in layers])
    arena = plan_arena(graph)
    assert _overlaps(graph) == []
    assert arena.bytes >= arena.lower_bound
    assert all(buffer.offset % 4 == 0 for buffer in arena.buffers.values())
    # Independent lifetimes: a buffer lives from the layer that writes it to the last that reads it.
    for i, op in enumerate(graph.ops):
        alive = {op.output, *op.inputs} - {"x", graph.outputs[0]}
        for name in alive:
            assert arena.buffers[name].first <= i <= arena.buffers[name].last


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 16), st.integers(0, 2)), min_size=2, max_size=5))
def test_small_plans_are_near_the_best_of_all_orders(layers: list[tuple[int, int]]) -> None:
    """Brute force: first fit over every order of buffers gives an optimal plan for so few."""
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
    assert arena.lower_bound <= best <= arena.bytes <= max(best * 1.34, best)


def _quantized(name: str) -> Graph:
    random = np.random.default_rng(3)
    real = simplify(GRAPHS[name](random))
    return quantize(real, calibrate(real, None), parse_weights("int8", real), 2)


def test_views_share_bytes_and_the_callers_keep_theirs() -> None:
    graph = _quantized("transpose")
    arena = plan_arena(graph)
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


def test_the_cheapest_kernel_that_applies_is_taken() -> None:
    graph = _quantized("dense_relu_dense")
    with_multiplier = select_kernels(graph, Core(has_multiplier=True))
    without = select_kernels(graph, Core(has_multiplier=False))
    assert {planned.kernel.name for planned in with_multiplier} == {"multiply"}
    assert {planned.kernel.name for planned in without} == {"quarter square"}
    for planned in (*with_multiplier, *without):
        core = Core(has_multiplier=planned in with_multiplier)
        costs = [
            k.cost(planned.layer).instructions
            for k in KERNELS
            if k.kind == "dense" and not k.refusal(planned.layer, core)
        ]
        assert planned.cost.instructions == min(costs)
