"""Activations of 16 bits, alone and beside 8 bits: every operator, sums that fit int32, less noise."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graphs import GRAPHS, dense, graph
from host_model import SANITIZERS, build_models, plan_model, run_model
from mcucompile.calibrate import Calibration, calibrate
from mcucompile.errors import QuantizationError, UserError
from mcucompile.ir import Array, Graph
from mcucompile.ops import IntegerDense
from mcucompile.passes import check_accumulators, simplify
from mcucompile.quantize import Choice, parse_activations, parse_weights, quantize

_PARTS = 12
# Weights that share a scale with their inputs have 8 bits, and so have those (tests/test_similarities.py).
WIDE = [name for name in GRAPHS if not name.endswith(("adder", "euclid", "minconv", "mfo", "trig"))]


def _calibrated(name: str) -> tuple[Graph, Calibration]:
    random = np.random.default_rng(20240501)
    real = simplify(GRAPHS[name](random))
    shape = (120, *real.input.shape)
    samples = random.integers(0, 256, shape).astype(np.uint8) if real.input.format else random.normal(0, 1, shape)
    return real, calibrate(real, samples)


def _codes(integers: Graph, calibration: Calibration) -> Array:
    source = integers.input.stored
    random = np.random.default_rng(3).integers(source.minimum, source.maximum + 1, (40, *integers.input.shape))
    ends = [np.full((1, *integers.input.shape), code) for code in (source.minimum, source.maximum)]
    return np.concatenate([*ends, calibration.codes[:30], random])


def _mixed(real: Graph, phase: int) -> Choice[int]:
    """Return 8 and 16 bits for every other layer."""
    return Choice(8, {op.name: 16 if index % 2 == phase else 8 for index, op in enumerate(real.layers)})


@pytest.mark.parametrize("part", range(_PARTS))
def test_every_operator_under_sanitizers(part: int, tmp_path: Path) -> None:
    cases = []
    for name in WIDE[part::_PARTS]:
        real, calibration = _calibrated(name)
        for weights, activations in (("int8", Choice(16, {})), ("dlq4", Choice(16, {})), ("int4", _mixed(real, 0))):
            integers = quantize(real, calibration, parse_weights(weights, real), 2, activations=activations)
            integers = replace(integers, name=f"net{len(cases)}")
            cases.append((f"{name} {weights}", integers, _codes(integers, calibration)))
    assert cases
    models = [plan_model(integers, has_multiplier=number % 2 == 0) for number, (_, integers, _) in enumerate(cases)]
    program = build_models(models, tmp_path, flags=("-O1", *SANITIZERS))
    for number, (name, integers, codes) in enumerate(cases):
        assert np.array_equal(run_model(program, integers, codes, number), integers.run(codes)), name


@pytest.mark.parametrize("name", WIDE)
def test_integers_stay_near_reals(name: str) -> None:
    real, calibration = _calibrated(name)
    exact = real.run(calibration.input_format.dequantize(calibration.codes).astype(np.float32)).astype(np.float64)
    for activations in (Choice(16, {}), _mixed(real, 0), _mixed(real, 1)):
        integers = quantize(real, calibration, parse_weights("int8", real), 2, activations=activations)
        found = integers.result.stored.dequantize(integers.run(calibration.codes))
        if integers.result.stored.scale == 1.0:
            assert np.mean(exact == found) > 0.9
        else:
            error = np.sqrt(np.mean(np.square(exact - found)))
            assert error < 0.03 * (exact.max() - exact.min()), activations


def _deep(inputs: int) -> tuple[Graph, Calibration]:
    random = np.random.default_rng(9)
    layers = (
        dense(random, "x", "a", 30, inputs, relu=True),
        dense(random, "a", "b", inputs, 20),
        dense(random, "b", "y", 20, 8),
    )
    real = simplify(graph((1, 30), layers))
    return real, calibrate(real, random.normal(0, 1, (200, 1, 30)))


def _noise(real: Graph, calibration: Calibration, bits: int, weights: str = "int8") -> float:
    """Return the share of noise in the result in dB."""
    integers = quantize(real, calibration, parse_weights(weights, real), 2, activations=Choice(bits, {}))
    exact = real.run(calibration.input_format.dequantize(calibration.codes).astype(np.float32)).astype(np.float64)
    found = integers.result.stored.dequantize(integers.run(calibration.codes))
    return float(10 * np.log10(np.square(exact - found).mean() / np.square(exact).mean()))


@pytest.mark.parametrize(("inputs", "room"), [(64, -1.5), (640, -1.5), (4000, 1.0)])
def test_long_sums_fit_and_have_no_more_noise_than_with_8_bits(inputs: int, room: float) -> None:
    """Some thousand inputs leave the weights 5 bits: as exact as 8-bit activations, no more."""
    real, calibration = _deep(inputs)
    assert _noise(real, calibration, 16) < min(_noise(real, calibration, 8) + room, -30)


@pytest.mark.parametrize("weights", ["int4", "log4", "dlq4", "dlq4half"])
def test_other_encodings_lose_nothing_by_16_bits(weights: str) -> None:
    real, calibration = _deep(640)
    assert _noise(real, calibration, 16, weights) < _noise(real, calibration, 8, weights) + 1.5


def test_a_sum_that_cannot_fit_says_what_would() -> None:
    real, calibration = _deep(640)
    integers = quantize(real, calibration, parse_weights("int8", real), 2, activations=Choice(16, {}))
    first, second, third = integers.ops
    assert isinstance(second, IntegerDense)
    wider = replace(second.requantize, multiplier=second.requantize.multiplier * 64)
    with pytest.raises(QuantizationError, match=r"bits? too many") as caught:
        check_accumulators(replace(integers, ops=(first, replace(second, requantize=wider), third)))
    assert "--activations a=int8" in caught.value.fix


def test_what_is_only_compared_has_16_bits_unless_the_layer_is_named() -> None:
    for name in ("dense_softmax", "dense_argmax", "log_softmax"):
        real, calibration = _calibrated(name)
        scores = real.ops[-1].inputs[0]
        weights = parse_weights("int8", real)
        assert quantize(real, calibration, weights, 2).tensors[scores].stored.bits == 16
        producer = real.producer(scores)
        while producer is not None and producer.is_view:
            producer = real.producer(producer.inputs[0])
        assert producer is not None
        named = parse_activations(f"{producer.name}=int8", real)
        assert quantize(real, calibration, weights, 2, activations=named).tensors[scores].stored.bits == 8
    with pytest.raises(UserError, match="no layer is called 'none'"):
        parse_activations("none=int16", real)
