"""Passes keep what the graph computes and do what they say; the accumulator proof finds what overflows."""

from dataclasses import replace

import numpy as np
import pytest
from graphs import GRAPHS, SOURCE, affine, dense, graph
from graphs_convolution import conv
from mcucompile.calibrate import calibrate
from mcucompile.encodings import Weights
from mcucompile.errors import ModelError, QuantizationError
from mcucompile.ir import Format, Graph, Tensor, build_graph, verify
from mcucompile.numerics import Requantization
from mcucompile.ops import Affine, Dense, IntegerDense, Reduce, Relu, Reshape, Take, Transpose
from mcucompile.ops.window import Window
from mcucompile.passes import check_accumulators, simplify
from mcucompile.quantize import parse_weights, quantize


def _view(name: str, x: str, shape: tuple[int, ...]) -> Reshape:
    return Reshape(name=name, inputs=(x,), output=name, source=SOURCE, shape=shape)


def _relu(name: str, x: str) -> Relu:
    return Relu(name=name, inputs=(x,), output=name, source=SOURCE)


@pytest.mark.parametrize("name", GRAPHS)
def test_simplified_graphs_compute_the_same(name: str) -> None:
    random = np.random.default_rng(3)
    original = GRAPHS[name](random)
    shape = (20, *original.input.shape)
    samples = (random.integers(0, 256, shape) if original.input.format else random.normal(0, 1, shape)).astype(
        np.float32
    )
    expected = original.run(samples)
    np.testing.assert_allclose(simplify(original).run(samples), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_batch_norm_and_relu_go_into_the_layer_before() -> None:
    random = np.random.default_rng(3)
    g = graph((1, 8), (dense(random, "x", "a", 8, 4), affine(random, "a", "b", 4, 1), _relu("c", "b")))
    (layer,) = simplify(g).ops
    assert isinstance(layer, Dense)
    assert layer.relu
    assert layer.output == "c"


def test_standardisation_goes_into_the_layer_after_even_through_a_view() -> None:
    random = np.random.default_rng(3)
    g = graph((1, 4, 2), (affine(random, "x", "a", 1, 0), _view("v", "a", (1, 8)), dense(random, "v", "y", 8, 4)))
    assert [type(op) for op in simplify(g).ops] == [Reshape, Dense]
    per_feature = graph((1, 8), (affine(random, "x", "a", 8, 1), dense(random, "a", "y", 8, 4)))
    assert [type(op) for op in simplify(per_feature).ops] == [Dense]


def test_an_affine_per_channel_does_not_go_through_a_view() -> None:
    random = np.random.default_rng(3)
    g = graph((1, 4, 2), (affine(random, "x", "a", 4, 1), _view("v", "a", (1, 8)), dense(random, "v", "y", 8, 4)))
    assert [type(op) for op in simplify(g).ops] == [Affine, Reshape, Dense]


def test_what_two_read_is_not_folded_away() -> None:
    random = np.random.default_rng(3)
    g = GRAPHS["residual"](random)
    kinds = [op.kind for op in simplify(g).ops]
    assert kinds == ["dense", "dense", "add", "dense"]
    branch = graph(
        (1, 8), (dense(random, "x", "a", 8, 4), affine(random, "a", "b", 4, 1), dense(random, "a", "y", 4, 2))
    )
    assert "affine" in [op.kind for op in simplify(branch).ops]


def test_views_of_views_and_views_of_nothing_vanish() -> None:
    random = np.random.default_rng(3)
    views = (_view("v", "x", (8,)), _view("w", "v", (1, 8)), _view("u", "w", (1, 8)))
    g = graph((2, 4), (*views, dense(random, "u", "y", 8, 4)))
    assert [op.kind for op in simplify(g).ops] == ["reshape", "dense"]


def test_verify_names_what_is_wrong() -> None:
    random = np.random.default_rng(3)
    a, b = dense(random, "x", "a", 8, 4), dense(random, "a", "y", 4, 2)
    good = graph((1, 8), (a, b))
    with pytest.raises(ModelError, match="before anything writes it"):
        good.replaced(ops=(b, a))
    with pytest.raises(ModelError, match="a second time"):
        good.replaced(ops=(a, a, b))
    with pytest.raises(ModelError, match="is declared"):
        good.replaced(tensors={**good.tensors, "y": Tensor("y", (1, 3))})
    with pytest.raises(ModelError, match="is written by no node"):
        verify(Graph("n", ("x",), ("z",), good.tensors, good.ops, SOURCE))


def _integer_graph(weight: int, inputs: int, offset: int) -> Graph:
    weights = Weights("int8", 8, np.full((1, inputs), weight), np.arange(256), np.array([1.0]), "")
    layer = IntegerDense(
        name="fc",
        inputs=("x",),
        output="y",
        source=SOURCE,
        similarity="dot",
        weights=weights,
        requantize=Requantization(np.array([1]), np.array([offset]), np.array([0]), -(2**31), 2**31 - 1),
    )
    tensors = {"x": Tensor("x", (inputs,), Format(8, False)), "y": Tensor("y", (1,), Format(32, True))}
    return verify(Graph("n", ("x",), ("y",), tensors, (layer,), SOURCE))


@pytest.mark.parametrize("excess", [0, 1])
def test_the_accumulator_proof_is_exact_to_the_unit(excess: int) -> None:
    # 255 * 127 * 1000 is the worst sum; the offset fills int32 up to its last unit, and then one more.
    offset = 2**31 - 1 - 255 * 127 * 1000 + excess
    g = _integer_graph(127, 1000, offset)
    if excess:
        with pytest.raises(QuantizationError, match="2147483648, int32 holds 2147483647: 1 bit too many"):
            check_accumulators(g)
    else:
        assert check_accumulators(g) is g
        assert g.run(np.full((1, 1000), 255)).tolist() == [[2**31 - 1]]


@pytest.mark.parametrize("weights", ["int8", "log8", "dlq6", "dlq4half"])
def test_wide_layers_fit_or_are_refused_by_name(weights: str) -> None:
    """The codebook gives up bits before an accumulator can overflow."""
    random = np.random.default_rng(5)
    g = simplify(graph((1, 6000), (dense(random, "x", "y", 6000, 2),)))
    integers = quantize(g, calibrate(g, np.abs(random.normal(0, 1, (8, 1, 6000)))), parse_weights(weights, g), 2)
    low, high = integers.ops[0].accumulator_bounds(integers.input.stored)
    assert max(abs(int(low.min())), int(high.max())) < 2**31


@pytest.mark.parametrize("tiny", [1e-6, 1e-12, 1e-30])
def test_dead_channels_keep_their_bias(tiny: float) -> None:
    """Training kills channels: their weights are nothing, their bias is all."""
    random = np.random.default_rng(3)
    layer = dense(random, "x", "a", 8, 4, relu=True)
    weight = layer.weight.copy()
    weight[:2] *= tiny
    bias = np.array([0.7, 0.0, 0.1, 0.2], dtype=np.float32)
    g = graph((1, 8), (replace(layer, weight=weight, bias=bias), dense(random, "a", "y", 4, 3)))
    samples = random.random((50, 1, 8))
    integers = quantize(g, calibrate(g, samples), parse_weights("int8", g), 2)
    (_, codes), _ = integers.execute(integers.input.stored.quantize(samples))
    found = integers.tensors["a"].stored.dequantize(codes)
    np.testing.assert_allclose(found[..., 0], 0.7, atol=0.01)
    np.testing.assert_allclose(found[..., 1], 0.0, atol=0.01)


def test_a_mean_over_an_image_is_a_pool() -> None:
    random = np.random.default_rng(3)
    same = Window((3, 3), before=(1, 1), after=(1, 1))
    ops = (
        conv(random, "x", "a", 2, 4, same),
        _view("v", "a", (1, 30, 4)),
        Reduce(name="m", inputs=("v",), output="m", source=SOURCE, function="mean"),
        dense(random, "m", "y", 4, 3),
    )
    g = graph((1, 6, 5, 2), ops)
    simplified = simplify(g)
    assert [op.kind for op in simplified.layers] == ["conv", "average_pool", "dense"]
    samples = random.normal(0, 1, (7, *g.input.shape)).astype(np.float32)
    np.testing.assert_allclose(simplified.run(samples), g.run(samples), rtol=1e-5, atol=1e-5)


def _double(channels: tuple[int, ...]) -> tuple[Graph, Graph]:
    """Return a transposed convolution of stride 2 with scales and a rectifier behind it, and what it becomes.

    channels: that of the convolution which each scale belongs to.
    """
    random = np.random.default_rng(9)
    count = len(channels) // 4
    scale, offset = (random.normal(0, 1, count).astype(np.float32) for _ in range(2))
    ops = (
        conv(random, "x", "c", 2, 4 * count, Window((1, 1))),
        _view("v", "c", (1, 3, 4, count, 2, 2)),
        Transpose(name="t", inputs=("v",), output="t", source=SOURCE, permutation=(0, 1, 4, 2, 5, 3)),
        _view("w", "t", (1, 6, 8, count)),
        Take(
            name="k", inputs=("w",), output="k", source=SOURCE,
            indices=((0,), (1, 2, 3, 4), tuple(range(8)), tuple(channels[::4])),
        ),
        Affine(name="a", inputs=("k",), output="a", source=SOURCE, scale=scale, offset=offset, axis=3),
        _relu("y", "a"),
    )  # fmt: skip
    original = graph((1, 3, 4, 2), ops)
    return original, simplify(original)


def test_scales_and_rectifiers_pass_through_copies() -> None:
    original, simple = _double((0,) * 4 + (1,) * 4 + (2,) * 4)
    assert [op.kind for op in simple.layers] == ["conv", "transpose", "take"]
    samples = np.random.default_rng(1).normal(0, 1, (5, 1, 3, 4, 2)).astype(np.float32)
    np.testing.assert_allclose(simple.run(samples), original.run(samples), rtol=1e-5, atol=1e-5)


def test_scales_that_differ_within_a_channel_stay() -> None:
    _, simple = _double((0,) * 4 + (1,) * 4 + (1,) * 4)
    assert [op.kind for op in simple.layers] == ["conv", "transpose", "take", "affine"]


@pytest.mark.parametrize("ops", [(), (_view("v", "x", (24,)),)])
def test_a_network_of_views_copies_its_input(ops: tuple[Reshape, ...]) -> None:
    output = ops[-1].output if ops else "x"
    simplified = simplify(build_graph("g", (Tensor("x", (2, 3, 4)),), (output,), ops, SOURCE))
    samples = np.random.default_rng(0).normal(size=(5, 2, 3, 4)).astype(np.float32)
    assert [type(op) for op in simplified.layers] == [Take]
    assert np.array_equal(simplified.run(samples).reshape(samples.shape), samples)
