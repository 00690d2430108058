"""Integer reference of the dot product; the C twin is mcu_dot_step."""

import numpy as np

from mcucompile.numerics import Int


def accumulate(x: Int, w: Int) -> Int:
    """Return sum_i x[..., i] * w[o, i]. x: (..., n_in), w: (n_out, n_in) -> (..., n_out).

    The product is made in float64, where numpy has a fast matrix product; it is exact, because every
    partial sum is an integer far below 2**53 (passes/check_accumulators.py proves 2**31).
    """
    return np.asarray(x.astype(np.float64) @ w.astype(np.float64).T, dtype=np.int64)
