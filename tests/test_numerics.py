"""The arithmetic in Python against brute force, and in C against Python, exhaustively or with edges."""

import itertools
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from host_model import WARNINGS
from hypothesis import given
from hypothesis import strategies as st
from mcucompile.numerics import (
    INT32_MAX,
    Int,
    Requantization,
    canonical_signed_digits,
    fraction,
    requantization,
    short_multipliers,
)
from mcucompile.resources import resource_dir


@given(st.integers(0, 2**31))
def test_signed_digits_add_up_and_never_touch(value: int) -> None:
    digits = canonical_signed_digits(value)
    assert sum(sign << shift for sign, shift in digits) == value
    shifts = [shift for _, shift in digits]
    assert all(upper - lower >= 2 for upper, lower in itertools.pairwise(shifts))


def test_signed_digits_are_the_fewest() -> None:
    # Brute force: everything that one or two signed powers of two can make.
    powers = [1 << i for i in range(10)]
    one = set(powers)
    two = {abs(a + s * b) for a in powers for b in powers for s in (1, -1)} - {0}
    for value in range(1, 256):
        least = 1 if value in one else 2 if value in two else 3
        assert min(len(canonical_signed_digits(value)), 3) == least, value


def test_short_multipliers() -> None:
    assert short_multipliers(1, 4) == (1,)
    assert short_multipliers(2, 4) == (1, 3, 5, 7, 9, 15)
    assert short_multipliers(3, 4) == (1, 3, 5, 7, 9, 11, 13, 15)


@given(
    acc=st.integers(-(2**26), 2**26),
    multiplier=st.sampled_from(short_multipliers(2, 4)),
    shift=st.integers(0, 31),
    offset=st.integers(-(2**26), 2**26),
)
def test_requantize_rounds_half_up(acc: int, multiplier: int, shift: int, offset: int) -> None:
    exact = Fraction(acc * multiplier + offset, 2**shift) + Fraction(1, 2)
    expected = exact.numerator // exact.denominator if shift else acc * multiplier + offset
    step = Requantization(np.array([multiplier]), np.array([offset]), np.array([shift]), -(2**31), INT32_MAX)
    assert step.apply(np.array([acc])).tolist() == [max(-(2**31), min(expected, INT32_MAX))]


@given(gain=st.floats(1e-6, 8), bias=st.floats(-1e4, 1e4))
def test_requantization_takes_the_nearest_multiplier_and_recomputes_the_offset(gain: float, bias: float) -> None:
    allowed = short_multipliers(2, 4)
    step = requantization(
        np.array([gain]), np.array([bias]), minimum=-128, maximum=127, zero_point=0, multipliers=allowed
    )
    multiplier, shift = int(step.multiplier[0]), int(step.shift[0])
    chosen = multiplier / 2**shift
    reachable = [m * 2.0**-k for m in allowed for k in range(-8, 32)]
    best = min(reachable, key=lambda value: abs(np.log(value / gain)))
    assert abs(np.log(chosen / gain)) <= abs(np.log(best / gain)) + 1e-12
    # The offset is that of the rounded multiplier: bias * multiplier, not bias * gain * 2**shift.
    assert abs(int(step.offset[0]) - bias * multiplier) <= 0.5 + 1e-6


@given(st.data())
def test_fraction_is_the_rounded_quotient(data: st.DataObject) -> None:
    denominator = data.draw(st.integers(1, 2**31 - 1))
    numerator = data.draw(st.integers(0, denominator))
    bits = data.draw(st.integers(0, 30))
    exact = Fraction(numerator * 2**bits, denominator) + Fraction(1, 2)
    assert int(fraction(np.array(numerator), np.array(denominator), bits)) == exact.numerator // exact.denominator


_DRIVER = r"""
#include "mcu_numerics.h"
#include <stdio.h>

int main(void)
{
    int32_t v[6];
    while (fread(v, sizeof v, 1, stdin) == 1) {
        const int8_t digits[3] = {(int8_t)v[1], (int8_t)v[2], (int8_t)v[3]};
        const int32_t product = mcu_multiply_digits_s32(v[0], digits, 3);
        const int32_t code = mcu_shift_right_s32(mcu_add_s32(product, v[4]), (uint32_t)v[5]);
        const int32_t result = mcu_clamp_s32(code, -128, 127);
        fwrite(&code, sizeof code, 1, stdout);
        fwrite(&result, sizeof result, 1, stdout);
    }
    return 0;
}
"""

_FRACTION_DRIVER = r"""
#include "mcu_numerics.h"
#include <stdio.h>

int main(void)
{
    uint32_t v[3];
    while (fread(v, sizeof v, 1, stdin) == 1) {
        const uint32_t result = mcu_fraction_u32(v[0], v[1], v[2]);
        fwrite(&result, sizeof result, 1, stdout);
    }
    return 0;
}
"""


