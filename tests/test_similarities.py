"""Similarities: integer references against loops, bounds, every kernel in C, formats that weights cannot share."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from mcucompile.calibrate import calibrate
from mcucompile.errors import QuantizationError, UnsupportedError, UserError
from mcucompile.ir import Format, Graph, Op, Source, Tensor, build_graph
from mcucompile.kernels import Core
from mcucompile.numerics import Int, Real
from mcucompile.ops import Add, Affine, AveragePool, Dense, IntegerDense, Lookup, Reshape
from mcucompile.ops.formula import Step, X
from mcucompile.ops.similar import sum_bounds
from mcucompile.ops.window import Window
from mcucompile.passes import simplify
from mcucompile.plan import parse_kernels, select_kernels
from mcucompile.quantize import parse_activations, parse_weights, quantize
from mcucompile.similarities import SIMILARITIES

SOURCE = Source("model.onnx", "layer", "Layer")


def _sign(v: float) -> int:
    return int(v > 0) - int(v < 0)


# The formulas as the papers print them, of one x and one w, in the units that the references sum in.
FORMULAS: dict[str, Callable[[float, float], float]] = {
    "dot": lambda x, w: x * w,
    "adder": lambda x, w: -abs(x - w),
    "euclid": lambda x, w: -((x - w) ** 2),
    "minconv": lambda x, w: _sign(x) * _sign(w) * min(abs(x), abs(w)),
    "mfo": lambda x, w: _sign(x) * _sign(w) * (abs(x) + abs(w)),
    "trig": lambda x, w: round(4096 * math.cos((x - w) / 128)) - round(4096 * math.cos((x + w) / 128)),
    "binary": lambda x, w: (1 if x >= 0 else -1) * (1 if w >= 0 else -1),
    "ternary": lambda x, w: x * _sign(w),
}
# CORDIC's cosines are one step of 2**-15 from the nearest, which may tip the rounding to 2**-12.
TOLERANCE = {"trig": 2}


def test_the_table_is_complete() -> None:
    assert list(SIMILARITIES) == list(FORMULAS)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_terms_and_sums_are_the_formula(name: str) -> None:
    limit = 200 if name == "trig" else 127
    values = np.array([-limit, -limit + 1, -3, -1, 0, 1, 2, 77, limit - 1, limit])
    for x, w in itertools.product(values, values):
        expected = FORMULAS[name](int(x), int(w))
        assert abs(int(SIMILARITIES[name].term(x, w)) - expected) <= TOLERANCE.get(name, 0), (x, w)
    random = np.random.default_rng(3)
    x = random.integers(-limit, limit + 1, (5, 4, 23))
    w = random.integers(-limit, limit + 1, (7, 23))
    expected_sums = np.array(
        [
            [
                [sum(int(SIMILARITIES[name].term(a, b)) for a, b in zip(row, of, strict=True)) for of in w]
                for row in rows
            ]
            for rows in x
        ]
    )
    assert np.array_equal(SIMILARITIES[name].accumulate(x, w), expected_sums)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_reals_are_the_formula(name: str) -> None:
    real: dict[str, Callable[[float, float], float]] = FORMULAS | {
        "euclid": lambda x, w: -((x - w) ** 2) / 2,
        "trig": lambda x, w: math.sin(x) * math.sin(w),
    }
    random = np.random.default_rng(4)
    x, w = random.normal(0, 1, (6, 11)), random.normal(0, 1, (5, 11))
    x[0, :3], w[0, 2:4] = 0, 0
    expected = [[sum(real[name](a, b) for a, b in zip(row, of, strict=True)) for of in w] for row in x]
    assert np.allclose(SIMILARITIES[name].real(x, w), expected)


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("format_", [Format(8, False, limits=(0, 201)), Format(8, True, limits=(-127, 127))])
def test_bounds_are_reached_and_never_left(name: str, format_: Format) -> None:
    values = np.array([[-100, 0, 100, 3], [1, 1, -1, 0]])
    low, high = sum_bounds(SIMILARITIES[name], values, format_)
    codes = np.arange(format_.minimum, format_.maximum + 1)
    # Each input alone reaches its end; the sum of ends is the end of the sum.
    alone = [[FORMULAS[name](int(x), int(w)) for x in codes] for w in values.reshape(-1)]
    ends = np.array([[min(one), max(one)] for one in alone]).reshape(2, 4, 2).sum(axis=1)
    assert np.abs(np.stack([low, high], axis=1) - ends).max() <= 4 * TOLERANCE.get(name, 0)


def _graph(*ops: Op, format_: Format | None = None) -> Graph:
    return build_graph("net", (Tensor("x", (1, 4), format_),), (ops[-1].output,), ops, SOURCE)


def _dense(similarity: str, weight: Int, x: str = "x", y: str = "y") -> Dense:
    bias = np.zeros(len(weight), np.float32)
    return Dense(
        name=y, inputs=(x,), output=y, source=SOURCE, weight=weight.astype(np.float32), bias=bias, similarity=similarity
    )


def _quantize(graph: Graph, activations: str = "int8") -> Graph:
    real = simplify(graph)
    samples = np.random.default_rng(5).uniform(0, 255 if real.input.format else 1, (40, *real.input.shape))
    calibration = calibrate(real, np.floor(samples) if real.input.format else samples)
    return quantize(real, calibration, parse_weights("int8", real), 2, activations=parse_activations(activations, real))


WIDE = np.array([[900, -3, 255, 17], [-700, 1, -40, 300]])


def _of_raw_inputs(name: str) -> tuple[Format, IntegerDense, Int, Real]:
    """Return the format and the layer that wide weights get for bytes, what they give, and what is exact."""
    integers = _quantize(_graph(_dense(name, WIDE), format_=Format(8, False)))
    rescale, layer = integers.ops
    assert isinstance(layer, IntegerDense)
    x = np.random.default_rng(9).integers(8, 256, (50, 1, 4))
    exact = np.array([[sum(map(FORMULAS[name], row, weight)) for weight in WIDE] for row in x[:, 0].tolist()])
    found = integers.result.stored.dequantize(integers.run(x)).reshape(exact.shape)
    return integers.tensors[rescale.output].stored, layer, found, exact


def test_a_raw_input_is_brought_to_a_scale_that_has_room_for_the_weights() -> None:
    source, _layer, found, exact = _of_raw_inputs("mfo")
    assert source.scale * 127 >= 900
    # Sums of four terms in steps of about 7, half of one each, and what small calibration inputs add to the mean.
    assert np.abs(found - exact).max() < 6 * source.scale


@pytest.mark.parametrize("name", ["adder", "minconv"])
def test_weights_beyond_every_input_take_no_room_from_it(name: str) -> None:
    source, layer, found, exact = _of_raw_inputs(name)
    assert source.scale * 127 < 256
    assert np.abs(layer.weights.values).max() == 127
    assert np.abs(found - exact).max() < 4 * source.scale


@pytest.mark.parametrize("name", SIMILARITIES)
def test_what_clamping_a_weight_changes_does_not_depend_on_inputs(name: str) -> None:
    x, w = np.arange(-9, 10)[:, None], np.arange(-40, 41)
    clamped = np.clip(w, -9, 9)
    term, beyond = SIMILARITIES[name].term, SIMILARITIES[name].beyond
    change = term(x, w) - term(x, clamped)
    assert (beyond is not None) == (name in {"adder", "minconv"})
    if beyond is not None:
        assert np.array_equal(change, np.broadcast_to(beyond(w, clamped), change.shape))
    elif not SIMILARITIES[name].signs:
        assert np.ptp(change, axis=0).any()


def test_weights_and_inputs_share_a_scale() -> None:
    random = np.random.default_rng(6)
    first = _dense("adder", random.normal(0, 1, (4, 4)), "x", "a")
    integers = _quantize(_graph(first, _dense("minconv", random.normal(0, 5, (3, 4)), "a", "y")))
    for op in integers.ops:
        if isinstance(op, IntegerDense):
            assert float(op.weights.scale[0]) == integers.tensors[op.inputs[0]].stored.scale
            assert np.abs(op.weights.values).max() <= 127


def test_angles_have_one_scale_and_end_at_a_right_angle() -> None:
    random = np.random.default_rng(7)
    ops = [
        _dense("trig", random.uniform(-1.5, 1.5, (4, 4)), "x", "a"),
        _dense("trig", random.normal(0, 0.5, (3, 4)), "a"),
    ]
    integers = _quantize(_graph(*ops))
    for op in integers.ops:
        if isinstance(op, IntegerDense):
            format_ = integers.tensors[op.inputs[0]].stored
            assert format_.scale == 2.0**-7
            assert max(-format_.minimum, format_.maximum) <= 201
            assert np.abs(op.weights.values).max() <= 201


def test_what_shares_a_scale_has_8_bits_unless_a_user_insists() -> None:
    random = np.random.default_rng(8)
    ops = [_dense("dot", random.normal(0, 1, (4, 4)), "x", "a"), _dense("euclid", random.normal(0, 1, (3, 4)), "a")]
    assert _quantize(_graph(*ops), "int16").tensors["a"].stored.bits == 8
    with pytest.raises(QuantizationError, match=r"euclid compares 8-bit weights .* 16 bits; .*--activations"):
        _quantize(_graph(*ops), "int8,a=int16")


@pytest.mark.parametrize("value", [1.6, -2.0])
def test_weights_that_are_no_angles_are_refused(value: float) -> None:
    weight = np.array([[0.1, value, 0.3, 0.0]])
    with pytest.raises(QuantizationError, match=r"has a weight of .*; trig takes up to 1.571"):
        _quantize(_graph(_dense("trig", weight)))


def test_a_batch_norm_becomes_the_multiplier_and_never_the_weights() -> None:
    """Also one with factors that are negative or nothing: the former turn the sum around."""
    random = np.random.default_rng(9)
    scale = np.array([0.5, -2.0, 0.0, 1e-9], np.float32)
    norm = Affine(name="n", inputs=("a",), output="n", source=SOURCE, scale=scale, offset=scale + 1, axis=1)
    real = simplify(_graph(_dense("adder", random.normal(0, 1, (4, 4)), "x", "a"), norm))
    layer = real.ops[-1]
    assert isinstance(layer, Dense)
    assert layer.gain is not None
    assert np.array_equal(layer.gain, scale)
    integers = _quantize(_graph(_dense("adder", random.normal(0, 1, (4, 4)), "x", "a"), norm))
    multiplier = integers.ops[-1].requantize.multiplier  # type: ignore[attr-defined]
    assert (multiplier < 0).tolist() == [False, True, False, False]


def test_kernels_can_be_chosen_and_bad_choices_are_named() -> None:
    random = np.random.default_rng(10)
    integers = _quantize(_graph(_dense("trig", random.normal(0, 0.5, (3, 4)))))
    core = Core(has_multiplier=False)
    assert select_kernels(integers, core, parse_kernels("y=cordic", integers))[-1].kernel.name == "cordic"
    assert select_kernels(integers, core)[-1].kernel.name == "cosine table"
    with pytest.raises(UserError, match="no layer is called 'z'"):
        parse_kernels("z=cordic", integers)
    with pytest.raises(
        UnsupportedError, match="cannot use the kernel 'multiply': computes dot only; use cosine table, cordic"
    ):
        select_kernels(integers, core, {"y": "multiply"})
    with pytest.raises(UnsupportedError, match="'fast': there is no such one"):
        select_kernels(integers, core, {"y": "fast"})


def test_what_is_read_for_signs_keeps_them() -> None:
    """A small negative value must not be rounded to 0, whose sign is 1."""
    random = np.random.default_rng(11)
    first = _dense("dot", random.normal(0, 1, (4, 4)), "x", "a")
    real = simplify(_graph(first, _dense("binary", random.normal(0, 1, (4, 4)), "a", "b")))
    integers = _quantize(real)
    samples = random.uniform(0, 1, (2000, 1, 4)).astype(np.float32)
    _, exact = next(real.execute(samples))
    _, found = next(integers.execute(integers.input.stored.quantize(samples)))
    assert np.mean((exact < 0) == (found < 0)) > 0.995
    # Once anything else reads the values, they are what measures best.
    second = Add(name="y", inputs=("a", "b"), output="y", source=SOURCE)
    both = _quantize(_graph(first, _dense("binary", random.normal(0, 1, (4, 4)), "a", "b"), second))
    assert both.tensors["a"].stored.scale > 16 * integers.tensors["a"].stored.scale


@pytest.mark.parametrize("similarity", ["adder", "binary", "ternary"])
def test_a_function_before_a_layer_may_have_a_zero_point(similarity: str) -> None:
    """HardSwish gives values from -0.375 up, which have one; the layers take none."""
    random = np.random.default_rng(12)
    function = Lookup(name="f", inputs=("a",), output="f", source=SOURCE, formula=(X, Step("hard_swish")))
    first = _dense("dot", random.normal(0, 3, (4, 4)), "x", "a")
    integers = _quantize(_graph(first, function, _dense(similarity, np.sign(random.normal(0, 1, (3, 4))), "f")))
    layer = integers.ops[-1]
    assert isinstance(layer, IntegerDense)
    assert integers.tensors["f"].stored.zero_point != 0
    assert integers.tensors[layer.inputs[0]].stored.zero_point == 0


def test_signs_take_a_mean_as_it_is() -> None:
    random = np.random.default_rng(13)
    pool = AveragePool(
        name="p", inputs=("x",), output="p", source=SOURCE, window=Window((2, 2), (2, 2)), counts=((2, 2), (2, 2))
    )
    view = Reshape(name="f", inputs=("p",), output="f", source=SOURCE, shape=(1, 4))
    ops = (pool, view, _dense("ternary", np.sign(random.normal(0, 1, (3, 4))), "f"))
    real = simplify(build_graph("net", (Tensor("x", (1, 4, 4, 1), Format(8, False)),), ("y",), ops, SOURCE))
    integers = quantize(real, calibrate(real, random.integers(0, 256, (9, 1, 4, 4, 1))), parse_weights("int8", real), 2)
    assert [op.kind for op in integers.ops] == ["average_pool", "reshape", "dense"]
    assert integers.tensors["f"].stored.zero_point == 0


@pytest.mark.parametrize("gain", [1.0, 0.37, -2.3])
def test_one_factor_for_all_outputs_becomes_an_exact_multiplier(gain: float) -> None:
    random = np.random.default_rng(14)
    layer = replace(
        _dense("ternary", np.sign(random.normal(0, 1, (3, 4))), "x", "a"), gain=np.full(3, gain, np.float32)
    )
    integers = _quantize(_graph(layer, _dense("ternary", np.eye(4, 3), "a")))
    (op, _) = integers.ops
    assert isinstance(op, IntegerDense)
    multiplier, shift = op.requantize.multiplier.astype(np.float64), op.requantize.shift
    exact = np.float32(gain) * integers.input.stored.scale / integers.tensors["a"].stored.scale
    assert multiplier / 2.0**shift == pytest.approx(exact, rel=1e-9)
