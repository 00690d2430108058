"""The min-selector of MinConvNets, which EuclidNets call synapse: Yang et al., "MinConvNets", Table 2."""

import numpy as np

from mcucompile.similarities.minconv.reference import accumulate, real, term
from mcucompile.similarities.similarity import Similarity

MINCONV = Similarity(
    name="minconv",
    formula="S = sum sign(x) sign(w) min(|x|, |w|)",
    header="similarity/minconv.h",
    term=term,
    accumulate=accumulate,
    real=real,
    unit=lambda x_scale: x_scale,
    shares_scale=True,
    beyond=lambda w, _clamped: np.zeros_like(w),
)
