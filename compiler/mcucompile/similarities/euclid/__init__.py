"""The squared distance of EuclidNets: Li et al., "EuclidNets", equation 1."""

from mcucompile.similarities.euclid.reference import accumulate, real, term
from mcucompile.similarities.similarity import Similarity

EUCLID = Similarity(
    name="euclid",
    formula="S = -sum (x - w)^2 / 2",
    header="similarity/euclid.h",
    term=term,
    accumulate=accumulate,
    real=real,
    # The half stays in the scale.
    unit=lambda x_scale: x_scale**2 / 2,
    shares_scale=True,
)
