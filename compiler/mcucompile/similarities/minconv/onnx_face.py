"""ONNX form of the minconv similarity: S = sign(x) sign(w) min(|x|, |w|).

That is sign(w) times x limited to -|w|..|w|, which needs no rounding.
"""

from mcucompile.similarities.onnx_bodies import term_by_term

FACE = term_by_term(
    weights="""
    w_sign = Sign (w_part)
    highest = Abs (w_part)
    lowest = Neg (highest)
""",
    term="""
        limited_above = Min (x_part, highest)
        limited = Max (limited_above, lowest)
        terms = Mul (limited, w_sign)
""",
)
