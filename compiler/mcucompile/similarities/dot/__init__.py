"""The dot product, what convolutions and fully connected layers usually compute."""

from mcucompile.similarities.dot.reference import accumulate
from mcucompile.similarities.similarity import Similarity

DOT = Similarity(
    name="dot",
    formula="S = sum x * w",
    header="similarity/dot.h",
    accumulate=accumulate,
)
