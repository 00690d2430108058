"""What all kernels of the dense layer share: its sizes, packed weights and requantization."""

import math

from mcucompile.encodings import pack
from mcucompile.kernels.kernel import Context, Cost, Layer
from mcucompile.kernels.requantize import requantize_code
from mcucompile.ops import IntegerDense


def dense_of(layer: Layer) -> IntegerDense:
    """Return the layer's operator as a dense layer."""
    if not isinstance(layer.op, IntegerDense):
        raise TypeError(f"{layer.op.kind} is not a dense layer")
    return layer.op


def dense_context(layer: Layer) -> Context:
    """Return sizes, packed weights (rows of bytes) and the requantization."""
    op = dense_of(layer)
    n_out, n_in = op.weights.codes.shape
    return {
        "n_in": int(n_in),
        "n_out": int(n_out),
        "rows": math.prod(layer.shapes[0][:-1]),
        "bits": op.weights.bits,
        "weights": tuple(tuple(int(b) for b in row) for row in pack(op.weights)),
        "requantize": requantize_code(op.requantize, layer.output_format),
    }


def dense_cost(layer: Layer, *, per_weight: int, per_output: int, table_bytes: int = 0, stack_bytes: int = 0) -> Cost:
    """Return the cost of a loop nest from its cost for each weight and each output."""
    op = dense_of(layer)
    rows = math.prod(layer.shapes[0][:-1])
    n_out = op.weights.codes.shape[0]
    requantize = requantize_code(op.requantize, layer.output_format)
    instructions = rows * (per_weight * int(op.weights.codes.size) + (per_output + 12) * n_out)
    return Cost(instructions, op.weights.packed_bytes + requantize.table_bytes + table_bytes, stack_bytes)
