"""Sums of terms as references make them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mcucompile.numerics import Int, Real

Array = npt.NDArray[Any]
# Elements of x at a time, so that what is made of them stays in the cache.
_BLOCK = 1 << 17


def matrix_product(x: Int, w: Int) -> Int:
    """Return sum_i x[..., i] * w[o, i]. x: (..., n_in), w: (n_out, n_in) -> (..., n_out).

    The product is made in float64, where numpy has a fast matrix product; it is exact, because every
    partial sum is an integer far below 2**53 (passes/check_accumulators.py proves 2**31).
    """
    return np.asarray(x.astype(np.float64) @ w.astype(np.float64).T, dtype=np.int64)


def real_product(x: Real, w: Real) -> Real:
    """Return sum_i x[..., i] * w[o, i] of reals."""
    return np.asarray(x @ w.T)


def sum_of_terms(x: Array, w: Array, term: Callable[[Array, Array], Array], dtype: npt.DTypeLike) -> Array:
    """Return sum_i term(x[..., i], w[o, i]), one output at a time over blocks of rows.

    Args:
        x: (..., n_in).
        w: (n_out, n_in).
        term: of arrays (rows, n_in) and (n_in,).
        dtype: of the sums.
    """
    rows = x.reshape(-1, x.shape[-1])
    sums = np.empty((len(rows), len(w)), dtype=dtype)
    step = max(1, _BLOCK // max(rows.shape[1], 1))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        for output, weights in enumerate(w):
            sums[start : start + step, output] = term(block, weights).sum(axis=-1, dtype=dtype)
    return sums.reshape(*x.shape[:-1], len(w))


def sign(x: Array) -> Array:
    """Return -1 for negative elements and 1 for the others, 0 among them."""
    return np.where(x < 0, -1, 1)
