"""Element-wise operators: 16-bit activations, bounds against float, formats and fusion."""

from pathlib import Path

import numpy as np
import pytest
from graphs import SOURCE, graph
from graphs_elementwise import ELEMENTWISE_GRAPHS
from host_model import SANITIZERS, plan_model
from kernel_models import wrong_on_host
from mcucompile.calibrate import as_codes, calibrate
from mcucompile.ir import Array, Graph, Op
from mcucompile.ops import Add, Affine, Dense, IntegerInterpolation, IntegerLookup, Lookup
from mcucompile.ops.formula import FUNCTIONS, Step, X, applied, evaluate
from mcucompile.passes import simplify
from mcucompile.quantize import parse_activations, parse_weights, quantize
from merged_graphs import merged


def _integers(real: Graph, samples: Array, activations: str = "int8", weights: str = "int8") -> Graph:
    bits = parse_activations(activations, real)
    return quantize(real, calibrate(real, samples), parse_weights(weights, real), 2, activations=bits)


def _lookup(name: str, inputs: tuple[str, ...], *steps: Step) -> Lookup:
    return Lookup(name=name, inputs=inputs, output=name, source=SOURCE, formula=steps)


def _wide_input(op: Op, samples: Array, last: Op | None = None) -> tuple[Graph, Array]:
    """Return an integer graph whose `op` reads int16 of every code, and those codes."""
    count = samples.shape[-1]
    identity = Affine(
        name="a", inputs=("x",), output="a", source=SOURCE, scale=np.float32([1]), offset=np.float32([0]), axis=0
    )
    real = graph((1, count), (identity, op, *((last,) if last else ())))
    return _integers(real, samples, "int16"), samples


def _wide(name: str) -> tuple[Graph, Graph, Array]:
    """Return a graph of reals, its integers of int16 activations, and samples."""
    random = np.random.default_rng(5)
    real = simplify(ELEMENTWISE_GRAPHS[name](random))
    samples = random.normal(0, 1, (120, *real.input.shape))
    # Without a multiplier, 16-bit inputs need weights with few distinct values.
    return real, _integers(real, samples, "int16"), samples


@pytest.mark.parametrize("has_multiplier", [True, False])
def test_wide_activations(has_multiplier: bool, tmp_path: Path) -> None:
    graphs = [_wide(name)[1] for name in ELEMENTWISE_GRAPHS]
    model = plan_model(merged(graphs), has_multiplier=has_multiplier)
    assert wrong_on_host(model, tmp_path, flags=("-O0", *SANITIZERS), random_inputs=60) == []


@pytest.mark.parametrize("name", ELEMENTWISE_GRAPHS)
def test_wide_activations_are_near_the_reals(name: str) -> None:
    """An order of magnitude nearer than int8's."""
    real, integers, samples = _wide(name)
    source = integers.input.stored
    codes = as_codes(samples, source)
    found = integers.run(codes)
    exact = real.run(source.dequantize(codes).astype(np.float32))
    error = np.sqrt(np.mean(np.square(integers.result.stored.dequantize(found) - exact)))
    # A root has a vertical tangent at 0, where straight lines are no better than 8 bits.
    assert error < (0.04 if name == "lookup_fused" else 0.008) * (exact.max() - exact.min())


_RANGES = {
    **dict.fromkeys(("log", "sqrt", "power", "reciprocal"), (0.05, 4.0)),
    **dict.fromkeys(("acos", "asin", "atanh"), (-0.9, 0.9)),
    "acosh": (1.0, 5.0),
    "tan": (-1.2, 1.2),
}
_PARAMETERS = {"affine": (0.5, 0.25), "clip": (-0.5, 0.75), "power": (1.5,), "selu": (1.67, 1.05), "shrink": (0.5, 1.0)}
_JUMPS = {"ceil", "floor", "is_positive", "is_zero", "round", "sign", "shrink", "thresholded_relu"}
_CORNERS = {"clip", "hard_sigmoid", "hard_swish", "log", "acos", "asin", "atanh"}
_STEEP = {"sqrt", "acosh", "reciprocal"}
_UNARY = [name for name, function in FUNCTIONS.items() if function.operands == 1]


def _formula(name: str) -> tuple[Step, ...]:
    function = FUNCTIONS[name]
    return applied(name, *_PARAMETERS.get(name, (0.5,) * function.parameters))


@pytest.mark.parametrize("name", _UNARY)
def test_every_function_as_a_table(name: str) -> None:
    """An 8-bit table is the correctly rounded value of every code, within a clip that measures best."""
    low, high = _RANGES.get(name, (-4.0, 4.0))
    samples = np.linspace(low, high, 256).reshape(16, 1, 16)
    tail = Affine(
        name="y", inputs=("f",), output="y", source=SOURCE, scale=np.float32([1]), offset=np.float32([0]), axis=0
    )
    real = graph((1, 16), (_lookup("f", ("x",), *_formula(name)), tail))
    integers = _integers(real, samples)
    layer = integers.ops[0]
    assert isinstance(layer, IntegerLookup)
    source, format_ = integers.input.stored, integers.tensors["f"].stored
    reals = source.dequantize(np.arange(source.minimum, source.maximum + 1))
    inside = (reals >= low) & (reals <= high)
    exact = evaluate(_formula(name), reals)
    found = format_.dequantize(layer.table)
    ends = (format_.dequantize(np.array(format_.minimum)), format_.dequantize(np.array(format_.maximum)))
    assert inside.sum() > 100
    assert np.abs(found - np.clip(exact, *ends))[inside].max() <= 0.5001 * format_.scale
    # The 8 bits are used: the range of the values takes most of the codes.
    assert (layer.table.max() - layer.table.min()) > 120 or name in _JUMPS


