"""References of sin x sin w; the C twins are mcu_trig_step and mcu_trig_step_cordic.

Angles are in steps of 2**-7 rad, cosines in steps of 2**-12. The cosines are CORDIC's, so that a table of them and
CORDIC on the chip give the same bits.
"""

import numpy as np

from mcucompile.cordic import FRACTION_BITS, cordic_cos
from mcucompile.numerics import Int, Real
from mcucompile.similarities.sums import Array, real_product, sum_of_terms

_ANGLE_BITS, _COSINE_BITS = 7, 12
SCALE = 2.0**-_ANGLE_BITS
# The half of the product-to-sum identity stays in the scale.
UNIT = 2.0 ** -(_COSINE_BITS + 1)
# The largest angle, pi / 2 in whole steps, of an activation or a weight; the sum of two is below pi.
LARGEST_ANGLE = 201


def _cosine(angle: Int) -> Int:
    dropped = FRACTION_BITS - _COSINE_BITS
    return np.asarray((cordic_cos(angle << (FRACTION_BITS - _ANGLE_BITS)) + (1 << (dropped - 1))) >> dropped)


# Of 0, 1, 2, ... steps.
COSINES = _cosine(np.arange(2 * LARGEST_ANGLE + 1))
_BOTH_SIDES = np.concatenate([COSINES[:0:-1], COSINES]).astype(np.int32)


def term(x: Array, w: Array) -> Array:
    """Return cos(x - w) - cos(x + w) in steps of 2**-12, for angles in steps of 2**-7 up to LARGEST_ANGLE."""
    origin = 2 * LARGEST_ANGLE
    return np.asarray(_BOTH_SIDES[x - w + origin] - _BOTH_SIDES[x + w + origin])


def accumulate(x: Int, w: Int) -> Int:
    """Return the sum of terms."""
    return sum_of_terms(x.astype(np.int32), w.astype(np.int32), term, np.int64)


def real(x: Real, w: Real) -> Real:
    """Return sum_i sin(x[..., i]) sin(w[o, i]) of reals."""
    return real_product(np.sin(x), np.sin(w))
