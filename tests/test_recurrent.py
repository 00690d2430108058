"""LSTM and GRU: tables, bounds, error against float, layouts, refusals, and what the firmware stores."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs_recurrent import recurrent, stacked
from host_model import SANITIZERS, WARNINGS, build_model, plan_model, run_model
from kernel_models import wrong_on_host
from mcucompile.calibrate import calibrate
from mcucompile.emit import emit_model
from mcucompile.encodings import ENCODINGS
from mcucompile.errors import ModelError, QuantizationError, UnsupportedError
from mcucompile.frontends.onnx import graph_from_model
from mcucompile.ir import Graph, Source, Tensor, build_graph
from mcucompile.ops import Gru, IntegerGru, Lstm, Recurrent, Reshape, Take, Transpose, weights_of
from mcucompile.ops.lstm import IntegerLstm
from mcucompile.ops.recurrent import LARGEST, interpolated_sigmoid, mixed, sigmoid_place, sigmoid_table
from mcucompile.passes import check_accumulators, simplify
from mcucompile.quantize import Choice, parse_weights, quantize
from mcucompile.resources import resource_dir
from merged_graphs import merged
from models_factory import Array, make_model, node, run_onnxruntime
from onnx.helper import make_node

SOURCE = Source("test", "node", "Test")
STEPS, N_IN, HIDDEN = 60, 6, 24
# Root mean square and largest difference of states in -1..1, by bits of activations: from the same layer with the
# encoded weights in float, and from the layer with its own weights, whose rounding to 8 bits is most of it.
ARITHMETIC = {8: (0.002, 0.02), 16: (0.0002, 0.002)}
INT8_WEIGHTS = (0.015, 0.2)


def movements(random: np.random.Generator, count: int) -> Array:
    """Return sequences as an accelerometer gives them: drifting sums of sines with noise, (count, STEPS, 1, N_IN)."""
    time = np.arange(STEPS)[None, :, None]
    frequency, phase = random.uniform(0.05, 0.6, (count, 1, N_IN)), random.uniform(0, 6.3, (count, 1, N_IN))
    drift = np.cumsum(random.normal(0, 0.05, (count, STEPS, N_IN)), axis=1)
    values = np.sin(frequency * time + phase) + drift + random.normal(0, 0.1, (count, STEPS, N_IN))
    return np.asarray(values[:, :, None, :], dtype=np.float32)


def noise(random: np.random.Generator, count: int) -> Array:
    """Return sequences without memory, (count, STEPS, 1, N_IN)."""
    return random.normal(0, 1, (count, STEPS, 1, N_IN)).astype(np.float32)


def layer_graph(kind: type[Recurrent], seed: int, **fields: object) -> Graph:
    """Return a graph of one layer."""
    layer = recurrent(np.random.default_rng(seed), kind, "x", "y", (1, N_IN, HIDDEN), **fields)
    return build_graph("net", (Tensor("x", (STEPS, 1, N_IN)),), ("y",), (layer,), SOURCE)


def integers_of(graph: Graph, samples: Array, weights: str = "int8", bits: int = 8) -> Graph:
    """Return the graph of integers."""
    return quantize(graph, calibrate(graph, samples), parse_weights(weights, graph), 2, activations=Choice(bits, {}))


def decoded(graph: Graph, integers: Graph) -> Graph:
    """Return the graph of one real layer with the weights that the integers have."""
    (layer,), (op,) = graph.ops, integers.ops
    assert isinstance(layer, Recurrent)
    first, *others = [(weights.values * weights.scale[:, None]).astype(np.float32) for weights in weights_of(op)]
    return graph.replaced(ops=(replace(layer, weight=first, recurrent=np.concatenate(others)),))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    ("kind", "fields"), [(Lstm, {}), (Lstm, {"gives_cell": True}), (Gru, {}), (Gru, {"resets_sum": True})]
)
@pytest.mark.parametrize("signal", [movements, noise])
def test_error_against_float(
    kind: type[Recurrent], fields: dict[str, bool], bits: int, signal: Callable[[np.random.Generator, int], Array]
) -> None:
    random = np.random.default_rng(1)
    graph = layer_graph(kind, 2, **fields)
    choices = parse_weights("int8", graph), 2
    calibration = calibrate(graph, signal(random, 40))
    # Corrected biases belong to the rounded weights: with them there would be nothing to compare with.
    integers = quantize(graph, calibration, *choices, activations=Choice(bits, {}), corrects_rounding=False)
    codes = integers.input.stored.quantize(signal(random, 40))
    samples = integers.input.stored.dequantize(codes).astype(np.float32)
    found = integers.result.stored.dequantize(integers.run(codes))
    for reals, (root_mean_square, largest) in (
        (decoded(graph, integers), ARITHMETIC[bits]), (graph, INT8_WEIGHTS),
    ):  # fmt: skip
        exact = reals.run(samples)
        # A cell state is not bounded by 1 as a hidden state is.
        scale = max(1.0, float(np.abs(exact).max())) if fields.get("gives_cell") else 1.0
        difference = np.abs(found - exact) / scale
        assert np.sqrt(np.mean(np.square(difference))) < root_mean_square
        assert difference.max() < largest
        # Errors do not build up along a sequence.
        early, late = np.sqrt(np.mean(np.square(difference.reshape(40, 2, STEPS // 2, -1)), axis=(0, 2, 3)))
        assert late < 1.5 * early


@pytest.mark.parametrize(("bits", "bound"), [(8, 2.1e-4), (16, 4.0e-5)])
@pytest.mark.parametrize("fraction", [7, 11, 13])
def test_the_sigmoid_is_as_near_as_stated(bits: int, bound: float, fraction: int) -> None:
    argument = np.arange(-(1 << 16), 1 << 16)
    found = interpolated_sigmoid(sigmoid_table(bits), argument, fraction) / (1 << 15)
    assert np.abs(found - 1 / (1 + np.exp(-argument / 2.0**fraction))).max() < bound
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("no_multiply", [True, False])
def test_c_arithmetic_equals_the_reference(no_multiply: bool, tmp_path: Path) -> None:
    """All arguments of a gate, and mixtures at all ends."""
    table = sigmoid_table(8)
    reach, shift = sigmoid_place(len(table), 11)
    shares = [0, 1, 2, 16383, 16384, 32767, 32768]
    values = [-LARGEST, -16384, -1, 0, 1, 16384]
    source = tmp_path / "main.c"
    source.write_text(f"""{"#define MCU_NO_MULTIPLY" if no_multiply else ""}
