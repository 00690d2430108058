"""Products of signs, XNOR: Rastegari et al., "XNOR-Net", arXiv:1603.05279, section 3.2. The sign of 0 is 1."""

from mcucompile.similarities.binary.reference import accumulate, real, term
from mcucompile.similarities.similarity import Similarity

BINARY = Similarity(
    name="binary",
    formula="S = sum sgn(x) sgn(w)",
    header="similarity/binary.h",
    term=term,
    accumulate=accumulate,
    real=real,
    unit=lambda _x_scale: 1.0,
    signs=True,
    sign_of_zero=1,
)
