"""Dense layer with power-of-two weights: one shift and one add or subtract for each weight."""

from dataclasses import dataclass

from mcucompile.encodings import ENCODINGS
from mcucompile.encodings.log_quant import LogQuant
from mcucompile.kernels.dense import dense_context, dense_cost, sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer


@dataclass(frozen=True, slots=True)
class DenseShift(Kernel):
    """For LogQuant on any core."""

    def refusal(self, layer: Layer, core: Core) -> str | None:  # noqa: ARG002 - any core will do
        """Refuse weights that are not powers of two."""
        if sums_of(layer).similarity != "dot":
            return "computes dot only"
        return None if _log_quant(layer) else "needs power-of-two weights"

    def cost(self, layer: Layer, core: Core) -> Cost:
        """Ten instructions for each weight."""
        return dense_cost(layer, per_weight=10, per_output=4)

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
