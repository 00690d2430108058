"""Dense layer with few distinct weights: sum the inputs of each weight first, multiply the sums once.

acc = sum_v v * (sum of the inputs whose weight is v). The inner loop only adds; the products by the
constants v are made once for each output, together, by Horner's rule over the bits of all constants in
canonical signed digits.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mcucompile.encodings import Weights
from mcucompile.kernels.dense import dense_context, dense_cost, sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.numerics import canonical_signed_digits

_MAX_CODES = 130
_NIBBLE = 4
# Instructions for each weight of 8 bits and of 4, for each bin and digit of an output, and beside them, counted by
# benchmarks/kernels.py.
_INSTRUCTIONS = {
    "rv32imac": (8.4, 9.1, 9.4, 3.6, 78.0),
    "rv32ec": (8.7, 10.1, 14.1, 1.8, 26.0),
    "cortex-m0": (9.2, 11.7, 18.7, 3.0, -10.0),
    "cortex-m4": (5.9, 7.3, 14.8, 0.5, 34.0),
}


@dataclass(frozen=True, slots=True)
class HornerStep:
    """acc = (acc << shift) + the bins of `plus` - the bins of `minus`."""

    shift: int
    plus: tuple[int, ...]
    minus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DenseBins(Kernel):
    """For codebooks of at most 130 codes on any core."""

    def refusal(self, layer: Layer, core: Core) -> str | None:  # noqa: ARG002 - any core will do
        """Refuse encodings with too many codes for bins on the stack."""
        sums = sums_of(layer)
        weights = sums.weights
        codes = len(weights.code_values)
        # A sign times x is a product like others.
        if sums.similarity not in ("dot", "ternary"):
            return "computes dot and ternary only"
        if -int(weights.values.min()) > int(weights.code_values.max()):
            return "a weight has no positive counterpart"
        return None if codes <= _MAX_CODES else f"{codes} distinct weights need too many bins"

    def cost(self, layer: Layer, core: Core) -> Cost:
        """Add up each weight, and for each output clearing, folding and combining the bins."""
        weights = sums_of(layer).weights
        bins = len(weights.code_values)
        digits = sum(len(step.plus) + len(step.minus) + 1 for step in horner_steps(weights))
        of_byte, of_nibble, of_bin, of_digit, beside = core.pick(_INSTRUCTIONS)
        per_weight = of_nibble if weights.bits == _NIBBLE else of_byte
        per_output = of_bin * bins + of_digit * digits + beside
        return dense_cost(layer, core, per_weight, per_output=per_output, stack_bytes=4 * bins)

    def context(self, layer: Layer) -> Context:
        """Add how bins are folded and combined."""
        weights = sums_of(layer).weights
        first, last, partner = _folding(weights)
        return {
            **dense_context(layer),
            "bins": len(weights.code_values),
            "fold_first": first,
            "fold_last": last,
            "fold_partner": partner,
            "steps": horner_steps(weights),
        }


def horner_steps(weights: Weights) -> tuple[HornerStep, ...]:
    """Return the steps that make sum_k value[k] * bin[k] over the folded bins that some weight uses."""
    digits: dict[int, list[tuple[int, int]]] = {}
    for code, value in _folded_values(weights):
        for sign, shift in canonical_signed_digits(value):
            digits.setdefault(shift, []).append((sign, code))
    steps = []
    bits = sorted(digits, reverse=True)
    for above, bit in zip([None, *bits], [*bits, 0], strict=True):
        plus = tuple(code for sign, code in digits.get(bit, ()) if sign > 0)
        minus = tuple(code for sign, code in digits.get(bit, ()) if sign < 0)
        steps.append(HornerStep(0 if above is None else above - bit, plus, minus))
    if bits and bits[-1] == 0:
        steps.pop()
    return tuple(steps)


def _folded_values(weights: Weights) -> Iterator[tuple[int, int]]:
    """Yield (code, value) of the positive values that a weight, of either sign, has."""
    used = {abs(int(v)) for v in np.unique(weights.values)}
    for code, value in enumerate(weights.code_values):
        if value > 0 and int(value) in used:
            yield code, int(value)


def _folding(weights: Weights) -> tuple[int, int, str]:
    """Return first and last positive code and, as C, the code of k's negative: every codebook is symmetric."""
    values = weights.code_values
    positive = np.flatnonzero(values > 0)
    first, last = int(positive[0]), int(positive[-1])
    for offset in range(1, len(values)):
        if offset + last < len(values) and np.array_equal(values[positive + offset], -values[positive]):
            return first, last, f"k + {offset}U"
    if np.array_equal(values[len(values) - positive], -values[positive]):
        return first, last, f"{len(values)}U - k"
    raise ValueError(f"the values of {weights.encoding} are not symmetric around 0")


DENSE_BINS = DenseBins("bins", "dense", "kernels/dense_bins.c.j2")
