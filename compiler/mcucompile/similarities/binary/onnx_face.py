"""ONNX form of the binary similarity: S = sgn(x) sgn(w), sgn(0) = +1.

sgn(x) = 1 - 2 [x < 0]; since [x < 0] is 0 in the padding, the padding has the sign +1 without being built.
"""

from mcucompile.similarities.onnx_bodies import GEOMETRY, OnnxFace

_SIGNS = """
    zero = Constant <value_float: float = 0.0> ()
    one = Constant <value_float: float = 1.0> ()
    two = Constant <value_float: float = 2.0> ()
    w_is_negative = Less (w, zero)
    w_negative = Cast <to: int = 1> (w_is_negative)
    w_twice = Mul (w_negative, two)
    w_sign = Sub (one, w_twice)
    x_is_negative = Less (x, zero)
    x_negative = Cast <to: int = 1> (x_is_negative)
    x_twice = Mul (x_negative, two)
"""
FACE = OnnxFace(
    conv=f"""{_SIGNS}
    input_axis = Constant <value_ints: ints = [1]> ()
    w_signs = Flatten <axis: int = 1> (w_sign)
    w_sum = ReduceSum <keepdims: int = 0> (w_signs, input_axis)
    w_opposite = Neg (w_sign)
    y = Conv <{GEOMETRY}> (x_twice, w_opposite, w_sum)
""",
    linear=f"""{_SIGNS}
    x_sign = Sub (one, x_twice)
    w_columns = Transpose (w_sign)
    y = MatMul (x_sign, w_columns)
""",
)
