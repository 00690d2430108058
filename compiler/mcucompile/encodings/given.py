"""Weights that come with the model as integers: the smallest encoding that holds them all, nothing rounded."""

import numpy as np

from mcucompile.encodings.encoding import Weights
from mcucompile.encodings.integer import INT4, INT8
from mcucompile.encodings.zero_point import ZERO_POINT_INT8
from mcucompile.numerics import Int, Real

_CODES = 256


def given_weights(values: Int, scale: Real) -> Weights | None:
    """Encode integer weights exactly; None if they have more than 256 different values.

    Args:
        values: (n_out, n_in).
        scale: (n_out,) real size of value 1.
    """
    low, high = int(values.min()), int(values.max())
    for encoding, least in ((INT4, -7), (INT8, -128)):
        if low >= least and high < 1 << (encoding.bits - 1):
            codes = np.arange(1 << encoding.bits)
            meaning = np.where(codes < len(codes) // 2, codes, codes - len(codes))
            return Weights(encoding.name, encoding.bits, values & (len(codes) - 1), meaning, scale, "given")
    used = np.unique(values)
    if len(used) > _CODES:
        return None
    if high - low < _CODES:
        used = np.arange(low, low + _CODES)
    codes = np.searchsorted(used, values)
    meaning = np.pad(used, (0, _CODES - len(used)))
    return Weights(ZERO_POINT_INT8.name, ZERO_POINT_INT8.bits, codes, meaning, scale, "given")
