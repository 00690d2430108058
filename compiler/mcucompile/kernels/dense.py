"""What all kernels of weighted sums share: sizes, packed weights and requantization.

A dense layer is one sum for each output and row; a convolution is the same for each window, whose values
lie together (kernels/conv_patches.py), so that every kernel here serves both.
"""

import math
from dataclasses import dataclass

import numpy as np

from mcucompile.encodings import Weights, pack
from mcucompile.ir import Format
from mcucompile.kernels.kernel import Context, Core, Cost, Layer
from mcucompile.kernels.requantize import requantize_code
from mcucompile.numerics import Requantization
from mcucompile.ops import IntegerConv, IntegerDense

# Of an int8 weight, so that most layers share one table of squares.
_LARGEST_INT8 = 127


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """The weighted sums of a layer.

    Attributes:
        similarity: name in the similarity table.
        weights: (n_out, n_in).
        requantize: of the sums.
        rows: how often they are made in one inference.
        groups: outputs are split evenly over groups, each with n_in inputs of its own.
        input, output: formats.
        part: suffix of the C function's name, "" if the sums are the whole layer.
    """

    similarity: str
    weights: Weights
    requantize: Requantization
    rows: int
    groups: int
    input: Format
    output: Format
    part: str


@dataclass(frozen=True, slots=True)
class StepTable:
    """A table that a term looks its value up in, shared by all layers of the model.

    Attributes:
        c_type: of an entry.
        argument: its name in C where the term is.
        suffix: of its name behind the model's.
        origin: the macro, its name behind the model's, of the place of 0 in it; "" if that is the start.
    """

    c_type: str
    argument: str
    suffix: str
    origin: str = ""


def sums_of(layer: Layer) -> Sums:
    """Return the weighted sums of a dense layer or a convolution."""
    op = layer.op
    formats = (layer.formats[0], layer.output_format)
    if isinstance(op, IntegerDense):
        return Sums(op.similarity, op.weights, op.requantize, math.prod(layer.shapes[0][:-1]), 1, *formats, "")
    if isinstance(op, IntegerConv):
        return Sums(op.similarity, op.weights, op.requantize, 1, op.groups, *formats, "_window")
    raise TypeError(f"{op.kind} has no weighted sums")


def dense_context(layer: Layer) -> Context:
    """Return sizes, packed weights (rows of bytes) and the requantization."""
    sums = sums_of(layer)
    n_out, n_in = sums.weights.codes.shape
    return {
        "n_in": int(n_in),
        "n_out": int(n_out),
        "rows": sums.rows,
        "groups": sums.groups,
        "part": sums.part,
        "bits": sums.weights.bits,
        "weights": tuple(map(tuple, pack(sums.weights).tolist())),
        "requantize": requantize_code(sums.requantize, sums.output),
    }


def dense_cost(
    layer: Layer,
    core: Core,
    per_weight: float,
    *,
    per_output: float = 0,
    table_bytes: int = 0,
    stack_bytes: int = 0,
    multiplies: bool = False,
) -> Cost:
    """Return the cost of a loop nest.

    Args:
        layer, core: what is computed where.
        per_weight, per_output: instructions for each weight and, beside the requantization, for each output.
        table_bytes, stack_bytes: beside weights and requantization.
        multiplies: there is a product for each weight.
    """
    sums = sums_of(layer)
    n_out = sums.weights.codes.shape[0]
    requantize = requantize_code(sums.requantize, sums.output)
    per_output += requantize.instructions_on(core)
    weights = sums.rows * int(sums.weights.codes.size)
    return Cost(
        round(per_weight * weights + per_output * n_out * sums.rows),
        sums.weights.packed_bytes + requantize.table_bytes + table_bytes,
        stack_bytes,
        (core.multiply_cycles - 1) * weights if multiplies else 0,
    )


def looked_up_values(weights: Weights) -> tuple[int, ...]:
    """Return the value of each code as a table; none if a code is its own value in two's complement."""
    values = weights.code_values
    codes = np.arange(len(values))
    own = np.where(codes < len(values) // 2, codes, codes - len(values))
    return () if np.array_equal(values, own) else tuple(int(v) for v in values)


def reach_of(sums: Sums) -> int:
    """Return the largest |x| + |w|, of one byte of x if it has 16 bits."""
    largest = 255 if sums.input.bits == 16 else max(-sums.input.minimum, sums.input.maximum)
    return largest + max(_LARGEST_INT8, int(np.abs(sums.weights.values).max()))
