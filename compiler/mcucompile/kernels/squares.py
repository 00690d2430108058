"""Sums of squares from tables, for cores without multiplier or with a slow one.

With x = u + z and D = sum (u - w)**2, z chosen so that no difference leaves -255..255, whose squares have 16 bits:

    - sum (x - w)**2 = - D - 2 z sum u + 2 z sum w - z**2 n
    sum x w = (sum u**2 + sum w**2 - D) / 2 + z sum w

What has only x in it is the same for all outputs of a window. An x with a sign has z = 0, one without z = 128: its code
is u + 128, and the table begins that far below the entry of 0.
"""

from dataclasses import replace

import numpy as np

from mcucompile.kernels.dense import Sums
from mcucompile.kernels.dsp import with_constant
from mcucompile.kernels.kernel import SharedTable
from mcucompile.numerics import Int, Requantization

_BYTE_CODES = 256


def _table(c_type: str, *, signed: bool) -> SharedTable:
    values = (code - _BYTE_CODES if signed and code >= _BYTE_CODES // 2 else code for code in range(_BYTE_CODES))
    squares = tuple(value * value for value in values)
    return SharedTable(f"squares_{c_type.removesuffix('_t')}", "uint16_t", f"Squares of {c_type}, by code", squares)


# Of what a byte means, by its type in C.
SQUARES = {"uint8_t": _table("uint8_t", signed=False), "int8_t": _table("int8_t", signed=True)}

LARGEST_DIFFERENCE = 255
_LARGEST_BYTE = 127
_OFFSET = 128
_BYTE_BITS = 8
# The sum of more squares leaves int32.
_MOST_INPUTS = 2**31 // (LARGEST_DIFFERENCE * LARGEST_DIFFERENCE)
DIFFERENCES = SharedTable(
    "square_differences",
    "uint16_t",
    f"Squares of -{LARGEST_DIFFERENCE}..{LARGEST_DIFFERENCE}",
    tuple(n * n for n in range(-LARGEST_DIFFERENCE, LARGEST_DIFFERENCE + 1)),
)


def refusal_of_differences(sums: Sums) -> str | None:
    """Return why differences cannot make sums: other similarities, and more than 8 bits."""
    if sums.similarity not in ("dot", "euclid"):
        return "computes dot and euclid only"
    if sums.input.bits != _BYTE_BITS:
        return "needs an 8-bit input"
    values = sums.weights.values
    if int(values.min()) < -_LARGEST_BYTE - 1 or int(values.max()) > _LARGEST_BYTE:
        return "needs weights of 8 bits"
    return f"takes at most {_MOST_INPUTS} inputs" if values.shape[1] > _MOST_INPUTS else None


def origin_of_differences(sums: Sums) -> int:
    """Return the entry of DIFFERENCES that x = 0 and w = 0 have if x's code is added."""
    return LARGEST_DIFFERENCE - (0 if sums.input.signed else _OFFSET)


def differences_as_sums(sums: Sums, values: Int) -> Requantization:
    """Return the requantization of what D and the norm make, of weights (n_out, n) that may be padded with 0.

    The norm is sum u**2 for dot, which makes (norm - D) / 2, rounded down. For euclid it is the sum of the codes of an
    x without a sign, which makes D + 256 * norm, else nothing.
    """
    z = 0 if sums.input.signed else _OFFSET
    linear, squares = z * values.sum(axis=1), np.square(values).sum(axis=1)
    if sums.similarity == "dot":
        # Sums and constants together are even: half of an odd constant goes up, as that of the sums goes down.
        return with_constant(sums.requantize, linear - -squares // 2)
    # The sum of the codes has 128 of each value more than that of u.
    requantize = with_constant(sums.requantize, 2 * linear + z * z * values.shape[1])
    return replace(requantize, multiplier=-requantize.multiplier)


# What D and the norm make, in C, by similarity and whether x has a sign; alone they are D.
FINISHES = {("dot", True): "mcu_half_below_s32", ("dot", False): "mcu_half_below_s32"} | {
    ("euclid", False): "mcu_more_256_s32"
}
