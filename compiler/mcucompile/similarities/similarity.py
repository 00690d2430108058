"""What a similarity is: the term S(x, w) that a layer sums over its receptive field."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from mcucompile.numerics import Int, Real


@dataclass(frozen=True, slots=True)
class Similarity:
    """One row of the similarity table.

    Attributes:
        name: the name in ONNX, Python, C and on the command line.
        formula: for people: reports and comments in the generated C.
        header: the C term, relative to runtime_c/; declares mcu_<name>_step.
        needs: other headers that it includes.
        term: S of integers, element by element, in units of `unit`; broadcasts.
        accumulate: the integer reference, the sum of terms: x (..., n_in), w (n_out, n_in) -> (..., n_out).
        real: the same sum of reals, what networks are trained with.
        unit: the real size of an accumulator's 1, from the real size of x's 1; of dot, with weights of step 1.
        shares_scale: weights have the scale of x, so that the two can be compared.
        signs: weights are only their signs, and need no scale.
        sign_of_zero: of a weight.
        jumps_at_zero: the sign of a weight counts however small it is.
        beyond: (w, c) -> S(x, w) - S(x, c) for every |x| <= |c|, c being w clamped; None if that depends on x. Then
            weights need no more room than x.
        input_scale: the scale that x must have, None for any.
        input_reach: the largest magnitude, real, of x and of a weight.
    """

    name: str
    formula: str
    header: str
    term: Callable[[Int, Int], Int]
    accumulate: Callable[[Int, Int], Int]
    real: Callable[[Real, Real], Real]
    unit: Callable[[float], float]
    needs: tuple[str, ...] = ()
    shares_scale: bool = False
    signs: bool = False
    sign_of_zero: int = 0
    jumps_at_zero: bool = False
    beyond: Callable[[Real, Real], Real] | None = None
    input_scale: float | None = None
    input_reach: float = math.inf
