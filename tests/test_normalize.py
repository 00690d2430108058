"""Softmax, normalisations and products of activations against float, code by code; roots in C against Python."""

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
from graphs import SOURCE, graph
from host_model import SANITIZERS, WARNINGS, build_model, plan_model, run_model
from mcucompile.calibrate import calibrate
from mcucompile.ir import Array, Format, Graph, Op
from mcucompile.numerics import square_root
from mcucompile.ops import Affine, LogSoftmax, MatMul, Multiply, Normalize, Reshape, Softmax
from mcucompile.ops.normalize import inverse_root
from mcucompile.quantize import parse_activations, parse_weights, quantize
from mcucompile.resources import resource_dir

_DRIVER = r"""
#include "mcu_normalize.h"
#include <stdio.h>

int main(void)
{
    uint64_t v;
    while (fread(&v, sizeof v, 1, stdin) == 1) {
        uint32_t exponent;
        const uint32_t root = mcu_root_u64(v);
        const int32_t inverse = mcu_inverse_root_u64(v, &exponent);
        const uint32_t found[3] = {root, (uint32_t)inverse, exponent};
        fwrite(found, sizeof found, 1, stdout);
    }
    return 0;
}
"""


@pytest.mark.parametrize("flags", [(), ("-DMCU_NO_MULTIPLY",)])
def test_roots_in_c_equal_python_and_the_whole_root(flags: tuple[str, ...], tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    powers = [(1 << bits) + offset for bits in range(62) for offset in (-1, 0, 1)]
    squares = [n * n + offset for n in (3, 1000, 46341, 2**30, 2**31 - 1) for offset in (-1, 0, 1)]
    some = [int(v) for v in random.integers(0, 2**62, 2000) >> random.integers(0, 62, 2000)]
    values = [v for v in (*powers, *squares, *some) if 0 <= v < 2**62]
    array = np.array(values, dtype=np.int64)
    roots = square_root(array)
    assert roots.tolist() == [math.isqrt(v) for v in values]
    inverse, exponent = inverse_root(array)
    for v, i, e in zip(values, inverse.tolist(), exponent.tolist(), strict=True):
        assert v == 0 or abs(i / 2.0**e * math.sqrt(v) - 1) < 2.0**-14
        assert (i == 0) == (v == 0)
    (tmp_path / "driver.c").write_text(_DRIVER)
    program = tmp_path / "driver"
    include = f"-I{resource_dir('runtime_c')}"
    command = ["gcc", *WARNINGS, *SANITIZERS, *flags, "-O1", include, tmp_path / "driver.c", "-o", program]
    subprocess.run(command, check=True, timeout=60)
    done = subprocess.run([program], input=array.tobytes(), capture_output=True, check=True, timeout=60)
    found = np.frombuffer(done.stdout, np.uint32).reshape(-1, 3).astype(np.int64)
    assert np.array_equal(found, np.stack([roots, inverse, exponent], 1))


def _integers(op: Op, shape: tuple[int, ...], samples: Array, bits: int, *, is_result: bool) -> Graph:
    """Return an integer graph in which `op` reads activations of some bits and makes a result or an activation."""
    first = Affine(
        name="a", inputs=("x",), output="a", source=SOURCE, scale=np.float32([1]), offset=np.float32([0]), axis=0
    )
    # A view and a softmax after it make the output an activation.
    tail = Softmax(name="t", inputs=(op.output,), output="t", source=SOURCE)
    real = graph(shape, (first, op) if is_result else (first, op, tail))
    activations = parse_activations("int8" if bits == 8 else "int16", real)
    return quantize(real, calibrate(real, samples), parse_weights("int8", real), 2, activations=activations)


def _errors(integers: Graph, real: Op, samples: Array) -> tuple[Array, Format]:
    """Return the layer's own error for every element, its input being exact, and its output's format."""
    source = integers.tensors["a"].stored
    codes = source.quantize(samples)
    layer = integers.ops[1]
    format_ = integers.tensors[layer.output].stored
    exact = real.run(source.dequantize(codes)).astype(np.float64)
    return format_.dequantize(layer.run(codes)) - exact, format_


_SHAPE = (3, 40, 2)
_OPERATORS = {
    "deviation": Normalize(name="n", inputs=("a",), output="n", source=SOURCE, function="deviation", epsilon=1e-5),
    "root_mean_square": Normalize(
        name="n", inputs=("a",), output="n", source=SOURCE, function="root_mean_square", epsilon=1e-5
    ),
    "l2": Normalize(name="n", inputs=("a",), output="n", source=SOURCE, function="l2"),
    "l1": Normalize(name="n", inputs=("a",), output="n", source=SOURCE, function="l1"),
    "softmax": Softmax(name="n", inputs=("a",), output="n", source=SOURCE),
    "log_softmax": LogSoftmax(name="n", inputs=("a",), output="n", source=SOURCE),
}


@pytest.mark.parametrize("is_result", [True, False])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", _OPERATORS)
def test_rows_against_float(name: str, bits: int, is_result: bool) -> None:
    """Stated bounds on a layer's own error: half an output code, and 2**-10 (8 bits) or 2**-12 of the range.

    A format may clip what is rare: an activation's error is its root mean square.
    """
    random = np.random.default_rng(3)
    samples = random.normal(0, 1, (60, *_SHAPE)) * random.uniform(0.3, 2, (60, 1, 1, 1))
    operator = _OPERATORS[name]
    integers = _integers(operator, _SHAPE, samples, bits, is_result=is_result)
    errors, format_ = _errors(integers, operator, samples)
    spread = float(np.ptp(operator.run(samples)))
    if is_result:
        assert np.abs(errors).max() <= 0.51 * format_.scale + spread * 2.0 ** (-12 if bits == 16 else -11)
    else:
        assert np.sqrt(np.mean(np.square(errors))) <= spread * (2.0**-12 if bits == 16 else 2.0**-8.5)


def test_rows_of_one_value_are_zero() -> None:
    for function in ("deviation", "root_mean_square", "l2", "l1"):
        operator = Normalize(name="n", inputs=("a",), output="n", source=SOURCE, function=function)
        samples = np.random.default_rng(1).normal(0, 1, (20, *_SHAPE))
        integers = _integers(operator, _SHAPE, samples, 8, is_result=True)
        layer = integers.ops[1]
        zero = integers.tensors["a"].stored.zero_point
        assert not layer.run(np.full((1, *_SHAPE), zero)).any()


@pytest.mark.parametrize("has_multiplier", [True, False])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", [*_OPERATORS, "matmul", "multiply"])
def test_c_equals_the_reference(name: str, bits: int, has_multiplier: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    samples = random.normal(0, 1, (30, *_SHAPE))
    operator = _OPERATORS.get(name)
    if operator is None:
        view = Reshape(name="v", inputs=("a",), output="v", source=SOURCE, shape=(3, 2, 40))
        kind = MatMul if name == "matmul" else Multiply
        second = "v" if name == "matmul" else "a"
        product = kind(name="n", inputs=("a", second), output="n", source=SOURCE)
        first = Affine(
            name="a", inputs=("x",), output="a", source=SOURCE, scale=np.float32([1]), offset=np.float32([0]), axis=0
        )
        real = graph(_SHAPE, (first, view, product) if name == "matmul" else (first, product))
        activations = parse_activations("int8" if bits == 8 else "int16", real)
        integers = quantize(real, calibrate(real, samples), parse_weights("int8", real), 2, activations=activations)
    else:
        integers = _integers(operator, _SHAPE, samples, bits, is_result=bits == 8)
    source = integers.input.stored
    ends = [np.full((1, *_SHAPE), code) for code in (source.minimum, 0, source.maximum)]
    mixed = np.where(random.random((5, *_SHAPE)) < 0.5, source.minimum, source.maximum)
    codes = np.concatenate([*ends, mixed, source.quantize(samples)])
    program = build_model(plan_model(integers, has_multiplier=has_multiplier), tmp_path, flags=("-O1", *SANITIZERS))
    found = integers.run(codes)
    assert np.array_equal(run_model(program, integers, codes), found)
    if name in ("matmul", "multiply"):
        # Products are exact; at 16 bits each loses bits far below the result's.
        middle = integers.tensors["a"].stored
        reals = middle.dequantize(integers.ops[0].run(codes))
        exact = reals @ reals.reshape(-1, 3, 2, 40) if name == "matmul" else reals * reals
        error = np.abs(integers.result.stored.dequantize(found) - exact)[8:].max()
        assert error <= np.abs(exact[8:]).max() * 2.0**-14
