"""The dot product, what convolutions and fully connected layers usually compute."""

from mcucompile.similarities.dot.reference import accumulate, real, term
from mcucompile.similarities.similarity import Similarity

DOT = Similarity(
    name="dot",
    formula="S = sum x * w",
    header="similarity/dot.h",
    term=term,
    accumulate=accumulate,
    real=real,
    unit=lambda x_scale: x_scale,
)
