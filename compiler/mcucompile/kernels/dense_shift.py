"""Dense layer with power-of-two weights: one shift and one add or subtract for each weight."""

from dataclasses import dataclass

from mcucompile.encodings import ENCODINGS
from mcucompile.encodings.log_quant import LogQuant
from mcucompile.kernels.dense import dense_context, dense_cost, sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer

_NIBBLE = 4
# Instructions for each weight of 8 bits and of 4, counted by benchmarks/kernels.py.
_PER_WEIGHT = {"rv32imac": (9.5, 10.2), "rv32ec": (9.5, 10.4), "cortex-m0": (14.3, 15.2), "cortex-m4": (10.4, 10.5)}


@dataclass(frozen=True, slots=True)
class DenseShift(Kernel):
    """For LogQuant on any core."""

    def refusal(self, layer: Layer, core: Core) -> str | None:  # noqa: ARG002 - any core will do
        """Refuse weights that are not powers of two."""
        if sums_of(layer).similarity != "dot":
            return "computes dot only"
        return None if _log_quant(layer) else "needs power-of-two weights"

    def cost(self, layer: Layer, core: Core) -> Cost:
        """A weight of 4 bits is unpacked first."""
        return dense_cost(layer, core, core.pick(_PER_WEIGHT)[sums_of(layer).weights.bits == _NIBBLE])

    def context(self, layer: Layer) -> Context:
        """Add the position of the sign."""
        encoding = _log_quant(layer)
        if encoding is None:
            raise TypeError("the shift kernel was given weights that it refuses")
        return {**dense_context(layer), "index_bits": encoding.index_bits}


def _log_quant(layer: Layer) -> LogQuant | None:
    encoding = ENCODINGS[sums_of(layer).weights.encoding]
    return encoding if isinstance(encoding, LogQuant) else None


DENSE_SHIFT = DenseShift("shift", "dense", "kernels/dense_shift.c.j2")
