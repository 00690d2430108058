"""What a similarity is: the term S(x, w) that a layer sums over its receptive field."""

from collections.abc import Callable
from dataclasses import dataclass

from mcucompile.numerics import Int


@dataclass(frozen=True, slots=True)
class Similarity:
    """One row of the similarity table.

    Attributes:
        name: the name in ONNX, Python, C and on the command line.
        formula: for people: reports and comments in the generated C.
        header: the C term, relative to runtime_c/; declares mcu_<name>_step.
        accumulate: the integer reference: x (..., n_in), w (n_out, n_in) -> (..., n_out).
    """

    name: str
    formula: str
    header: str
    accumulate: Callable[[Int, Int], Int]
