"""ONNX form of the ternary similarity: S = x sign(w), sign(0) = 0; the file holds w as -1, 0 or 1."""

from mcucompile.similarities.onnx_bodies import GEOMETRY, OnnxFace

FACE = OnnxFace(
    conv=f"""
    w_sign = Sign (w)
    y = Conv <{GEOMETRY}> (x, w_sign)
""",
    linear="""
    w_columns = Transpose (w)
    w_sign = Sign (w_columns)
    y = MatMul (x, w_sign)
""",
)
