"""References of products of signs; the C twin is mcu_binary_step."""

import numpy as np

from mcucompile.numerics import Int, Real
from mcucompile.similarities.sums import matrix_product, real_product, sign


def term(x: Int, w: Int) -> Int:
    """Return 1 if x and w are both negative or both not, else -1."""
    return np.asarray(sign(x) * sign(w), dtype=np.int64)


def accumulate(x: Int, w: Int) -> Int:
    """Return the sum of terms."""
    return matrix_product(sign(x), sign(w))


def real(x: Real, w: Real) -> Real:
    """Return the same of reals."""
    return real_product(sign(x).astype(np.float64), sign(w).astype(np.float64))
