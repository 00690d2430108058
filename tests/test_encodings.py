"""Weight encodings against the papers' formulas, written out here a second time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mcucompile.encodings import ENCODINGS, Weights, pack
from mcucompile.encodings.decimal_log_quant import DecimalLogQuant
from mcucompile.encodings.integer import INT4, INT8
from mcucompile.encodings.log_quant import LogQuant

WEIGHTS = arrays(np.float64, (3, 11), elements=st.floats(-4, 4).filter(lambda w: w == 0 or abs(w) > 1e-9))
LOGS = [e for e in ENCODINGS.values() if isinstance(e, LogQuant)]
DECIMALS = [e for e in ENCODINGS.values() if isinstance(e, DecimalLogQuant)]


def test_the_table_holds_what_the_families_promise() -> None:
    assert list(ENCODINGS) == [
        "int8", "int4", "int8z", "log3", "log4", "log5", "log6", "log7", "log8",
        "dlq3", "dlq4", "dlq5", "dlq6", "dlq4half",
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", [INT8, INT4], ids=lambda e: e.name)
@given(weight=WEIGHTS)
def test_integers_are_the_nearest(encoding: type, weight: np.ndarray) -> None:
    book = next(encoding.codebooks(weight, 20))
    limit = 2 ** (encoding.bits - 1) - 1
    scale = np.full((3, 1), 0.01)
    values = book.values[encoding.encode(weight, book, scale)]
    for w, value in zip(weight.ravel(), values.ravel(), strict=True):
        distances = [abs(w / 0.01 - v) for v in range(-limit, limit + 1)]
        assert abs(w / 0.01 - value) <= min(distances) + 1e-9


@pytest.mark.parametrize("encoding", LOGS, ids=lambda e: e.name)
@settings(max_examples=40)
@given(weight=WEIGHTS)
def test_log_quant_is_miyashitas_formula(encoding: LogQuant, weight: np.ndarray) -> None:
    """sign(w) * 2**Clip(Round(log2 |w|), FSR - 2**b, FSR), the lower end meaning 0, the upper FSR - 1."""
    b = encoding.exponent_bits
    for book in encoding.codebooks(weight, 14):
        largest = round(math.log2(book.scale * book.values.max()))
        full_scale = largest + 1
        # A codebook leaves out exponents below the smallest weight's, and only those.
        reach = min(2**b - 1, 15)
        assert 1 <= int(np.count_nonzero(book.values > 0)) <= reach
        found = book.values[encoding.encode(weight, book, np.array([[book.scale]]))] * book.scale
        for w, value in zip(weight.ravel(), found.ravel(), strict=True):
            if w == 0:
                expected = 0.0
            else:
                # Nearest in log distance: the threshold between 2**f and 2**(f+1) is sqrt(2) * 2**f.
                exponent = math.floor(math.log2(abs(w)) + 0.5)
                clipped = min(exponent, full_scale - 1)
                expected = math.copysign(2.0**clipped, w) if clipped > full_scale - 1 - reach else 0.0
            assert value == expected, (w, book.parameters)


@pytest.mark.parametrize("encoding", DECIMALS, ids=lambda e: e.name)
@settings(max_examples=40)
@given(weight=WEIGHTS)
def test_decimal_log_quant_is_the_thesis_listing(encoding: DecimalLogQuant, weight: np.ndarray) -> None:
    """Lookup = linspace(0, -R, 2**b); index = argmin |lookup - log2 |w||; sign * 2**lookup[index]; 0 stays 0."""
    levels = 2**encoding.level_bits
    for book in encoding.codebooks(weight, 20):
        span = float(book.parameters.split(",")[0].removeprefix("R = "))
        layer = 2.0 ** int(book.parameters.rpartition("^")[2])
        lookup = np.linspace(0, -span, levels)
        found = book.values[encoding.encode(weight, book, np.array([[book.scale]]))] * book.scale
        for w, value in zip(weight.ravel(), found.ravel(), strict=True):
            if w == 0:
                assert value == 0
                continue
            distance = np.abs(lookup - math.log2(abs(w) / layer))
            allowed = [
                math.copysign(layer * 2.0 ** lookup[i], w) for i in np.flatnonzero(distance < distance.min() + 0.06)
            ]
            # The chip's integers are within 6 % of the listing's reals.
            assert min(abs(value / a - 1) for a in allowed) < 0.065, (w, book.parameters)


def test_level_values_are_the_rounded_powers() -> None:
    book = next(ENCODINGS["dlq4"].codebooks(np.array([[1.0]]), 20))
    assert book.parameters == "R = 4, layer scale 2^0"
    assert book.values[:16].tolist() == [round(2 ** (8 - 4 * k / 15)) for k in range(16)]


def test_half_steps_are_shifts_and_one_constant() -> None:
    book = next(ENCODINGS["dlq4half"].codebooks(np.array([[1.0]]), 20))
    assert book.values[:16:2].tolist() == [64 * 2**k for k in range(7, -1, -1)]
    assert book.values[1:16:2].tolist() == [45 * 2**k for k in range(7, -1, -1)]
    for k, value in enumerate(book.values[:16]):
        assert abs(value / (8192 * 2 ** (-k / 2)) - 1) < 0.007


@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=lambda e: e.name)
@given(weight=WEIGHTS)
def test_codes_fit_their_bits_and_pack(encoding: type, weight: np.ndarray) -> None:
    for book in encoding.codebooks(weight, 14):
        scale = np.array([[book.scale]]) if not book.per_channel else np.full((3, 1), 0.03)
        codes = encoding.encode(weight, book, scale)
        assert codes.min() >= 0
        assert codes.max() < min(len(book.values), 1 << encoding.bits)
        weights = Weights(encoding.name, encoding.bits, codes, book.values, scale.ravel(), "")
        packed = pack(weights)
        assert packed.size == weights.packed_bytes
        if encoding.bits == 4:
            unpacked = np.stack([packed & 15, packed >> 4], -1).reshape(3, -1)[:, :11]
            assert np.array_equal(unpacked, codes)
        else:
            assert np.array_equal(packed, codes)