#include "mcu_recurrent.h"
#include <stdio.h>
static const uint16_t table[] = {{{", ".join(map(str, table))}}};
static const int32_t shares[] = {{{", ".join(map(str, shares))}}};
static const int32_t values[] = {{{", ".join(map(str, values))}}};
int main(void)
{{
    for (int32_t argument = -65536; argument < 65536; ++argument) {{
        printf("%d\\n", (int)mcu_sigmoid_s32(argument, table, {reach}, {shift}));
    }}
    for (uint32_t i = 0; i < {len(values) * len(shares) * len(shares)}U; ++i) {{
        const int32_t value = values[i / {len(shares) ** 2}U];
        const int32_t share = shares[i / {len(shares)}U % {len(shares)}U];
        printf("%d\\n", (int)mcu_mix_s32(value, share, -16384, shares[i % {len(shares)}U]));
    }}
    return 0;
}}
""")
    program = tmp_path / "program"
    include = f"-I{resource_dir('runtime_c')}"
    subprocess.run(["gcc", *WARNINGS, *SANITIZERS, include, source, "-o", program], check=True, timeout=60)
    done = subprocess.run([program], capture_output=True, check=True, timeout=60)
    found = np.array(done.stdout.split(), dtype=np.int64)
    gates = interpolated_sigmoid(table, np.arange(-65536, 65536), 11)
    v, s, t = (grid.reshape(-1) for grid in np.meshgrid(values, shares, shares, indexing="ij"))
    assert np.array_equal(found, np.concatenate([gates, mixed(v, s, np.int64(-16384), t)]))


@pytest.mark.parametrize("has_multiplier", [True, False])
def test_every_encoding_and_kernel(has_multiplier: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    integers = [
        integers_of(graph, random.normal(0, 1, (30, *graph.input.shape)), weights)
        for graph in (layer_graph(Lstm, 4), stacked(random))
        for weights in ENCODINGS
    ]
    model = plan_model(merged(integers), has_multiplier=has_multiplier)
    assert wrong_on_host(model, tmp_path, flags=("-O1",), random_inputs=20) == []


@pytest.mark.parametrize(("kind", "weights", "has_multiplier"), [
    (Lstm, "int8", True), (Gru, "int8", False), (Lstm, "dlq4", False), (Gru, "log4", False), (Lstm, "int8", False),
])  # fmt: skip
def test_wide_activations(kind: type[Recurrent], weights: str, has_multiplier: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    first = recurrent(random, kind, "x", "a", (1, 4, 7))
    second = recurrent(random, kind, "a", "y", (1, 7, 5), reverse=True)
    graph = build_graph("net", (Tensor("x", (8, 1, 4)),), ("y",), (first, second), SOURCE)
    samples = random.normal(0, 1, (60, *graph.input.shape))
    integers = integers_of(graph, samples, weights, 16)
    assert integers.tensors["a"].stored.bits == 16
    codes = integers.input.stored.quantize(2 * samples)
    program = build_model(plan_model(integers, has_multiplier=has_multiplier), tmp_path, flags=("-O1", *SANITIZERS))
    assert np.array_equal(run_model(program, integers, codes), integers.run(codes))


def test_weights_are_stored_once() -> None:
    graph = layer_graph(Lstm, 6)
    integers = integers_of(graph, movements(np.random.default_rng(1), 10))
    (op,) = integers.ops
    assert [weights.codes.shape for weights in weights_of(op)] == [(4 * HIDDEN, N_IN), (4 * HIDDEN, HIDDEN)]
    model = plan_model(integers, has_multiplier=False)
    data = emit_model(model)["include/model_data.h"]
    assert data.count(f"_weights[{4 * HIDDEN * N_IN}]") == data.count(f"_weights[{4 * HIDDEN * HIDDEN}]") == 1
    # Weights, one table of quarter squares, one of the sigmoid, and 7 bytes for each sum's requantization.
    tables = 2 * 511 + 2 * 257 + 7 * 2 * 4 * HIDDEN
    assert model.layers[0].cost.flash_bytes == 4 * HIDDEN * (N_IN + HIDDEN) + tables


def test_layers_share_the_table_of_the_sigmoid() -> None:
    random = np.random.default_rng(7)
    graph = stacked(random)
    model = plan_model(integers_of(graph, random.normal(0, 1, (20, *graph.input.shape))), has_multiplier=False)
    assert emit_model(model)["include/model_data.h"].count("_sigmoid_8[") == 1


def test_accumulators_are_proven_for_every_sum() -> None:
    graph = layer_graph(Gru, 8, resets_sum=True)
    integers = integers_of(graph, movements(np.random.default_rng(1), 10))
    (op,) = integers.ops
    assert isinstance(op, IntegerGru)
    assert len(list(op.accumulations(integers.input.stored))) == 3
    wide = replace(op.candidate_requantize, multiplier=op.candidate_requantize.multiplier << 12)
    with pytest.raises(QuantizationError, match="int32 holds"):
        check_accumulators(integers.replaced(ops=(replace(op, candidate_requantize=wide),)))


def test_saturated_states_stay_exact(tmp_path: Path) -> None:
    """Codes far beyond the samples: a cell that saturates, gates at the ends of their table."""
    random = np.random.default_rng(9)
    graph = layer_graph(Lstm, 10, gives_cell=True)
    integers = integers_of(graph, 0.05 * movements(random, 20))
    source = integers.input.stored
    codes = random.choice([source.minimum, source.maximum], (20, *graph.input.shape))
    cells = integers.run(codes)
    assert isinstance(integers.ops[0], IntegerLstm)
    program = build_model(plan_model(integers, has_multiplier=True), tmp_path, flags=("-O1", *SANITIZERS))
    assert np.array_equal(run_model(program, integers, codes), cells)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_only_the_last_step_is_kept_where_only_it_is_read(reverse: bool, batch: int) -> None:
    random = np.random.default_rng(11)
    steps = 5
    layer = recurrent(random, Gru, "x", "a", (batch, 3, 4), reverse=reverse)
    turned = Transpose(name="t", inputs=("a",), output="t", source=SOURCE, permutation=(1, 0, 2))
    place = 0 if reverse else steps - 1
    indices = (tuple(range(batch)), (place,), (0, 1, 2, 3))
    take = Take(name="l", inputs=("t",), output="l", source=SOURCE, indices=indices)
    view = Reshape(name="y", inputs=("l",), output="y", source=SOURCE, shape=(batch, 4))
    graph = build_graph("net", (Tensor("x", (steps, batch, 3)),), ("y",), (layer, turned, take, view), SOURCE)
    simple = simplify(graph)
    assert [op.kind for op in simple.layers] == ["gru"]
    assert simple.tensors[simple.layers[0].output].shape == (1, batch, 4)
    samples = random.normal(0, 1, (6, *graph.input.shape))
    np.testing.assert_allclose(simple.run(samples), graph.run(samples), rtol=1e-6)


def test_another_step_is_taken_from_the_whole_sequence() -> None:
    random = np.random.default_rng(12)
    layer = recurrent(random, Lstm, "x", "a", (1, 3, 4))
    take = Take(name="y", inputs=("a",), output="y", source=SOURCE, indices=((3,), (0,), (0, 1, 2, 3)))
    graph = build_graph("net", (Tensor("x", (5, 1, 3)),), ("y",), (layer, take), SOURCE)
    assert [op.kind for op in simplify(graph).layers] == ["lstm", "take"]


def _model(
    op_type: str, x: tuple[int, ...], inputs: str = "w r", *, output: int = 0, **attributes: object
) -> onnx.ModelProto:
    """Return a model of one layer with 3 inputs and a state of 4."""
    random = np.random.default_rng(13)
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    gates = 4 if op_type == "LSTM" else 3
    batch = x[0] if attributes.get("layout") else x[1]
    state = (batch, directions, 4) if attributes.get("layout") else (directions, batch, 4)
    shapes = {
        "w": (directions, gates * 4, 3), "r": (directions, gates * 4, 4), "b": (directions, gates * 8),
        "h": state, "c": state, "p": (1, 12),
    }  # fmt: skip
    constants: dict[str, Array] = {
        name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()
    }
    constants["l"] = np.array([x[0], x[0] - 1], dtype=np.int32)
    names = ["" if name == "-" else name for name in inputs.split()]
    outputs = ["", "", ""][: gates - 1]
    outputs[output] = "z"
    given = {name: value for name, value in constants.items() if name in names}
    made = make_node(op_type, ["x", *names], outputs, name="cell", **{"hidden_size": 4, **attributes})
    return make_model([made, node("Identity", "z")], x, given)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("op_type", "output"), [("LSTM", 0), ("LSTM", 1), ("LSTM", 2), ("GRU", 0), ("GRU", 1)])
def test_batch_first_layout_is_the_other_one_turned(op_type: str, output: int, direction: str) -> None:
    """Onnxruntime refuses layout 1: its layout 0 with swapped axes is the expectation."""
    inputs = "w r b - h c" if op_type == "LSTM" else "w r b - h"
    first = _model(op_type, (2, 5, 3), inputs, output=output, direction=direction, layout=1)
    other = _model(op_type, (5, 2, 3), inputs, output=output, direction=direction)
    for initializer in first.graph.initializer:
        if initializer.name in "hc":
            for target in other.graph.initializer:
                if target.name == initializer.name:
                    turned = onnx.numpy_helper.to_array(initializer).swapaxes(0, 1)
                    target.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(turned), target.name))
    samples = np.random.default_rng(14).normal(size=(3, 2, 5, 3)).astype(np.float32)
    expected = run_onnxruntime(other, samples.swapaxes(1, 2))
    expected = expected.transpose(0, 3, 1, 2, 4) if output == 0 else expected.swapaxes(1, 2)
    np.testing.assert_allclose(graph_from_model(first).run(samples), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("model", "reason", "fix"), [
    (_model("LSTM", (5, 2, 3), "w r b - h c p"), "peepholes", "without them"),
    (_model("LSTM", (5, 2, 3), clip=3.0), "clips .* at 3.0", "without clip"),
    (_model("LSTM", (5, 2, 3), input_forget=1), "input_forget=1", "input_forget=0"),
    (_model("GRU", (5, 2, 3), activations=["Relu", "Tanh"]), "gates Relu, Tanh", "Sigmoid, Tanh"),
    (_model("GRU", (5, 2, 3), "w r b l"), r"\[4, 5\] steps in an input of 5", "the length of the input"),
    (_model("LSTM", (5, 2, 3), direction="sideways"), "'sideways'", "forward, reverse, bidirectional"),
])  # fmt: skip
def test_what_is_not_covered_is_refused_with_what_to_do(model: onnx.ModelProto, reason: str, fix: str) -> None:
    with pytest.raises(UnsupportedError, match=reason) as refused:
        graph_from_model(model)
    assert fix in str(refused.value)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("w", (1, 16)), ("w", (1, 12, 3)), ("r", (1, 16, 3)), ("b", (1, 16)), ("h", (1, 1, 4)), ("c", (2, 4))],
)
def test_parameters_of_other_shapes_are_refused_by_node(name: str, shape: tuple[int, ...]) -> None:
    model = _model("LSTM", (5, 2, 3), "w r b - h c")
    for initializer in model.graph.initializer:
        if initializer.name == name:
            initializer.CopyFrom(onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name))
    with pytest.raises(ModelError, match="node 'cell'"):
        graph_from_model(model)
