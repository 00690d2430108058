"""Weights that take over each other's rounding errors: less error in sums, the same codes where nothing is shared."""

import numpy as np
import pytest
from graphs import GRAPHS
from mcucompile.calibrate import calibrate
from mcucompile.encodings import ENCODINGS
from mcucompile.ops.rounding import round_together, spread_of
from mcucompile.passes import simplify
from mcucompile.quantize import parse_weights, quantize


def _whole(weight):
    """Round to whole numbers."""
    values = np.floor(weight + 0.5)
    return values.astype(np.int64), values


def _alike(random, groups, rows, inputs):
    """Inputs that share a few causes, as neighbouring pixels do."""
    causes = random.normal(size=(groups, rows, 3))
    return causes @ random.normal(size=(groups, 3, inputs)) + 0.1 * random.normal(size=(groups, rows, inputs)) + 5


@pytest.mark.parametrize(("groups", "inputs"), [(1, 20), (3, 9), (1, 700), (1, 33)])
def test_sums_of_inputs_that_vary_alike_keep_less_error(groups, inputs):
    random = np.random.default_rng(1)
    rows = _alike(random, groups, 2000, inputs)
    weight = random.normal(0, 2, (groups * 4, inputs))
    codes, error = round_together(weight, _whole, spread_of(rows))
    assert codes.shape == weight.shape

    def deviation(integers):
        difference = (weight - integers).reshape(groups, 4, inputs)
        return (rows @ difference.transpose(0, 2, 1)).var(axis=1).reshape(-1)

    plain, found = deviation(_whole(weight)[1]), deviation(codes)
    assert found.mean() < 0.3 * plain.mean()
    assert (found <= error * 1.01).mean() > 0.9


def test_inputs_that_share_nothing_are_rounded_to_the_nearest():
    signs = np.array([[1 if row >> i & 1 else -1 for i in range(8)] for row in range(256)], dtype=np.float64)
    weight = np.random.default_rng(2).normal(0, 3, (5, 8))
    codes, _ = round_together(weight, _whole, spread_of(signs[None]))
    assert np.array_equal(codes, _whole(weight)[0])


def test_inputs_that_never_vary_are_rounded_to_the_nearest():
    weight = np.random.default_rng(3).normal(0, 3, (2, 40))
    codes, error = round_together(weight, _whole, spread_of(np.full((1, 10, 40), 7.0)))
    assert np.array_equal(codes, _whole(weight)[0])
    assert np.isfinite(error).all()


@pytest.mark.parametrize("weights", ENCODINGS)
def test_every_encoding_loses_less_with_correction(weights):
    random = np.random.default_rng(4)
    real = simplify(GRAPHS["dense_relu_dense"](random))
    samples = _alike(random, 1, 500, 31)[0][:, None]
    calibration = calibrate(real, samples[:250])
    unseen = samples[250:]
    exact = real.run(unseen.astype(np.float32))
    errors = []
    for corrects in (True, False):
        graph = quantize(real, calibration, parse_weights(weights, real), 2, corrects_rounding=corrects)
        found = graph.result.stored.dequantize(graph.run(graph.input.stored.quantize(unseen)))
        errors.append(float(np.square(found - exact).mean()))
    assert errors[0] < 1.1 * errors[1]
    if "8" not in weights:
        assert errors[0] < 0.7 * errors[1]
