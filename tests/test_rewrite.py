"""A draft of a graph stays consistent under changes, and rewriting costs as much as the graph is long."""

import itertools

import numpy as np
import pytest
from graphs import SOURCE, affine, dense, graph
from hypothesis import given, settings
from hypothesis import strategies as st
from mcucompile.ir import Graph, Op, Tensor, build_graph
from mcucompile.ops import Add, Relu
from mcucompile.passes import simplify
from mcucompile.passes.rewrite import Change, Draft, Rule, rewrite


def relu(x: str, y: str) -> Relu:
    return Relu(name=y, inputs=(x,), output=y, source=SOURCE)


def chain(length: int) -> Graph:
    names = ["x", *(f"t{i}" for i in range(length))]
    return graph((1, 4), tuple(relu(x, y) for x, y in itertools.pairwise(names)))


def same(draft: Draft, wanted: Graph) -> bool:
    """Return whether the draft knows of every tensor what a graph of its operators knows."""
    return draft.ops == wanted.ops and all(
        draft.producer(name) is wanted.producer(name) and draft.consumers(name) == wanted.consumers(name)
        for name in wanted.tensors
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 100), st.sampled_from(["remove", "double", "replace"])), max_size=12))
def test_draft_knows_readers_and_writers(steps: list[tuple[int, str]]) -> None:
    start = graph(
        (1, 4),
        (
            relu("x", "a"),
            relu("a", "b"),
            Add(name="c", inputs=("a", "b"), output="c", source=SOURCE),
            Add(name="d", inputs=("c", "c"), output="d", source=SOURCE),
            relu("d", "e"),
        ),
    )
    draft = Draft(start)
    for number, (pick, kind) in enumerate(steps):
        op = draft.ops[pick % len(draft.ops)]
        new = f"n{number}"
        if kind == "remove" and op.output not in start.outputs:
            change = Change({op: ()}, renamed={op.output: op.inputs[0]})
        elif kind == "double":
            shape = draft.tensors[op.output].shape
            change = Change({op: (relu(op.inputs[0], new), relu(new, op.output))}, shapes={new: shape})
        else:
            change = Change({op: (relu(op.inputs[0], op.output),)})
        added = draft.apply(change)
        assert all(one in draft for one in added)
        changed = draft.graph()
        assert same(draft, changed)
        assert changed.tensors.keys() == {"x", *(one.output for one in changed.ops)}


def test_what_nothing_reads_any_more_goes_with_all_before_it() -> None:
    start = graph(
        (1, 4),
        (
            relu("x", "a"),
            relu("a", "b"),
            relu("b", "c"),
            Add(name="d", inputs=("c", "a"), output="d", source=SOURCE),
        ),
    )
    draft = Draft(start)
    assert draft.apply(Change({start.ops[3]: (relu("a", "d"),)})) == [draft.ops[1]]
    assert [op.output for op in draft.ops] == ["a", "d"]


def counted(rule: Rule) -> tuple[Rule, list[int]]:
    calls = [0]

    def count(draft: Draft, op: Op) -> Change | None:
        calls[0] += 1
        return rule(draft, op)

    return count, calls


@pytest.mark.parametrize("length", [50, 500])
def test_what_moves_goes_all_its_way_in_one_sweep(length: int) -> None:
    """A marked operator moves to the end of a chain: two questions for each step, and one more sweep."""

    def sink(draft: Draft, op: Op) -> Change | None:
        readers = draft.consumers(op.output)
        if op.name != "t0" or not readers:
            return None
        (reader,) = readers
        above = relu(op.inputs[0], f"{reader.output}_above")
        below = Relu(name="t0", inputs=(above.output,), output=reader.output, source=SOURCE)
        return Change({op: (), reader: (above, below)}, shapes={above.output: (1, 4)})

    rule, calls = counted(sink)
    moved = rewrite(chain(length), rule)
    assert [op.name == "t0" for op in moved.ops] == [False] * (length - 1) + [True]
    assert calls[0] <= 4 * length


def test_passes_verify_a_graph_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work of simplifying grows with the layers, not with their square: shapes are computed so often."""
    random = np.random.default_rng(0)

    def work(layers: int) -> int:
        ops: list[Op] = []
        name = "x"
        for i in range(layers):
            ops += [
                dense(random, name, f"a{i}", 4, 4),
                affine(random, f"a{i}", f"b{i}", 4, 1),
                relu(f"b{i}", f"r{i}"),
            ]
            name = f"r{i}"
        built = build_graph("n", (Tensor("x", (1, 4)),), (name,), tuple(ops), SOURCE)
        calls = [0]
        shapes_of = Graph.shapes_of

        def count(self: Graph, op: Op) -> tuple[tuple[int, ...], ...]:
            calls[0] += 1
            return shapes_of(self, op)

        with monkeypatch.context() as patched:
            patched.setattr(Graph, "shapes_of", count)
            assert len(simplify(built).ops) == layers
        return calls[0]

    assert work(80) <= 4 * work(20) + 10
