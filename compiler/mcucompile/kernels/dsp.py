"""Values packed in words, as cores with DSP instructions take them."""

from dataclasses import replace

import numpy as np

from mcucompile.kernels.dense import Sums
from mcucompile.numerics import Int, Requantization


def bytes_as_words(values: Int) -> Int:
    """Return rows of bytes 0..255 as words, the first byte lowest: (rows, 4 * words) -> (rows, words)."""
    quads = values.reshape(len(values), -1, 4)
    return np.asarray((quads << np.array([0, 8, 16, 24])).sum(axis=-1), dtype=np.int64)


def halfwords_as_words(values: Int) -> Int:
    """Return rows of halfwords of any sign as words, the first one lowest: (rows, 2 * words) -> (rows, words)."""
    pairs = values.reshape(len(values), -1, 2) & 0xFFFF
    return np.asarray(pairs[..., 0] | (pairs[..., 1] << 16), dtype=np.int64)


def padded(values: Int, multiple: int, value: int) -> Int:
    """Return rows made a multiple as long with a value."""
    missing = -values.shape[1] % multiple
    return np.pad(values, ((0, 0), (0, missing)), constant_values=value)


def with_constant(requantize: Requantization, constant: Int) -> Requantization:
    """Return the requantization of sums that lack a constant each. constant: (n_out,).

    Offsets of 32 bits are those modulo 2**32: C adds modulo 2**32, where the whole fits.
    """
    offset = requantize.offset + requantize.multiplier * constant
    if not requantize.is_wide:
        half = 0 if requantize.tie_window else requantize.half()
        offset = (offset + half + 2**31) % 2**32 - 2**31 - half
    return replace(requantize, offset=np.asarray(offset, dtype=np.int64))


def squares_as_products(sums: Sums) -> Requantization:
    """Return the requantization of 2 sum x w - sum x**2, which squared distances have without their sum w**2."""
    return with_constant(sums.requantize, -np.square(sums.weights.values).sum(axis=1))


def word_order(values: Int) -> Int:
    """Return rows in the order of halfwords: a word of bytes x0 x1 x2 x3 becomes the words (x0, x2) and (x1, x3)."""
    quads = padded(values, 4, 0).reshape(len(values), -1, 2, 2)
    return np.asarray(quads.transpose(0, 1, 3, 2).reshape(len(values), -1), dtype=np.int64)
