"""ONNX form of the mfo similarity: S = sign(x) sign(w) (|x| + |w|) = x sign(w) + sign(x) w, sign(0) = 0."""

from mcucompile.similarities.onnx_bodies import GEOMETRY, OnnxFace

FACE = OnnxFace(
    conv=f"""
    w_sign = Sign (w)
    x_sign = Sign (x)
    x_sum = Conv <{GEOMETRY}> (x, w_sign)
    w_sum = Conv <{GEOMETRY}> (x_sign, w)
    y = Add (x_sum, w_sum)
""",
    linear="""
    w_columns = Transpose (w)
    w_sign = Sign (w_columns)
    x_sign = Sign (x)
    x_sum = MatMul (x, w_sign)
    w_sum = MatMul (x_sign, w_columns)
    y = Add (x_sum, w_sum)
""",
)
