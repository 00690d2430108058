"""ONNX form of the adder similarity: S = -|x - w|."""

from mcucompile.similarities.onnx_bodies import term_by_term

FACE = term_by_term(
    weights="",
    term="""
        difference = Sub (x_part, w_part)
        distance = Abs (difference)
        terms = Neg (distance)
""",
)
