"""CORDIC: its error against float64 over whole domains, C against Python over the same, and no multiplication."""

import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from elf_builds import NOINLINE, ROUTES, build
from host_model import SANITIZERS, WARNINGS
from mcucompile import cordic
from mcucompile.cordic import (
    circular,
    cordic_cos,
    cordic_exp,
    cordic_polar,
    cordic_sigmoid,
    cordic_sin,
    cordic_sin_cos,
    cordic_tanh,
    hyperbolic,
)
from mcucompile.numerics import INT32_MAX, Int, Real
from mcucompile.resources import resource_dir
from mcucompile.targets.elf import inspect_elf, prove

STEPS = 1 << 15
QUARTER = np.arange(-51472, 51473)
TURN = np.arange(-102944, 102945)
ANGLES = np.arange(-(16 << 15), (16 << 15) + 1)
# Beyond 16 every function is constant in Q15; a little more shows it.
DECAYS = np.concatenate([[-INT32_MAX - 1, -INT32_MAX, -(2**25) - 1], np.arange(-(17 << 15), 1)])
LOGITS = np.concatenate([DECAYS, -DECAYS[DECAYS > -(2**31)]])


def _logistic(z: Real) -> Real:
    return 1 / (1 + np.exp(-z))


# Twin: (the function of Python, the real function, every argument, the error in LSB that the docstring states).
FUNCTIONS: dict[str, tuple[Callable[[Int], Int], Callable[[Real], Real], Int, float]] = {
    "sin": (cordic_sin, np.sin, ANGLES, 1.09),
    "cos": (cordic_cos, np.cos, ANGLES, 1.06),
    "exp": (cordic_exp, np.exp, DECAYS, 0.91),
    "sigmoid": (cordic_sigmoid, _logistic, LOGITS, 0.66),
    "tanh": (cordic_tanh, np.tanh, LOGITS, 0.76),
}


def _error(found: Int, exact: Real) -> float:
    return float(np.abs(found - STEPS * exact).max())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_error_is_the_stated_one(name: str) -> None:
    function, real, arguments, stated = FUNCTIONS[name]
    with np.errstate(over="ignore"):
        exact = real(arguments / STEPS)
    error = _error(function(arguments), exact)
    assert stated - 0.01 < error < stated


def test_half_a_turn_is_as_exact_as_stated() -> None:
    assert 1.02 < _error(cordic_sin(TURN), np.sin(TURN / STEPS)) < 1.03
    assert 1.02 < _error(cordic_cos(TURN), np.cos(TURN / STEPS)) < 1.03


@pytest.mark.parametrize(("steps", "guard", "stated"), [(16, 6, 1.55), (17, 6, 1.01), (18, 6, 0.84), (17, 0, 11.02)])
def test_steps_and_guard_bits_make_the_error_of_a_rotation(steps: int, guard: int, stated: float) -> None:
    sine, cosine = cordic_sin_cos(QUARTER, circular(steps, guard))
    error = max(_error(sine, np.sin(QUARTER / STEPS)), _error(cosine, np.cos(QUARTER / STEPS)))
    assert stated - 0.01 < error < stated


def test_hyperbolic_steps_need_their_repeats() -> None:
    exact = np.exp(DECAYS / STEPS)
    assert 1440 < _error(cordic_exp(DECAYS, hyperbolic(18, repeats=())), exact) < 1450
    assert _error(cordic_exp(DECAYS, hyperbolic(16, repeats=(13,))), exact) > 1000
    assert _error(cordic_exp(DECAYS, hyperbolic(16, repeats=(4,))), exact) > 1.5


