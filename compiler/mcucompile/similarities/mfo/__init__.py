"""The multiplication-free operator: Li et al., "EuclidNets", equation 5."""

from mcucompile.similarities.mfo.reference import accumulate, real, term
from mcucompile.similarities.similarity import Similarity

MFO = Similarity(
    name="mfo",
    formula="S = sum sign(x) sign(w) (|x| + |w|)",
    header="similarity/mfo.h",
    term=term,
    accumulate=accumulate,
    real=real,
    unit=lambda x_scale: x_scale,
    shares_scale=True,
    jumps_at_zero=True,
)
