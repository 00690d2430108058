"""Generated C equals the integer reference bit for bit: graphs x encodings x kernels, compilers, sanitizers."""

from pathlib import Path

import numpy as np
import pytest
from graphs import GRAPHS
from host_model import SANITIZERS, build_model, plan_model, run_model
from kernel_models import wrong_on_host
from mcucompile import reference
from mcucompile.calibrate import as_codes, calibrate
from mcucompile.encodings import ENCODINGS
from mcucompile.ir import Array, Graph
from mcucompile.kernels import KERNELS
from mcucompile.ops import ArgMax
from mcucompile.passes import simplify
from mcucompile.quantize import parse_activations, parse_weights, quantize
from merged_graphs import merged

_SEED = 20240501
# Graphs in one program, to be fast, but not all.
_PARTS = 4


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


def _wrong(graphs: list[Graph], folder: Path, flags: tuple[str, ...], *, has_multiplier: bool) -> list[str]:
    """Return the layers whose C is not the reference, of all graphs in one program."""
    assert graphs
    model = plan_model(merged(graphs), has_multiplier=has_multiplier)
    return wrong_on_host(model, folder, flags=flags, random_inputs=60)


@pytest.mark.parametrize("has_multiplier", [True, False])
@pytest.mark.parametrize("signed_input", [True, False])
def test_every_encoding_and_kernel(signed_input: bool, has_multiplier: bool, tmp_path: Path) -> None:
    graphs = [
        _quantized(name, weights, signed_input=signed_input)[1]
        for name in ("dense_relu_dense", "dense_signed_middle", "dense_rows", "conv_same", "conv_groups")
        for weights in ENCODINGS
    ]
    assert _wrong(graphs, tmp_path, ("-O1",), has_multiplier=has_multiplier) == []


@pytest.mark.parametrize("has_multiplier", [True, False])
def test_every_kernel_of_sums_takes_16_bits(has_multiplier: bool, tmp_path: Path) -> None:
    graphs = []
    for name in ("dense_signed_middle", "dense_relu_dense", "conv_same", "conv_depthwise"):
        for weights in ("int8", "int4", "log4", "dlq4"):
            random = np.random.default_rng(_SEED)
            real = simplify(GRAPHS[name](random))
            calibration = calibrate(real, random.normal(0, 1, (60, *real.input.shape)))
            activations = parse_activations("int16", real)
            graphs.append(quantize(real, calibration, parse_weights(weights, real), 2, activations=activations))
            assert {tensor.stored.bits for tensor in graphs[-1].tensors.values()} == {8, 16, 32}
    assert _wrong(graphs, tmp_path, ("-O0", *SANITIZERS), has_multiplier=has_multiplier) == []


@pytest.mark.parametrize("has_multiplier", [True, False])
@pytest.mark.parametrize("part", range(_PARTS))
def test_every_operator_under_sanitizers(part: int, has_multiplier: bool, tmp_path: Path) -> None:
    names = list(GRAPHS)[part::_PARTS]
    graphs = [_quantized(name, "int8", signed_input=True)[1] for name in names]
    assert _wrong(graphs, tmp_path, ("-O0", *SANITIZERS), has_multiplier=has_multiplier) == []


@pytest.mark.parametrize(("compiler", "level"), [("gcc", "-O3"), ("gcc", "-Os"), ("clang", "-O2"), ("clang", "-Os")])
def test_every_compiler(compiler: str, level: str, tmp_path: Path) -> None:
    for name in ("residual", "four_view", "softmax_dense", "affine", "transpose_3d"):
        _, integers, codes = _quantized(name, "dlq4")
        program = build_model(
            plan_model(integers, has_multiplier=False), tmp_path / name, compiler=compiler, flags=(level,)
        )
        assert np.array_equal(run_model(program, integers, codes), integers.run(codes)), name


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
