"""ONNX form of the euclid similarity: S = -(x - w)^2 / 2 = x w - w^2 / 2 - x^2 / 2.

The sums of x^2 / 2 are a convolution of x^2 by halves, those of w^2 / 2 a constant per output.
"""

from mcucompile.similarities.onnx_bodies import GEOMETRY, OnnxFace

FACE = OnnxFace(
    conv=f"""
    minus_half = Constant <value_float: float = -0.5> ()
    input_axis = Constant <value_ints: ints = [1]> ()
    w_shape = Shape (w)
    minus_halves = ConstantOfShape <value: tensor = float[1] {{-0.5}}> (w_shape)
    w_square = Mul (w, w)
    w_squares = Flatten <axis: int = 1> (w_square)
    w_norm = ReduceSum <keepdims: int = 0> (w_squares, input_axis)
    w_sum = Mul (w_norm, minus_half)
    x_square = Mul (x, x)
    x_sum = Conv <{GEOMETRY}> (x_square, minus_halves)
    products = Conv <{GEOMETRY}> (x, w, w_sum)
    y = Add (products, x_sum)
""",
    linear="""
    minus_half = Constant <value_float: float = -0.5> ()
    input_axis = Constant <value_ints: ints = [-1]> ()
    w_square = Mul (w, w)
    w_norm = ReduceSum <keepdims: int = 0> (w_square, input_axis)
    x_square = Mul (x, x)
    x_norm = ReduceSum <keepdims: int = 1> (x_square, input_axis)
    norms = Add (x_norm, w_norm)
    norm_sum = Mul (norms, minus_half)
    w_columns = Transpose (w)
    products = MatMul (x, w_columns)
    y = Add (products, norm_sum)
""",
)