def test_the_sign_that_the_thesis_prints_is_no_rotation() -> None:
    # Equation 4.6 with its two plus signs: x grows, where a rotation keeps the length.
    x, y, z = 1.0, 0.0, 0.5
    for i in range(17):
        turn = 1 if z >= 0 else -1
        x, y, z = x + turn * y * 2.0**-i, y + turn * x * 2.0**-i, z - turn * math.atan(2.0**-i)
    gain = math.prod(math.sqrt(1 + 4.0**-i) for i in range(17))
    assert abs(x / gain - math.cos(0.5)) > 0.1
    assert abs(int(cordic_cos(np.array(STEPS // 2))) / STEPS - math.cos(0.5)) < 1 / STEPS


def test_symmetries_and_ends() -> None:
    assert np.array_equal(cordic_tanh(-LOGITS), -cordic_tanh(LOGITS))
    assert np.array_equal(cordic_sigmoid(-LOGITS)[LOGITS != 0], STEPS - cordic_sigmoid(LOGITS)[LOGITS != 0])
    ends = np.array([-(2**31), 0, INT32_MAX])
    assert cordic_sigmoid(ends).tolist() == [0, STEPS // 2, STEPS]
    assert cordic_tanh(ends).tolist() == [-STEPS, 0, STEPS]
    assert cordic_exp(ends[:2]).tolist() == [0, STEPS]
    assert cordic_cos(np.array([0, 102944, -102944])).tolist() == [STEPS, -STEPS, -STEPS]


def _vectors() -> tuple[Int, Int]:
    """Return every small vector, those of length 1 at every angle, random ones and the corners."""
    y, x = (part.reshape(-1) for part in np.meshgrid(np.arange(-128, 129), np.arange(-128, 129)))
    circle = np.round(STEPS * np.exp(1j * TURN / STEPS))
    random = np.random.default_rng(20240501).integers(-STEPS, STEPS + 1, (2, 200_000))
    ends = np.array([-STEPS, -1, 0, 1, STEPS])
    corners = np.stack(np.meshgrid(ends, ends)).reshape(2, -1)
    parts = [np.stack([y, x]), np.stack([circle.imag, circle.real]), random, corners]
    rows = np.concatenate(parts, axis=1).astype(np.int64)
    return rows[0], rows[1]


def test_polar_coordinates_are_as_exact_as_stated() -> None:
    y, x = _vectors()
    angle, length = cordic_polar(y, x)
    is_vector = (x != 0) | (y != 0)
    assert 0.95 < _error(angle[is_vector], np.arctan2(y, x)[is_vector]) < 1.04
    assert np.abs(length - np.hypot(x, y)).max() < 0.51
    assert [int(v) for v in cordic_polar(np.array(0), np.array(0))] == [0, 0]


_TABLES = r"""
#include "mcu_cordic.h"
#include <stdio.h>

#define PRINT(table) do { printf(#table); \
    for (unsigned i = 0; i < sizeof table / sizeof table[0]; ++i) { printf(" %d", (int)table[i]); } \
    puts(""); } while (0)

int main(void)
{
    PRINT(mcu_cordic_circular_angles);
    PRINT(mcu_cordic_scale_digits);
    PRINT(mcu_cordic_hyperbolic_shifts);
    PRINT(mcu_cordic_hyperbolic_angles);
    const int32_t single[] = {MCU_CORDIC_GUARD_BITS, MCU_CORDIC_ONE, MCU_CORDIC_PI, MCU_CORDIC_LN2,
        MCU_CORDIC_HALF_PI, MCU_CORDIC_REACH, MCU_CORDIC_CIRCULAR_START, MCU_CORDIC_HYPERBOLIC_START,
        MCU_CORDIC_DIVISION_STEPS, MCU_CORDIC_LONG_BITS};
    PRINT(single);
    return 0;
}
"""

_DRIVER = r"""
#include "mcu_cordic.h"
#include <stdio.h>
#include <string.h>

int main(int count, char **arguments)
{
    const char *const name = count > 1 ? arguments[1] : "";
    int32_t v[2], second = 0;
    while (fread(v, sizeof v, 1, stdin) == 1) {
        int32_t first;
        if (strcmp(name, "sin") == 0) {
            first = mcu_cordic_sin_s32(v[0]);
        } else if (strcmp(name, "cos") == 0) {
            first = mcu_cordic_cos_s32(v[0]);
        } else if (strcmp(name, "exp") == 0) {
            first = mcu_cordic_exp_s32(v[0]);
        } else if (strcmp(name, "sigmoid") == 0) {
            first = mcu_cordic_sigmoid_s32(v[0]);
        } else if (strcmp(name, "tanh") == 0) {
            first = mcu_cordic_tanh_s32(v[0]);
        } else if (strcmp(name, "polar") == 0) {
            first = mcu_cordic_polar_s32(v[0], v[1], &second);
        } else {
            return 1;
        }
        fwrite(&first, sizeof first, 1, stdout);
        fwrite(&second, sizeof second, 1, stdout);
    }
    return 0;
}
"""
# Traps need no run-time library, which clang often comes without.
_TRAPS = ("-fsanitize=undefined", "-fsanitize-trap=undefined")
_BUILDS = [("gcc", ("-O2",)), ("clang", ("-O2",)), ("gcc", ("-O2", *SANITIZERS)), ("clang", ("-O2", *_TRAPS))]


def _compile(source: str, directory: Path, compiler: str, flags: tuple[str, ...]) -> Path:
    path, program = directory / "driver.c", directory / "driver"
    path.write_text(source)
    command = [compiler, *WARNINGS, *flags, f"-I{resource_dir('runtime_c')}", path, "-o", program]
    subprocess.run(command, check=True, timeout=60)
    return program


def _run_c(program: Path, name: str, first: Int, second: Int) -> Int:
    """Return both results of C, (2, arguments)."""
    data = np.stack([first, second], axis=1).astype("<i4").tobytes()
    done = subprocess.run([program, name], input=data, capture_output=True, check=True, timeout=60)
    return np.frombuffer(done.stdout, "<i4").reshape(-1, 2).T.astype(np.int64)


def test_the_header_has_pythons_constants(tmp_path: Path) -> None:
    program = _compile(_TABLES, tmp_path, "gcc", ("-O1",))
    lines = subprocess.run([program], capture_output=True, check=True, text=True, timeout=60).stdout.splitlines()
    found = {name: tuple(map(int, values)) for name, *values in map(str.split, lines)}
    assert found == {
        "mcu_cordic_circular_angles": cordic.CIRCULAR.angles,
        "mcu_cordic_scale_digits": cordic.SCALE_DIGITS,
        "mcu_cordic_hyperbolic_shifts": cordic.HYPERBOLIC.shifts,
        "mcu_cordic_hyperbolic_angles": cordic.HYPERBOLIC.angles,
        "single": (
            *(cordic.GUARD_BITS, cordic.ONE, cordic.PI, cordic.LN2, cordic.HALF_PI, cordic.REACH),
            *(cordic.CIRCULAR.start, cordic.HYPERBOLIC.start, cordic.DIVISION_STEPS, cordic.LONG_BITS),
        ),
    }
    assert cordic.CIRCULAR.shifts == tuple(range(17))
    # The values themselves, from their definitions.
    assert cordic.CIRCULAR.angles[:2] == (round(math.pi / 4 * 2**21), round(math.atan(0.5) * 2**21))
    assert round(0.6072529350088812 * 2**21) == cordic.CIRCULAR.start
    assert [round(math.log(2) * 2**21), round(math.pi * 2**21)] == [cordic.LN2, cordic.PI]


@pytest.mark.parametrize(("compiler", "flags"), _BUILDS)
def test_c_gives_the_bits_of_python(compiler: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    program = _compile(_DRIVER, tmp_path, compiler, flags)
    for name, (function, _, arguments, _) in FUNCTIONS.items():
        found = _run_c(program, name, arguments, np.zeros_like(arguments))[0]
        differing = arguments[found != function(arguments)]
        assert not len(differing), f"{name}: first difference at {differing[0]}"
    y, x = _vectors()
    assert np.array_equal(_run_c(program, "polar", y, x), np.stack(cordic_polar(y, x)))


_FIRMWARE = """
#include "mcu_cordic.h"

FAR int32_t far_sin(int32_t z) { return mcu_cordic_sin_s32(z); }
FAR int32_t far_cos(int32_t z) { return mcu_cordic_cos_s32(z); }
FAR int32_t far_exp(int32_t z) { return mcu_cordic_exp_s32(z); }
FAR int32_t far_sigmoid(int32_t z) { return mcu_cordic_sigmoid_s32(z); }
FAR int32_t far_tanh(int32_t z) { return mcu_cordic_tanh_s32(z); }
FAR int32_t far_polar(int32_t y, int32_t x) { int32_t n; return mcu_cordic_polar_s32(y, x, &n) + n; }

void program(void)
{
    const int32_t z = (int32_t)sink;
    sink = (uint32_t)(far_sin(z) + far_cos(z) + far_exp(z) + far_sigmoid(z) + far_tanh(z) + far_polar(z, 1));
}
"""


@pytest.mark.parametrize(("core", "toolchain"), ROUTES)
def test_no_core_multiplies(core: str, toolchain: str, tmp_path: Path) -> None:
    include = f"-I{resource_dir('runtime_c')}"
    for level in ("-Os", "-O2"):
        elf = build(NOINLINE + _FIRMWARE, core, toolchain, tmp_path, (level, include, "-DMCU_NO_MULTIPLY"))
        facts = inspect_elf(elf, core)
        names = {symbol.name for symbol in facts.symbols}
        assert {"far_sin", "far_cos", "far_exp", "far_sigmoid", "far_tanh", "far_polar"} <= names
        prove(facts, elf, no_multiply=True)
