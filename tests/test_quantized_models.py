"""Models that come quantized: every tensor within one code of onnxruntime's, C equal to the reference bit for bit."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from host_model import build_model, plan_model, run_model
from mcucompile.calibrate import as_codes
from onnxruntime_models import WAYS, computed, differences, taken
from qonnx_models import SHAPE, qonnx_codes, qonnx_model
from quantized_networks import NETWORKS, quantized_model

# Of the values that every layer alone, and the whole network, gives as onnxruntime does: all, but another processor's
# kernels may round ties in float32 otherwise.
_EQUAL = 0.9999
# Padded means and functions between QDQ nodes are computed in float32 there.
_EQUAL_ALONE, _EQUAL_IN_ALL = 0.997, 0.985


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_tensor_is_within_one_code(network: str, way: str, tmp_path: Path) -> None:
    path, samples = quantized_model(network, way, tmp_path)
    _, graph, calibration = taken(path)
    assert not calibration.guessed, "a fully quantized model needs no samples"
    has_reals_between = network == "branches" and way.startswith("qdq")
    for optimized in (False, True):
        expected = computed(path, samples, optimized=optimized)
        for each_alone, share in ((True, _EQUAL_ALONE), (False, _EQUAL_IN_ALL)):
            least = share if has_reals_between else _EQUAL
            found = differences(graph, samples, expected, each_alone=each_alone)
            assert len(found) >= 3
            # A difference of one code before Tanh and a product is more after them.
            largest = 4 if has_reals_between and not each_alone else 1
            assert {name: int(d.max()) for name, d in found.items() if d.max() > largest} == {}
            equal = np.concatenate([d.reshape(-1) for d in found.values()]) == 0
            assert equal.mean() >= least, f"{equal.mean():.3%} of {equal.size} values equal"


@pytest.mark.parametrize("has_multiplier", [True, False])
@pytest.mark.parametrize("way", ["qdq_s8_s8_channels", "qdq_u8_s8_asymmetric", "qoperator_u8_u8"])
@pytest.mark.parametrize("network", NETWORKS)
def test_c_equals_the_reference(network: str, way: str, has_multiplier: bool, tmp_path: Path) -> None:
    path, samples = quantized_model(network, way, tmp_path)
    _, graph, _ = taken(path)
    source = graph.input.stored
    random = np.random.default_rng(2)
    shape = graph.input.shape
    codes = np.concatenate(
        [
            as_codes(samples.reshape(-1, *shape), source),
            random.integers(source.minimum, source.maximum + 1, (20, *shape)),
            *(np.full((1, *shape), code) for code in (source.minimum, source.zero_point, source.maximum)),
        ]
    )
    program = build_model(plan_model(graph, has_multiplier=has_multiplier), tmp_path / "c")
    assert np.array_equal(run_model(program, graph, codes), graph.run(codes))


@pytest.mark.parametrize("rounding_mode", ["ROUND", "FLOOR", "CEIL"])
def test_quant_nodes_are_taken_exactly(rounding_mode: str, tmp_path: Path) -> None:
    """Powers of two, fewer than 8 bits: every code of every tensor equals what onnxruntime computes step by step."""
    path = tmp_path / "quantized.onnx"
    onnx.save(qonnx_model(rounding_mode, expanded=False), path)
    samples = np.random.default_rng(4).normal(0, 1.5, (40, *SHAPE)).astype(np.float32)
    _, graph, calibration = taken(path)
    assert not calibration.guessed
    expected = qonnx_codes(rounding_mode, samples, tmp_path)
    found = differences(graph, samples, expected, each_alone=False)
    assert [name.split("@")[0] for name in found] == ["four_bits", "five_bits", "y"]
    assert not any(difference.any() for difference in found.values())
    assert len(np.unique(expected["four_bits"])) == 16
    codes = as_codes(samples, graph.input.stored).reshape(-1, *graph.input.shape)
    program = build_model(plan_model(graph, has_multiplier=False), tmp_path / "c")
    assert np.array_equal(run_model(program, graph, codes), graph.run(codes))
