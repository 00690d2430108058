"""Activations added, subtracted or left out: Li & Liu, "Ternary weight networks", arXiv:1605.04711, section 2."""

from mcucompile.similarities.similarity import Similarity
from mcucompile.similarities.ternary.reference import accumulate, real, term

TERNARY = Similarity(
    name="ternary",
    formula="S = sum x sign(w)",
    header="similarity/ternary.h",
    term=term,
    accumulate=accumulate,
    real=real,
    unit=lambda x_scale: x_scale,
    signs=True,
)
