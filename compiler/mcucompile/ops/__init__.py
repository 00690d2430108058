"""The table of operators. Adding one: a file here, a template in templates/ops/, a branch in the front-end.

Each real operator has `lower`, which returns its integer form (often itself) and its output's format.
"""

from mcucompile.ir import Op
from mcucompile.lowering import RealOp
from mcucompile.ops.add import Add, IntegerAdd
from mcucompile.ops.affine import Affine, IntegerAffine
from mcucompile.ops.arg_max import ArgMax
from mcucompile.ops.dense import Dense, IntegerDense
from mcucompile.ops.four_view import FourView
from mcucompile.ops.relu import IntegerRelu, Relu
from mcucompile.ops.reshape import Reshape
from mcucompile.ops.softmax import IntegerSoftmax, Softmax
from mcucompile.ops.transpose import Transpose

REAL_OPERATORS: tuple[type[RealOp], ...] = (
    Dense, Affine, Add, Relu, Reshape, Transpose, Softmax, ArgMax, FourView,
)  # fmt: skip
INTEGER_OPERATORS: dict[str, type[Op]] = {
    operator.__name__: operator
    for operator in (
        IntegerDense, IntegerAffine, IntegerAdd, IntegerRelu, Reshape, Transpose, IntegerSoftmax, ArgMax, FourView,
    )
}  # fmt: skip

__all__ = [
    "INTEGER_OPERATORS", "REAL_OPERATORS",
    "Add", "Affine", "ArgMax", "Dense", "FourView", "IntegerAdd", "IntegerAffine", "IntegerDense", "IntegerRelu",
    "IntegerSoftmax", "Relu", "Reshape", "Softmax", "Transpose",
]  # fmt: skip
