"""Layers that run row by row: the same bits, rings no smaller than windows need, orders that never wait for ever."""

from pathlib import Path

import numpy as np
import pytest
from graphs import SOURCE
from graphs_convolution import CONVOLUTIONS, SAME, add, conv, residual
from host_model import SANITIZERS, build_model, plan_model, run_model
from hypothesis import given, settings
from hypothesis import strategies as st
from mcucompile.calibrate import calibrate
from mcucompile.driver import analyze_model
from mcucompile.ir import Graph, Op, Tensor, build_graph
from mcucompile.ops import MaxPool, Relu
from mcucompile.ops.window import Window
from mcucompile.passes import simplify
from mcucompile.plan import choose_streams, plan_arena
from mcucompile.plan.stream import Stream, plan_stream
from mcucompile.quantize import parse_weights, quantize


def _integers(real: Graph) -> Graph:
    samples = np.random.default_rng(5).random((20, *real.input.shape))
    return quantize(real, calibrate(real, samples), parse_weights("int8", real), 2)


def _check(graph: Graph, directory: Path, *, has_multiplier: bool = True) -> None:
    model = plan_model(graph, has_multiplier=has_multiplier, streamed=True)
    codes = np.random.default_rng(7).integers(0, 256, (20, *graph.input.shape))
    program = build_model(model, directory, flags=("-O1", *SANITIZERS))
    assert np.array_equal(run_model(program, graph, codes), graph.run(codes))


@pytest.mark.parametrize("has_multiplier", [True, False])
@pytest.mark.parametrize("mean", [8, 4, 1])
def test_a_residual_network_gives_the_same_bits(mean: int, has_multiplier: bool, tmp_path: Path) -> None:
    graph = _integers(residual(mean=mean))
    whole, streams = plan_arena(graph), choose_streams(graph)
    assert plan_arena(graph, streams).bytes < whole.bytes * 0.7
    _check(graph, tmp_path, has_multiplier=has_multiplier)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_every_convolution_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    """Followed by layers with windows and without, so that it is never alone."""
    real = CONVOLUTIONS[name](np.random.default_rng(3))
    n, height, width, channels = real.result.shape
    ops = (
        *real.ops,
        Relu(name="relu", inputs=("y",), output="relu", source=SOURCE),
        MaxPool(name="pool", inputs=("relu",), output="pool", source=SOURCE, window=Window((1, 1))),
        conv(np.random.default_rng(4), "pool", "z", channels, 3, SAME),
    )
    assert (n, height, width) == real.result.shape[:3]
    graph = simplify(build_graph("net", (real.input,), ("z",), ops, SOURCE))
    _check(_integers(graph), tmp_path)


def test_rings_are_as_counted_by_hand() -> None:
    """A 3x3 window holds 3 rows; the sum lies in the ring of its own input; a pointwise layer needs one row."""
    graph = _integers(residual())
    stream = plan_stream(graph, 0, 8)
    assert stream is not None
    assert {name: ring.rows for name, ring in stream.rings.items()} == {
        "a": 3, "b": 3, "d": 3, "f": 3, "g": 1, "h": 1, "m.sums": 1,
    }  # fmt: skip
    assert stream.shared == {"c": "d", "e": "h"}
    # Every row once; the mean takes one row of its input at a step.
    assert np.bincount(stream.order).tolist() == [16, 16, 16, 16, 8, 8, 8, 8, 8]


def _rerun(graph: Graph, stream: Stream) -> None:
    """Follow the order with tagged rows: every row that a layer needs is in its slot when it needs it."""
    slots: dict[str, dict[int, tuple[str, int]]] = {}
    made = dict.fromkeys(range(len(graph.layers)), 0)

    def ring(name: str) -> str:
        while name in stream.shared:
            name = stream.shared[name]
        return name

    for step in stream.order:
        op = graph.layers[stream.first + step]
        access = op.row_access(*graph.shapes_of(op))
        assert access is not None
        row = made[step]
        sums = access.state_bytes > 0
        first, last = (row, row) if sums else (access.first(row), access.last(row))
        for name in op.inputs:
            if ring(name) in stream.rings:
                rows = stream.rings[ring(name)].rows
                for needed in range(first, last + 1):
                    assert slots[ring(name)][needed % rows] == (name, needed), (op.name, row, needed)
        made[step] += 1
        target = row // access.stride if sums else row
        if ring(op.output) in stream.rings:
            slots.setdefault(ring(op.output), {})[target % stream.rings[ring(op.output)].rows] = (op.output, target)


_WINDOWS = st.builds(
    lambda size, stride, before, after: Window((size, 1), (stride, 1), (1, 1), (before, 0), (after, 0)),
    st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2),
)  # fmt: skip


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(_WINDOWS, st.integers(1, 3), st.integers(0, 3)), min_size=2, max_size=6))
def test_no_row_is_overwritten_before_it_is_used(layers: list[tuple[Window, int, int]]) -> None:
    """Random networks with random shortcuts between layers whose shapes agree."""
    random = np.random.default_rng(0)
    ops: list[Op] = []
    shapes = {"x": (12, 2)}
    last = "x"
    for i, (window, n_out, skip) in enumerate(layers):
        height = (shapes[last][0] + window.before[0] + window.after[0] - window.size[0]) // window.strides[0] + 1
        if height < 1:
            break
        ops.append(conv(random, last, f"c{i}", shapes[last][1], n_out, window))
        last = f"c{i}"
        shapes[last] = (height, n_out)
        same = [name for name in shapes if shapes[name] == shapes[last] and name not in ("x", last)]
        if same and skip:
            ops.append(add(last, same[-min(skip, len(same))], f"s{i}"))
            last = f"s{i}"
            shapes[last] = (height, n_out)
    if len(ops) < 2:
        return
    graph = _integers(build_graph("net", (Tensor("x", (1, 12, 2, 2)),), (last,), tuple(ops), SOURCE))
    stream = plan_stream(graph, 0, len(graph.layers) - 1)
    assert stream is not None
    _rerun(graph, stream)


def test_layers_that_need_all_of_their_input_stay_whole() -> None:
    graph = _integers(residual())
    assert plan_stream(graph, 8, 9) is None
    assert all(stream.last < 9 for stream in choose_streams(graph))


def test_the_planner_streams_only_where_whole_tensors_do_not_fit() -> None:
    # torch is slow to import and only this test needs it.
    import torch  # noqa: PLC0415

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3, 2))
    example = (torch.zeros(1, 3, 32, 32),)
    facts = {
        (board, streaming): analyze_model(
            network.eval(), target=board, example_inputs=example, streaming=streaming
        ).facts()
        for board, streaming in (
            ("nucleo-f401re", "auto"),
            ("microbit", "auto"),
            ("microbit", "never"),
            ("host", "always"),
        )
    }
    assert facts["nucleo-f401re", "auto"]["streams"] == []
    assert facts["nucleo-f401re", "auto"]["fits"]
    assert [s["last"] for s in facts["host", "always"]["streams"]] != []
    assert not facts["microbit", "never"]["fits"]
    assert facts["microbit", "auto"]["ram_bytes"] < facts["microbit", "never"]["ram_bytes"]
