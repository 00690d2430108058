"""Generated C equals the integer reference bit for bit: graphs x encodings x kernels, compilers, sanitizers."""

from pathlib import Path

import numpy as np
import pytest
from graphs import GRAPHS
from host_model import SANITIZERS, build_model, plan_model, run_model
from mcucompile import reference
from mcucompile.calibrate import as_codes, calibrate
from mcucompile.encodings import ENCODINGS
from mcucompile.ir import Array, Graph
from mcucompile.kernels import KERNELS, Core
from mcucompile.ops import ArgMax
from mcucompile.passes import simplify
from mcucompile.quantize import parse_activations, parse_weights, quantize

_SEED = 20240501


def _quantized(name: str, weights: str, *, signed_input: bool = False) -> tuple[Graph, Graph, Array]:
    """Return the real graph, the integer graph and test codes: edges and random ones."""
    random = np.random.default_rng(_SEED)
    real = simplify(GRAPHS[name](random))
    shape = (120, *real.input.shape)
    samples = random.integers(0, 256, shape).astype(np.uint8) if real.input.format else random.normal(0, 1, shape)
    if not signed_input and real.input.format is None:
        samples = np.abs(samples)
    calibration = calibrate(real, samples)
    integers = quantize(real, calibration, parse_weights(weights, real), 2)
    source = calibration.input_format
    edges = [np.full((1, *real.input.shape), code) for code in (source.minimum, 0, 1, 127, source.maximum)]
    codes = random.integers(source.minimum, source.maximum + 1, (150, *real.input.shape))
    return real, integers, np.concatenate([*edges, as_codes(samples, source), codes])


def test_the_tables_are_complete() -> None:
    assert len(GRAPHS) == 122
    assert len(ENCODINGS) == 14
    assert {kernel.kind for kernel in KERNELS} == {
        "dense", "conv", "lstm", "gru", "affine", "add", "relu", "transpose", "softmax", "arg_max", "four_view",
        "max_pool", "average_pool", "reduce_sum", "reduce_extreme", "take", "concat",
        "lookup", "interpolation", "cordic", "clip", "prelu", "multiply", "extremum",
        "log_softmax", "normalize", "matmul", "pooled_conv",
    }  # fmt: skip


@pytest.mark.parametrize("has_multiplier", [True, False])
@pytest.mark.parametrize("weights", ENCODINGS)
def test_every_encoding_and_kernel(weights: str, has_multiplier: bool, tmp_path: Path) -> None:
    for name in ("dense_relu_dense", "dense_signed_middle", "dense_rows", "conv_same", "conv_groups"):
        for signed_input in (False, True):
            _, integers, codes = _quantized(name, weights, signed_input=signed_input)
            model = plan_model(integers, has_multiplier=has_multiplier)
            program = build_model(model, tmp_path / f"{name}{signed_input}")
            assert np.array_equal(run_model(program, integers, codes), integers.run(codes)), name


@pytest.mark.parametrize("has_multiplier", [True, False])
@pytest.mark.parametrize("weights", ["int8", "int4", "log4", "dlq4"])
@pytest.mark.parametrize("name", ["dense_signed_middle", "dense_relu_dense", "conv_same", "conv_depthwise"])
def test_every_kernel_of_sums_takes_16_bits(name: str, weights: str, has_multiplier: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(_SEED)
    real = simplify(GRAPHS[name](random))
    samples = random.normal(0, 1, (60, *real.input.shape))
    integers = quantize(
        real, calibrate(real, samples), parse_weights(weights, real), 2, activations=parse_activations("int16", real)
    )
    codes = random.integers(integers.input.stored.minimum, integers.input.stored.maximum, (60, *real.input.shape))
    program = build_model(plan_model(integers, has_multiplier=has_multiplier), tmp_path, flags=("-O1", *SANITIZERS))
    assert {tensor.stored.bits for tensor in integers.tensors.values()} == {8, 16, 32}
    assert np.array_equal(run_model(program, integers, codes), integers.run(codes))


@pytest.mark.parametrize("has_multiplier", [True, False])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_operator_under_sanitizers(name: str, has_multiplier: bool, tmp_path: Path) -> None:
    _, integers, codes = _quantized(name, "int8", signed_input=True)
    program = build_model(plan_model(integers, has_multiplier=has_multiplier), tmp_path, flags=("-O1", *SANITIZERS))
    assert np.array_equal(run_model(program, integers, codes), integers.run(codes))


@pytest.mark.parametrize(("compiler", "level"), [("gcc", "-O3"), ("gcc", "-Os"), ("clang", "-O2"), ("clang", "-Os")])
def test_every_compiler(compiler: str, level: str, tmp_path: Path) -> None:
    for name in ("residual", "four_view", "softmax_dense", "affine", "transpose_3d"):
        _, integers, codes = _quantized(name, "dlq4")
        program = build_model(
            plan_model(integers, has_multiplier=False), tmp_path / name, compiler=compiler, flags=(level,)
        )
        assert np.array_equal(run_model(program, integers, codes), integers.run(codes)), name


@pytest.mark.parametrize("name", GRAPHS)
def test_every_applicable_kernel_gives_the_same_bits(name: str) -> None:
    """The planner's choice must not matter; what each kernel emits is compared above, what it refuses here."""
    for weights in ("int8", "log4", "dlq4"):
        _, integers, _ = _quantized(name, weights)
        for layer in plan_model(integers, has_multiplier=False).layers:
            assert layer.kernel.refusal(layer.layer, Core(has_multiplier=False)) is None


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("weights", ["int8", "dlq6"])
def test_integers_stay_near_reals(name: str, weights: str) -> None:
    """The dequantised result lies within a stated share of its range; int8 and 64 levels are nearly lossless."""
    real, integers, codes = _quantized(name, weights)
    inputs = calibrate(real, None).input_format if real.input.format else integers.input.stored
    samples = codes[5:125]
    exact = real.run(inputs.dequantize(samples).astype(np.float32)).astype(np.float64)
    found = integers.result.stored.dequantize(integers.run(samples))
    if isinstance(real.ops[-1], ArgMax):
        assert np.mean(exact == found) > 0.9
        return
    error = np.sqrt(np.mean(np.square(exact - found)))
    assert error < 0.04 * (exact.max() - exact.min()), (name, weights)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_stored_reference_is_the_same_graph(name: str, tmp_path: Path) -> None:
    _, integers, codes = _quantized(name, "log4")
    stored = reference.store(integers)
    assert stored == reference.store(integers)
    for file, content in stored.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(content)
    loaded = reference.load(tmp_path)
    assert np.array_equal(loaded.run(codes), integers.run(codes))
    assert reference.store(loaded) == stored
