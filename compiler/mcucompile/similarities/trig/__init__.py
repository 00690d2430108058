"""Trigonometric inference, sin x sin w by product-to-sum: Wu, "Log or trig?" (thesis), section 4.1."""

import math

from mcucompile.similarities.similarity import Similarity
from mcucompile.similarities.trig.reference import SCALE, UNIT, accumulate, real, term

TRIG = Similarity(
    name="trig",
    formula="S = sum (cos(x - w) - cos(x + w)) / 2",
    header="similarity/trig.h",
    needs=("mcu_cordic.h",),
    term=term,
    accumulate=accumulate,
    real=real,
    unit=lambda _x_scale: UNIT,
    shares_scale=True,
    input_scale=SCALE,
    input_reach=math.pi / 2,
)
