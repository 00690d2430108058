"""References of the multiplication-free operator; the C twin is mcu_mfo_step. The sign of 0 is 0."""

import numpy as np

from mcucompile.numerics import Int, Real
from mcucompile.similarities.sums import matrix_product, real_product


def term(x: Int, w: Int) -> Int:
    """Return sign(x) sign(w) (|x| + |w|)."""
    return np.asarray(np.sign(x) * np.sign(w) * (np.abs(x) + np.abs(w)))


def accumulate(x: Int, w: Int) -> Int:
    """Return the sum of terms: x sign(w) + sign(x) w is the same."""
    return matrix_product(x, np.sign(w)) + matrix_product(np.sign(x), w)


def real(x: Real, w: Real) -> Real:
    """Return the same of reals."""
    return real_product(x, np.sign(w)) + real_product(np.sign(x), w)
