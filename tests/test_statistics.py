"""Ranges, noise and weight histograms against plain formulas, and the layers that lose accuracy by name."""

import json
import math
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from command_line import FOUR_VIEW, MODELS, SAMPLES, compile_digits, succeed
from graphs import GRAPHS, dense, graph
from mcucompile.calibrate import calibrate
from mcucompile.encodings import ENCODINGS
from mcucompile.ir import Array, Graph
from mcucompile.ops import weights_of
from mcucompile.passes import simplify
from mcucompile.quantize import parse_weights, quantize
from mcucompile.statistics import BINS, Statistics, measure

DENSE = MODELS / "dense_784_100_100_10.onnx"


def quantized(name: str, weights: str = "int8") -> tuple[Graph, Graph, Array]:
    """Return a test graph of reals, the same in integers, and input codes."""
    random = np.random.default_rng(5)
    real = simplify(GRAPHS[name](random))
    shape = (24, *real.input.shape)
    samples = random.integers(0, 256, shape).astype(np.uint8) if real.input.format else random.normal(0, 1, shape)
    calibration = calibrate(real, samples)
    return real, quantize(real, calibration, parse_weights(weights, real), 2), calibration.codes


def decibel(exact: Array, approximate: Array) -> float | None:
    noise = sum((float(a) - float(b)) ** 2 for a, b in zip(exact.flat, approximate.flat, strict=True))
    signal = sum(float(a) ** 2 for a in exact.flat)
    return None if noise == 0 else 10 * math.log10(signal / noise)


def near(measured: float | None, expected: float | None) -> bool:
    return measured == expected if None in (measured, expected) else measured == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("name", GRAPHS)
def test_noise_and_ranges(name: str) -> None:
    real, integers, codes = quantized(name)
    result = measure(real, integers, codes)
    assert 1 <= result.samples <= len(codes)
    codes = codes[: result.samples]
    source = integers.input.stored.dequantize(codes).astype(np.float32)
    assert (result.input_minimum, result.input_maximum) == pytest.approx((source.min(), source.max()), rel=1e-5)
    exact = {integers.inputs[0]: source} | {op.output: value for op, value in real.execute(source)}
    meant = {integers.inputs[0]: source}
    for op, value in integers.execute(codes):
        meant[op.output] = integers.tensors[op.output].stored.dequantize(value).astype(np.float32)
    assert [layer.name for layer in result.layers] == [op.name for op in integers.layers]
    real_ops = {op.output: op for op in real.ops}
    for op, layer in zip(integers.layers, result.layers, strict=True):
        wanted = exact[op.output]
        assert (layer.minimum, layer.maximum) == pytest.approx((wanted.min(), wanted.max()), rel=1e-5)
        assert near(layer.sqnr_db, decibel(wanted, meant[op.output]))
        alone = real_ops[op.output].run(*(meant[read] for read in op.inputs))
        assert near(layer.own_sqnr_db, decibel(alone, meant[op.output]))
        levels = [decibel(exact[read], meant[read]) for read in op.inputs]
        noisy = [level for level in levels if level is not None]
        if noisy and layer.sqnr_db is not None:
            assert layer.drop_db == pytest.approx(min(noisy) - layer.sqnr_db, abs=0.02)
        else:
            assert layer.drop_db is None


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_weight_histogram(encoding: str) -> None:
    _, integers, _ = quantized("dense_relu_dense", encoding)
    real, _, codes = quantized("dense_relu_dense", encoding)
    for op, layer in zip(integers.layers, measure(real, integers, codes).layers, strict=True):
        (stored,), (measured,) = weights_of(op), layer.weights
        reals = stored.values * stored.scale[:, None]
        assert (measured.encoding, measured.bits, measured.count) == (encoding, ENCODINGS[encoding].bits, reals.size)
        assert (measured.minimum, measured.maximum) == pytest.approx((reals.min(), reals.max()), rel=1e-5)
        assert measured.zeros == int((stored.values == 0).sum())
        assert measured.distinct == len(set(stored.values.flat))
        assert measured.histogram == tuple(np.histogram(reals, bins=BINS)[0])
        assert sum(measured.histogram) == measured.count


def test_layers_without_weights_and_without_noise() -> None:
    result = measure(*quantized("four_view"))
    assert (result.layers[0].own_sqnr_db, result.layers[0].weights) == (None, ())


def measured_digits(weights: str) -> Statistics:
    from mcucompile.driver import Options, quantize_model  # noqa: PLC0415

    return quantize_model(DENSE, str(SAMPLES), Options(weights=weights)).statistics


@pytest.mark.parametrize("layer", ["fc1", "fc2", "fc3"])
def test_the_layer_that_loses_accuracy_is_named(layer: str) -> None:
    plain, rough = measured_digits("int8"), measured_digits(f"int8,{layer}=log3")
    assert rough.worst[0].name == layer
    position = [other.name for other in rough.layers].index(layer)
    before, after = plain.layers[position].own_sqnr_db, rough.layers[position].own_sqnr_db
    assert before is not None
    assert after is not None
    assert after < before - 10


def test_eight_bits_are_better_than_four() -> None:
    fine, rough = measured_digits("int8"), measured_digits("int4")
    for eight, four in zip(fine.layers, rough.layers, strict=True):
        assert eight.sqnr_db is not None
        assert four.sqnr_db is not None
        assert eight.sqnr_db > four.sqnr_db + 6


def test_memory_stays_bounded() -> None:
    """Wide layers are measured on few samples, and no real copy of all weights is made."""
    random = np.random.default_rng(1)
    real = graph((1, 512, 64), (dense(random, "x", "a", 64, 4096), dense(random, "a", "y", 4096, 2)))
    samples = random.normal(0, 1, (4, *real.input.shape)).astype(np.float32)
    calibration = calibrate(real, samples)
    integers = quantize(real, calibration, parse_weights("int8", real), 2)
    tensors = sum(4 * tensor.size for tensor in real.tensors.values())
    tracemalloc.start()
    result = measure(real, integers, calibration.codes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.samples == 1
    assert peak < 16 * tensors


def test_analyze_says_it(tmp_path: Path) -> None:
    facts = succeed("analyze", DENSE, "--samples", SAMPLES, "--weights", "int8,fc2=log3", "--json").json
    assert facts["loses_most"][0] == "fc2"
    for layer in facts["layers"]:
        assert layer["range"][0] < layer["range"][1]
        assert layer["own_sqnr_db"] >= layer["sqnr_db"] - 1
        assert layer["output_format"]
        (weights,) = layer["weight_statistics"]
        assert len(weights["histogram"]) == BINS
        assert sum(weights["histogram"]) == weights["count"]
    text = succeed("analyze", DENSE, "--samples", SAMPLES, "--weights", "int8,fc2=log3").out
    assert "most accuracy is lost in 'fc2'" in text
    assert len(re.findall(r"fc[123] +-?[\d.]+ \.\. [\d.]+ +[\d.]+ dB +[\d.]+ dB +[▁▂▃▄▅▆▇█ ]+", text)) == 3
    exact = succeed("analyze", FOUR_VIEW, "--samples", SAMPLES).out
    assert re.search(r"four_view +0 \.\. \d+ +exact +exact", exact)
    stored = [
        (compile_digits(tmp_path / name, target="host") / "reference" / "facts.json").read_bytes() for name in "ab"
    ]
    assert stored[0] == stored[1]
    assert str(tmp_path).encode() not in stored[0]
    assert json.loads(stored[0])["directory"] is None
