"""The table of operators. Adding one: a file here, a template in templates/ops/, a branch in the front-end.

Each real operator has `lower`, which returns its integer form (often itself) and its output's format.
"""

from mcucompile.ir import Op
from mcucompile.lowering import RealOp
from mcucompile.ops.activation_method import ACTIVATION_METHODS, activation_method
from mcucompile.ops.add import Add, IntegerAdd
from mcucompile.ops.affine import Affine, IntegerAffine
from mcucompile.ops.arg_max import ArgMax
from mcucompile.ops.average_pool import AveragePool, IntegerAveragePool
from mcucompile.ops.clip import Clip, IntegerClip
from mcucompile.ops.concat import Concat, IntegerConcat
from mcucompile.ops.conv import Conv, IntegerConv
from mcucompile.ops.cordic_function import CORDIC_FUNCTIONS, IntegerCordic
from mcucompile.ops.dense import Dense, IntegerDense
from mcucompile.ops.extremum import Extremum, IntegerExtremum
from mcucompile.ops.fake_quantize import FakeQuantize
from mcucompile.ops.four_view import FourView
from mcucompile.ops.gru import Gru, IntegerGru
from mcucompile.ops.log_softmax import IntegerLogSoftmax, LogSoftmax
from mcucompile.ops.lookup import IntegerInterpolation, IntegerLookup, Lookup
from mcucompile.ops.lstm import IntegerLstm, Lstm
from mcucompile.ops.matmul import IntegerMatMul, MatMul
from mcucompile.ops.max_pool import MaxPool
from mcucompile.ops.multiply import IntegerMultiply, Multiply
from mcucompile.ops.normalize import IntegerNormalize, Normalize
from mcucompile.ops.pooled_conv import IntegerPooledConv
from mcucompile.ops.prelu import IntegerPRelu, PRelu
from mcucompile.ops.recurrent import IntegerRecurrent, Recurrent
from mcucompile.ops.reduce import IntegerExtreme, IntegerSum, Reduce
from mcucompile.ops.relu import IntegerRelu, Relu
from mcucompile.ops.reshape import Reshape
from mcucompile.ops.softmax import IntegerSoftmax, Softmax
from mcucompile.ops.take import Take
from mcucompile.ops.transpose import Transpose
from mcucompile.ops.weighted import weights_of

REAL_OPERATORS: tuple[type[RealOp], ...] = (
    Dense,
    Conv,
    Affine,
    Add,
    Relu,
    Reshape,
    Transpose,
    Softmax,
    ArgMax,
    FourView,
    MaxPool,
    AveragePool,
    Reduce,
    Take,
    Concat,
    Lookup,
    Clip,
    Lstm,
    Gru,
    PRelu,
    Multiply,
    Extremum,
    LogSoftmax,
    Normalize,
    MatMul,
    FakeQuantize,
)
# Those with weights, which have an encoding.
WEIGHTED_OPERATORS = (Dense, Conv, Recurrent)
INTEGER_OPERATORS: dict[str, type[Op]] = {
    operator.__name__: operator
    for operator in (
        IntegerDense,
        IntegerConv,
        IntegerPooledConv,
        IntegerAffine,
        IntegerAdd,
        IntegerRelu,
        Reshape,
        Transpose,
        IntegerSoftmax,
        ArgMax,
        FourView,
        MaxPool,
        IntegerAveragePool,
        IntegerSum,
        IntegerExtreme,
        Take,
        IntegerConcat,
        IntegerLookup,
        IntegerInterpolation,
        IntegerCordic,
        IntegerClip,
        IntegerLstm,
        IntegerGru,
        IntegerPRelu,
        IntegerMultiply,
        IntegerExtremum,
        IntegerLogSoftmax,
        IntegerNormalize,
        IntegerMatMul,
    )
}

__all__ = [
    "ACTIVATION_METHODS",
    "CORDIC_FUNCTIONS",
    "INTEGER_OPERATORS",
    "REAL_OPERATORS",
    "WEIGHTED_OPERATORS",
    "Add",
    "Affine",
    "ArgMax",
    "AveragePool",
    "Clip",
    "Concat",
    "Conv",
    "Dense",
    "Extremum",
    "FakeQuantize",
    "FourView",
    "Gru",
    "IntegerAdd",
    "IntegerAffine",
    "IntegerAveragePool",
    "IntegerClip",
    "IntegerConcat",
    "IntegerConv",
    "IntegerCordic",
    "IntegerDense",
    "IntegerExtreme",
    "IntegerExtremum",
    "IntegerGru",
    "IntegerInterpolation",
    "IntegerLogSoftmax",
    "IntegerLookup",
    "IntegerLstm",
    "IntegerMatMul",
    "IntegerMultiply",
    "IntegerNormalize",
    "IntegerPRelu",
    "IntegerPooledConv",
    "IntegerRecurrent",
    "IntegerRelu",
    "IntegerSoftmax",
    "IntegerSum",
    "LogSoftmax",
    "Lookup",
    "Lstm",
    "MatMul",
    "MaxPool",
    "Multiply",
    "Normalize",
    "PRelu",
    "Recurrent",
    "Reduce",
    "Relu",
    "Reshape",
    "Softmax",
    "Take",
    "Transpose",
    "activation_method",
    "weights_of",
]
