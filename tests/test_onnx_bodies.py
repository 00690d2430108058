"""Standard operators that the ONNX specification defines by others, branches of constant conditions, and masks."""

import numpy as np
import onnx
import pytest
from mcucompile.calibrate import calibrate
from mcucompile.encodings import ENCODINGS
from mcucompile.errors import UnsupportedError
from mcucompile.frontends.onnx import graph_from_model
from mcucompile.passes import simplify
from mcucompile.quantize import Choice, quantize
from models_factory import Array, make_model, node, run_onnxruntime
from onnx import TensorProto, helper

_HEADS, _STEPS, _SIZE = 2, 5, 4
_WIDTH = _HEADS * _SIZE


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _self_attention(weights: dict[str, Array], **attributes: int) -> onnx.ModelProto:
    """Queries, keys and values are products of the input."""
    nodes = [node("MatMul", f"x {name}", name.upper()) for name in "qkv"]
    attention = node("Attention", "Q K V", q_num_heads=_HEADS, kv_num_heads=_HEADS, **attributes)
    return make_model([*nodes, attention], (1, _STEPS, _WIDTH), weights, opset=23)


def _attended(x: Array, weights: dict[str, Array], mask: Array) -> Array:
    """Return softmax(q k^T / sqrt(size) + mask) v of each head (Vaswani et al., arXiv:1706.03762, equation 1)."""
    q, k, v = ((x @ weights[name]).reshape(len(x), _STEPS, _HEADS, _SIZE).swapaxes(1, 2) for name in "qkv")
    y = _softmax(q @ k.swapaxes(2, 3) / np.sqrt(_SIZE) + mask) @ v
    return y.swapaxes(1, 2).reshape(len(x), _STEPS, _WIDTH)


def _weights() -> dict[str, Array]:
    random = np.random.default_rng(8)
    return {name: random.normal(0, 0.5, (_WIDTH, _WIDTH)).astype(np.float32) for name in "qkv"}


@pytest.mark.parametrize("causal", [0, 1])
def test_attention_is_its_formula_in_float_and_in_8_bits(causal: int) -> None:
    weights = _weights()
    samples = np.random.default_rng(9).normal(size=(40, 1, _STEPS, _WIDTH)).astype(np.float32)
    mask = np.where(np.tri(_STEPS) > 0, 0.0, -np.inf) if causal else np.zeros((_STEPS, _STEPS))
    expected = _attended(samples[:, 0], weights, mask)[:, None]
    graph = simplify(graph_from_model(_self_attention(weights, is_causal=causal)))
    np.testing.assert_allclose(graph.run(samples), expected, rtol=1e-4, atol=1e-5)
    integers = quantize(graph, calibrate(graph, samples), Choice(ENCODINGS["int8"], {}), 2, activations=Choice(8, {}))
    found = integers.result.stored.dequantize(integers.run(integers.input.stored.quantize(samples)))
    assert np.sqrt(np.mean(np.square(found - expected))) < 0.03 * np.ptp(expected)


def test_every_output_of_a_layer_normalization() -> None:
    random = np.random.default_rng(3)
    x = random.normal(size=(2, 3, 6)).astype(np.float32)
    scale = random.normal(size=6).astype(np.float32)
    norm = helper.make_node("LayerNormalization", ["x", "s"], ["n", "mean", "deviation"], name="norm", epsilon=1e-3)
    for output, expected in (
        ("mean", x.mean(axis=-1, keepdims=True)),
        ("deviation", 1 / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-3)),
    ):
        model = make_model([norm, node("Identity", output)], (3, 6), {"s": scale})
        np.testing.assert_allclose(graph_from_model(model).run(x), expected, rtol=1e-4, atol=1e-5)


def test_a_refused_part_is_named_beside_its_node() -> None:
    model = make_model([node("Bernoulli", "x")], (1, 3), opset=22)
    with pytest.raises(UnsupportedError, match=r"'y_node' \(Bernoulli\): its part RandomUniformLike is not supported"):
        graph_from_model(model)


def test_bodies_count_as_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _self_attention(_weights())
    monkeypatch.setattr("mcucompile.frontends.onnx.MAX_NODES", 20)
    with pytest.raises(UnsupportedError, match="stands for too many nodes"):
        graph_from_model(model)


def _branch(name: str, op_type: str, other: str) -> onnx.GraphProto:
    """A branch that reads the input and a constant from outside."""
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    return helper.make_graph([node(op_type, f"x {other}", name)], name, [], [output])


@pytest.mark.parametrize("condition", [True, False])
def test_a_constant_condition_chooses_its_branch(condition: bool) -> None:
    choice = helper.make_node(
        "If", ["c"], ["i"], name="if", then_branch=_branch("t", "Add", "a"), else_branch=_branch("e", "Mul", "a")
    )
    constants = {"c": np.array(condition), "a": np.float32([1, 2, 3])}
    model = make_model([choice, node("Relu", "i")], (2, 3), constants)
    samples = np.random.default_rng(1).normal(size=(4, 2, 3)).astype(np.float32)
    graph = graph_from_model(model)
    assert [op.kind for op in graph.ops] == ["affine", "relu"]
    np.testing.assert_allclose(graph.run(samples), run_onnxruntime(model, samples), rtol=1e-6)


def test_a_condition_of_the_input_is_refused() -> None:
    choice = helper.make_node(
        "If", ["c"], ["y"], name="if", then_branch=_branch("t", "Add", "a"), else_branch=_branch("e", "Mul", "a")
    )
    nodes = [node("ReduceMax", "x", "m", keepdims=0), node("Greater", "m zero", "c"), choice]
    model = make_model(nodes, (2, 3), {"a": np.float32([1, 2, 3]), "zero": np.float32(0)})
    with pytest.raises(UnsupportedError, match=r"'if' \(If\): has a condition that is computed while the model runs"):
        graph_from_model(model)


def test_a_row_that_is_masked_altogether_leaves_the_format_alone() -> None:
    mask = np.zeros((3, 4), dtype=np.float32)
    mask[0, :2] = mask[1] = -np.inf
    constants = {"hidden": np.isinf(mask), "zero": np.float32(0), "low": np.float32(-3e38)}
    nodes = [node("Where", "hidden low x", "m"), node("Softmax", "m", "s", axis=-1), node("Where", "hidden zero s")]
    graph = simplify(graph_from_model(make_model(nodes, (3, 4), constants)))
    samples = np.random.default_rng(2).normal(0, 2, (50, 3, 4)).astype(np.float32)
    integers = quantize(graph, calibrate(graph, samples), Choice(ENCODINGS["int8"], {}), 2, activations=Choice(8, {}))
    found = integers.result.stored.dequantize(integers.run(integers.input.stored.quantize(samples)))
    expected = np.where(constants["hidden"], 0, _softmax(samples + np.maximum(mask, -1e9)))
    assert np.abs(found - expected).max() < 0.04
