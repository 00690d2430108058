"""References of the squared distance; the C twins are mcu_euclid_step and mcu_euclid_step_quarter_square."""

import numpy as np

from mcucompile.numerics import Int, Real
from mcucompile.similarities.sums import matrix_product, real_product


def term(x: Int, w: Int) -> Int:
    """Return -(x - w)**2, twice the similarity."""
    return np.asarray(-np.square(x - w))


def accumulate(x: Int, w: Int) -> Int:
    """Return -sum_i (x[..., i] - w[o, i])**2, by the binomial theorem."""
    wide, weights = x.astype(np.int64), w.astype(np.int64)
    squares = np.square(wide).sum(axis=-1)[..., None] + np.square(weights).sum(axis=-1)
    return np.asarray(2 * matrix_product(wide, weights) - squares)


def real(x: Real, w: Real) -> Real:
    """Return -sum_i (x[..., i] - w[o, i])**2 / 2 of reals."""
    squares = np.square(x).sum(axis=-1)[..., None] + np.square(w).sum(axis=-1)
    return np.asarray(real_product(x, w) - squares / 2)
