"""Tables of squares, for cores without multiplier or with a slow one; shared by all layers of a model."""

from mcucompile.kernels.kernel import SharedTable

_BYTE_CODES = 256


def _table(c_type: str, *, signed: bool) -> SharedTable:
    values = (code - _BYTE_CODES if signed and code >= _BYTE_CODES // 2 else code for code in range(_BYTE_CODES))
    squares = tuple(value * value for value in values)
    return SharedTable(f"squares_{c_type.removesuffix('_t')}", "uint16_t", f"Squares of {c_type}, by code", squares)


# Of what a byte means, by its type in C.
SQUARES = {"uint8_t": _table("uint8_t", signed=False), "int8_t": _table("int8_t", signed=True)}

LARGEST_DIFFERENCE = 255
DIFFERENCES = SharedTable(
    "square_differences",
    "uint16_t",
    f"Squares of -{LARGEST_DIFFERENCE}..{LARGEST_DIFFERENCE}",
    tuple(n * n for n in range(-LARGEST_DIFFERENCE, LARGEST_DIFFERENCE + 1)),
)
