"""ONNX form of the trig similarity: S = sin(x) sin(w), angles in radians; the padding has sin(0) = 0."""

from mcucompile.similarities.onnx_bodies import GEOMETRY, OnnxFace

FACE = OnnxFace(
    conv=f"""
    x_sine = Sin (x)
    w_sine = Sin (w)
    y = Conv <{GEOMETRY}> (x_sine, w_sine)
""",
    linear="""
    x_sine = Sin (x)
    w_columns = Transpose (w)
    w_sine = Sin (w_columns)
    y = MatMul (x_sine, w_sine)
""",
)
