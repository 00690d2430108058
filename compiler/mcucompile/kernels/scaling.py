"""Codes of sums by one multiplication each, where the build may multiply and 32 bits are enough."""

import numpy as np

from mcucompile.kernels.dense import Sums
from mcucompile.kernels.kernel import Context
from mcucompile.kernels.requantize import requantize_code
from mcucompile.numerics import Requantization

_INT16_MAX = 32767
_SCALING_BYTES = 8


def scaling_of(sums: Sums, requantize: Requantization) -> tuple[tuple[int, int, int], ...]:
    """Return offset, multiplier and shift of each output; none if they are not enough or do not fit."""
    code = requantize_code(requantize, sums.output)
    if code.is_wide or code.tie_window or int(np.abs(requantize.multiplier).max()) > _INT16_MAX:
        return ()
    offset, multiplier, shift = np.broadcast_arrays(
        np.array(code.offsets), requantize.multiplier, requantize.shift, np.zeros(len(sums.weights.codes))
    )[:3]
    return tuple(zip(offset.tolist(), multiplier.tolist(), shift.tolist(), strict=True))


def code_bytes(sums: Sums, requantize: Requantization) -> int:
    """Return the bytes of flash that the codes of sums take."""
    scaling = scaling_of(sums, requantize)
    return _SCALING_BYTES * len(scaling) if scaling else requantize_code(requantize, sums.output).table_bytes


def code_context(sums: Sums, requantize: Requantization) -> Context:
    """Return what templates/kernels/scaling.c.j2 needs to make the codes of sums."""
    return {
        "n_out": len(sums.weights.codes),
        "requantize": requantize_code(requantize, sums.output),
        "scaling": scaling_of(sums, requantize),
    }
