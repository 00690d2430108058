"""References of the min-selector; the C twin is mcu_minconv_step."""

import numpy as np

from mcucompile.numerics import Int, Real
from mcucompile.similarities.sums import Array, sum_of_terms


def term(x: Array, w: Array) -> Array:
    """Return sign(x) sign(w) min(|x|, |w|)."""
    return np.asarray(np.sign(x) * np.sign(w) * np.minimum(np.abs(x), np.abs(w)))


def accumulate(x: Int, w: Int) -> Int:
    """Return sum_i term(x[..., i], w[o, i])."""
    return sum_of_terms(x.astype(np.int32), w.astype(np.int32), _clipped, np.int64)


def real(x: Real, w: Real) -> Real:
    """Return the same of reals."""
    return sum_of_terms(x, w, _clipped, np.float64)


def _clipped(x: Array, w: Array) -> Array:
    """Return the term as x clipped to -|w|..|w|, with the sign of w: fewer steps."""
    magnitude = np.abs(w)
    return np.asarray(np.clip(x, -magnitude, magnitude) * np.sign(w))
