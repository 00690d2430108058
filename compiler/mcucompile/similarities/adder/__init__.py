"""The L1 distance of AdderNet: Chen et al., arXiv:1912.13200, equation 2."""

from mcucompile.similarities.adder.reference import accumulate, real, term
from mcucompile.similarities.similarity import Similarity

ADDER = Similarity(
    name="adder",
    formula="S = -sum |x - w|",
    header="similarity/adder.h",
    term=term,
    accumulate=accumulate,
    real=real,
    unit=lambda x_scale: x_scale,
    shares_scale=True,
    beyond=term,
)
