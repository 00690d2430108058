"""References of the dot product; the C twin is mcu_dot_step."""

from mcucompile.numerics import Int
from mcucompile.similarities.sums import matrix_product, real_product


def term(x: Int, w: Int) -> Int:
    """Return x * w."""
    return x * w


accumulate = matrix_product
real = real_product