def _compile(source: str, directory: Path, compiler: str) -> Path:
    path = directory / "driver.c"
    path.write_text(source)
    program = directory / "driver"
    include = f"-I{resource_dir('runtime_c')}"
    subprocess.run([compiler, *WARNINGS, "-O2", include, path, "-o", program], check=True, timeout=60)
    return program


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_c_requantize_equals_python(compiler: str, tmp_path: Path) -> None:
    program = _compile(_DRIVER, tmp_path, compiler)
    random = np.random.default_rng(20240501)
    cases = []
    for multiplier in short_multipliers(3, 6):
        digits = [sign * (shift + 1) for sign, shift in canonical_signed_digits(multiplier)]
        digits += [0] * (3 - len(digits))
        for acc in [0, 1, -1, 2**24, -(2**24), *random.integers(-(2**24), 2**24, 40)]:
            for shift in (0, 1, 2, 7, 15, 30, 31):
                cases.append((int(acc), *digits, int(random.integers(-(2**20), 2**20)), shift, multiplier))
    assert len(cases) > 5000
    done = subprocess.run(
        [program], input=np.array([c[:6] for c in cases], np.int32).tobytes(), capture_output=True, check=True
    )
    found = np.frombuffer(done.stdout, np.int32).reshape(-1, 2)
    for (acc, _, _, _, offset, shift, multiplier), (code, clamped) in zip(cases, found.tolist(), strict=True):
        expected = (acc * multiplier + offset) >> shift
        assert code == expected
        assert clamped == max(-128, min(127, expected))


_FLOAT32_DRIVER = r"""
#include "mcu_numerics.h"
#include <stdio.h>

int main(void)
{
    int32_t v[3];
    while (fread(v, sizeof v, 1, stdin) == 1) {
        const mcu_wide sum = {(uint32_t)v[0], v[1]};
        const int32_t code = mcu_wide_round_float32(sum, (uint32_t)v[2]);
        fwrite(&code, sizeof code, 1, stdout);
    }
    return 0;
}
"""


def _float32_cases() -> tuple[Int, Int, Int]:
    """Return sums, multipliers of at most 24 bits, shifts: their products are codes below 2**10, half of them ties."""
    random = np.random.default_rng(20240501)
    gains = np.float32(2.0 ** random.uniform(-14, -3, 20_000))
    mantissa, exponent = np.frexp(gains)
    multiplier, shift = (mantissa * 2.0**24).astype(np.int64), 24 - exponent.astype(np.int64)
    codes = random.integers(-1000, 1000, 20_000) + np.where(np.arange(20_000) % 2, 0.5, random.uniform(0, 1, 20_000))
    total = np.clip(np.rint(codes / gains), 1 - 2**24, 2**24 - 1).astype(np.int64)
    # Short multipliers have sums that are ties exactly.
    short = np.arange(20_000) % 3 == 0
    return total, np.where(short, 3, multiplier), np.where(short, 9, shift)


def test_products_are_rounded_as_float32_rounds_them() -> None:
    total, multiplier, shift = _float32_cases()
    step = Requantization(multiplier, 5 * multiplier, shift, -(2**23), 2**23, is_wide=True, zero_point=-7)
    exact = total.astype(np.float32) * (multiplier * 2.0**-shift).astype(np.float32)
    assert np.array_equal(step.apply(total - 5), np.rint(exact).astype(np.int64) - 7)
    once = np.rint(total * multiplier * 2.0**-shift)
    assert np.count_nonzero(once != np.rint(exact)) > 3, "float32 makes ties that are none"


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_c_rounding_of_float32_equals_python(compiler: str, tmp_path: Path) -> None:
    program = _compile(_FLOAT32_DRIVER, tmp_path, compiler)
    total, multiplier, shift = _float32_cases()
    sums = np.concatenate([[0, 1, -1, 2**24, -(2**24), 2**25 + 1, 3 * 2**25 - 1, -(2**33)], total * multiplier])
    shift = np.concatenate([[1, 1, 1, 25, 25, 26, 26, 52], shift])
    packed = np.stack([sums & (2**32 - 1), sums >> 32, shift], 1).astype(np.uint32)
    done = subprocess.run([program], input=packed.tobytes(), capture_output=True, check=True)
    step = Requantization(np.array([1]), np.array([0]), shift, -(2**31), INT32_MAX, is_wide=True, zero_point=0)
    assert np.array_equal(np.frombuffer(done.stdout, np.int32), step.apply(sums))


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_c_fraction_equals_python(compiler: str, tmp_path: Path) -> None:
    program = _compile(_FRACTION_DRIVER, tmp_path, compiler)
    random = np.random.default_rng(1)
    denominators = np.concatenate([[1, 2, 3, INT32_MAX], random.integers(1, INT32_MAX, 3000)])
    numerators = np.concatenate([[1, 0, 3, INT32_MAX], random.integers(0, denominators[4:] + 1)])
    bits = np.concatenate([[30, 8, 15, 30], random.integers(0, 31, 3000)])
    packed = np.stack([numerators, denominators, bits], 1).astype(np.uint32)
    done = subprocess.run([program], input=packed.tobytes(), capture_output=True, check=True)
    found = np.frombuffer(done.stdout, np.uint32)
    for (n, d, b), value in zip(packed.tolist(), found.tolist(), strict=True):
        assert value == (n * 2 ** (b + 1) + d) // (2 * d)
