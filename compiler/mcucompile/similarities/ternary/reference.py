"""References of ternary sums; the C twin is mcu_ternary_step. The sign of 0 is 0."""

import numpy as np

from mcucompile.numerics import Int, Real
from mcucompile.similarities.sums import matrix_product, real_product


def term(x: Int, w: Int) -> Int:
    """Return x * sign(w)."""
    return np.asarray(x * np.sign(w))


def accumulate(x: Int, w: Int) -> Int:
    """Return the sum of terms."""
    return matrix_product(x, np.sign(w))


def real(x: Real, w: Real) -> Real:
    """Return the same of reals."""
    return real_product(x, np.sign(w))
