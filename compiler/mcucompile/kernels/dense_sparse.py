"""Dense layer whose weights are mostly 0: for each output, lists of the inputs that a magnitude adds or subtracts.

acc = sum_v v * (sum of the inputs whose weight is v - sum of those whose weight is -v), v over the few magnitudes.
A weight of 0 costs nothing; another one costs a byte of flash (two behind the 256th input), two loads and an
addition, and one more where loads take no index. Each magnitude is multiplied once for each output; powers of two are
shifts of what has been summed so far.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mcucompile.kernels.dense import dense_context, sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.kernels.requantize import requantize_code, signed_digits
from mcucompile.numerics import Int

_MAX_MAGNITUDES, _MAX_INPUTS, _WIDEST_INPUT = 16, 1 << 16, 16
# Indices that the loop takes at once.
_GROUP = 4
_BYTE = 256
# Instructions around a list without rests, one more where some are empty; for a digit of a magnitude, and for one
# of a multiplier that each output has its own of.
_PER_WHOLE_LIST, _PER_DIGIT, _PER_TABLE_DIGIT = 2, 2, 9


@dataclass(frozen=True)
class Lists:
    """The lists of a layer.

    Attributes:
        factors: (n_out, n_in) what each input is multiplied by.
    """

    factors: Int

    @cached_property
    def magnitudes(self) -> tuple[int, ...]:
        """All but 0, the largest first."""
        return tuple(int(v) for v in np.unique(np.abs(self.factors))[::-1] if v)

    @property
    def shifts(self) -> tuple[int, ...]:
        """How far the sum is shifted behind each magnitude, if all are powers of two; else none."""
        if any(v & (v - 1) for v in self.magnitudes):
            return ()
        exponents = [v.bit_length() - 1 for v in self.magnitudes]
        return tuple(above - below for above, below in zip(exponents, [*exponents[1:], 0], strict=True))

    @cached_property
    def counts(self) -> Int:
        """(n_out, 2 * magnitudes): how many inputs each list has; a magnitude's first list is added."""
        lists = [np.count_nonzero(self.factors == sign * v, axis=1) for v in self.magnitudes for sign in (1, -1)]
        return np.stack(lists, axis=1)

    @property
    def indices(self) -> tuple[int, ...]:
        """The inputs of all lists, output by output."""
        keys = np.array([sign * v for v in self.magnitudes for sign in (1, -1)])
        return tuple(int(i) for row in self.factors for key in keys for i in np.flatnonzero(row == key))

    @property
    def index_bytes(self) -> int:
        """Bytes of an index."""
        return 1 if self.factors.shape[1] <= _BYTE else 2

    @property
    def count_bytes(self) -> int:
        """Bytes of a count."""
        return 1 if self.counts.max() < _BYTE else 2

    @property
    def has_rests(self) -> bool:
        """Whether some list is no whole number of groups."""
        return bool((self.counts % _GROUP).any())

    @property
    def has_empty(self) -> tuple[bool, ...]:
        """For each of an output's lists, whether some output has none."""
        return tuple(bool(v) for v in (self.counts == 0).any(axis=0))

    def refusal(self) -> str | None:
        """Return why the weights are not for lists, None if they are."""
        if self.factors.shape[1] > _MAX_INPUTS:
            return f"takes at most {_MAX_INPUTS} inputs"
        count = len(self.magnitudes)
        if not count:
            return "has no weight but 0"
        if count > _MAX_MAGNITUDES:
            return f"weights of {count} magnitudes need too many lists"
        # Lists of several magnitudes are short, and what surrounds them counts.
        is_full = 2 * np.count_nonzero(self.factors) > self.factors.size
        return "most of its weights are not 0" if is_full and count > 1 else None


@dataclass(frozen=True, slots=True)
class DenseSparse(Kernel):
    """For few magnitudes, with what takes how many instructions on some cores.

    Attributes:
        cores: the cores.
        per_group, per_rest: four indices, and one of those left over.
        per_list: around a list where some have rests.
        per_output: around an output, beyond its requantization.
    """

    cores: tuple[str, ...]
    per_group: float
    per_rest: float
    per_list: float
    per_output: float

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse similarities that do not multiply, and weights of many magnitudes."""
        sums = sums_of(layer)
        if core.name not in self.cores:
            return f"is made for {', '.join(self.cores)}"
        if sums.similarity not in ("dot", "ternary"):
            return "computes dot and ternary only"
        if sums.input.bits > _WIDEST_INPUT:
            return f"needs inputs of at most {_WIDEST_INPUT} bits"
        return _lists(layer).refusal()

    def cost(self, layer: Layer, core: Core) -> Cost:  # noqa: ARG002 - it is for one core
        """Count groups, rests, lists and the digits of the magnitudes."""
        sums, lists = sums_of(layer), _lists(layer)
        requantize = requantize_code(sums.requantize, sums.output)
        powers = sum(1 for shift in lists.shifts if shift)
        digits = 0 if lists.shifts else sum(len(signed_digits(v)) for v in lists.magnitudes)
        table_digits = 0 if requantize.is_uniform or requantize.is_wide else requantize.digit_count
        per_output = (
            self.per_output + requantize.instructions + _PER_DIGIT * digits + powers + _PER_TABLE_DIGIT * table_digits
        )
        instructions = (
            self.per_group * float((lists.counts // _GROUP).sum())
            + self.per_rest * float((lists.counts % _GROUP).sum())
            + (self.per_list if lists.has_rests else _PER_WHOLE_LIST) * lists.counts.size
            + per_output * len(lists.factors)
        )
        size = lists.index_bytes * int(lists.counts.sum()) + lists.count_bytes * lists.counts.size
        instructions += 0 if lists.has_rests else sum(lists.has_empty) * len(lists.factors)
        return Cost(round(sums.rows * instructions), size + requantize.table_bytes)

    def context(self, layer: Layer) -> Context:
        """Add the lists."""
        lists = _lists(layer)
        return {
            **dense_context(layer),
            "magnitudes": tuple(signed_digits(v) for v in lists.magnitudes),
            "indices": lists.indices,
            "counts": tuple(lists.counts.flatten().tolist()),
            "index_type": f"uint{8 * lists.index_bytes}_t",
            "count_type": f"uint{8 * lists.count_bytes}_t",
            "has_rests": lists.has_rests,
            "has_empty": lists.has_empty,
            "shifts": lists.shifts,
        }


def _lists(layer: Layer) -> Lists:
    sums = sums_of(layer)
    values = sums.weights.values
    return Lists(np.sign(values) if sums.similarity == "ternary" else values)


_NAME, _TEMPLATE = "sparse", "kernels/dense_sparse.c.j2"
DENSE_SPARSE = tuple(
    DenseSparse(_NAME, "dense", _TEMPLATE, *costs)
    for costs in (
        (("host", "rv32ec"), 18.0, 4.6, 10.6, 3.0),
        (("rv32imac",), 18.0, 6.0, 7.7, 0.0),
        (("cortex-m0",), 15.0, 4.7, 14.5, 3.5),
        (("cortex-m4",), 14.5, 2.1, 12.7, 0.6),
    )
)
