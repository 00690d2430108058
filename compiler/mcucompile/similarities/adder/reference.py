"""References of the L1 distance; the C twin is mcu_adder_step."""

import numpy as np

from mcucompile.numerics import Int, Real
from mcucompile.similarities.sums import Array, sum_of_terms


def term(x: Array, w: Array) -> Array:
    """Return -|x - w|."""
    return np.asarray(-np.abs(x - w))


def accumulate(x: Int, w: Int) -> Int:
    """Return -sum_i |x[..., i] - w[o, i]|. Differences of 8-bit activations and 16-bit weights fit int32."""
    return sum_of_terms(x.astype(np.int32), w.astype(np.int32), term, np.int64)


def real(x: Real, w: Real) -> Real:
    """Return the same of reals."""
    return sum_of_terms(x, w, term, np.float64)