@pytest.mark.parametrize("name", [name for name in _UNARY if name not in _JUMPS])
def test_every_function_by_straight_lines(name: str) -> None:
    """Of a 16-bit activation: within 2**-13 of the range, corners away from 0 within 2**-10, vertical ends 2**-6."""
    low, high = _RANGES.get(name, (-4.0, 4.0))
    samples = np.linspace(low, high, 4096).reshape(64, 1, 64)
    integers, _ = _wide_input(_lookup("y", ("a",), *_formula(name)), samples)
    layer = integers.ops[1]
    assert isinstance(layer, IntegerInterpolation)
    source = integers.tensors["a"].stored
    reals = source.dequantize(np.arange(source.minimum, source.maximum + 1))
    codes = np.arange(source.minimum, source.maximum + 1)[(reals >= low) & (reals <= high)]
    exact = evaluate(_formula(name), source.dequantize(codes))
    error = np.abs(integers.result.stored.dequantize(layer.run(codes)) - exact).max()
    spread = exact.max() - exact.min()
    assert error <= spread * 2.0 ** (-6 if name in _STEEP else -10 if name in _CORNERS else -13)


def test_exact_functions_stay_exact() -> None:
    """Those made of straight lines with a corner at 0 are exact to half an output code at 16 bits."""
    samples = np.linspace(-4, 4, 4096).reshape(64, 1, 64)
    for name in ("leaky_relu", "abs", "relu"):
        integers, _ = _wide_input(_lookup("y", ("a",), *_formula(name)), samples)
        layer, source = integers.ops[1], integers.tensors["a"].stored
        assert isinstance(layer, IntegerInterpolation)
        assert len(layer.table) == 33
        codes = np.arange(-32767, 32768)
        exact = evaluate(_formula(name), source.dequantize(codes)) / integers.result.stored.scale
        assert np.abs(layer.run(codes) - exact).max() <= 1


def test_functions_without_a_value_give_an_end_or_zero() -> None:
    """Code 0 has no logarithm and codes below no root: the lowest code and the code of 0."""
    samples = np.linspace(0.05, 2, 256).reshape(16, 1, 16)
    for name, steps in (("log", applied("log")), ("root", (X, Step("affine", (1.0, -1.0)), Step("sqrt")))):
        real = graph((1, 16), (_lookup("y", ("x",), *steps),))
        calibration = np.where(samples < 1, 2 - samples, samples) if name == "root" else samples
        integers = _integers(real, calibration)
        layer = integers.ops[0]
        assert isinstance(layer, IntegerLookup)
        assert layer.table[0] == (-32767 if name == "log" else 0)


def test_asymmetric_values_use_all_codes() -> None:
    """Gelu is never below -0.17: an unsigned format with a zero point leaves no codes for what does not occur."""
    samples = np.random.default_rng(1).normal(0, 1.5, (64, 1, 16))
    random = np.random.default_rng(2)
    dense = Dense(
        name="y",
        inputs=("f",),
        output="y",
        source=SOURCE,
        weight=random.normal(0, 0.3, (4, 16)).astype(np.float32),
        bias=np.zeros(4, np.float32),
    )
    integers = _integers(graph((1, 16), (_lookup("f", ("x",), *applied("gelu")), dense)), samples)
    format_ = integers.tensors["f"].stored
    assert not format_.signed
    assert 0 < format_.zero_point < 20


def test_chains_and_expressions_of_one_tensor_become_one_table() -> None:
    random = np.random.default_rng(3)
    dense = Dense(
        name="a",
        inputs=("x",),
        output="a",
        source=SOURCE,
        weight=random.normal(0, 0.3, (4, 6)).astype(np.float32),
        bias=np.zeros(4, np.float32),
    )
    scaled = Affine(
        name="s", inputs=("t",), output="s", source=SOURCE, scale=np.float32([2]), offset=np.float32([1]), axis=0
    )
    total = Add(name="y", inputs=("s", "a"), output="y", source=SOURCE)
    original = graph((1, 6), (dense, _lookup("t", ("a",), *applied("tanh")), scaled, total))
    fused = simplify(original)
    assert [op.kind for op in fused.ops] == ["dense", "lookup"]
    samples = random.normal(0, 2, (20, 1, 6)).astype(np.float32)
    np.testing.assert_allclose(fused.run(samples), original.run(samples), rtol=1e-5, atol=1e-6)
