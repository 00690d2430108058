"""Dense layer with power-of-two weights: one shift and one add or subtract for each weight."""

from dataclasses import dataclass

from mcucompile.encodings import ENCODINGS
from mcucompile.encodings.log_quant import LogQuant
from mcucompile.kernels.dense import dense_context, dense_cost, dense_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer


@dataclass(frozen=True, slots=True)
class DenseShift(Kernel):
    """For LogQuant on any core."""

    def refusal(self, layer: Layer, core: Core) -> str | None:  # noqa: ARG002 - any core will do
        """Refuse weights that are not powers of two."""
        encoding = ENCODINGS[dense_of(layer).weights.encoding]
        return None if isinstance(encoding, LogQuant) else "needs power-of-two weights"

    def cost(self, layer: Layer) -> Cost:
        """Ten instructions for each weight."""
        return dense_cost(layer, per_weight=10, per_output=4)

    def context(self, layer: Layer) -> Context:
        """Add the position of the sign."""
        encoding = ENCODINGS[dense_of(layer).weights.encoding]
        return {**dense_context(layer), "index_bits": getattr(encoding, "index_bits", 0)}


DENSE_SHIFT = DenseShift("shift", "dense", "kernels/dense_shift.c.j2")
