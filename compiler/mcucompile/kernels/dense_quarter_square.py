"""Dense layer without multiplier, any 8-bit weights: a product is the difference of two quarter squares.

x * w = floor((x + w)**2 / 4) - floor((x - w)**2 / 4), exact for integers of any sign.
"""

from dataclasses import dataclass

from mcucompile.kernels.dense import dense_context, dense_cost, sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer


@dataclass(frozen=True, slots=True)
class DenseQuarterSquare(Kernel):
    """For int8 weights on any core; its table takes about 1 KB of flash, shared by all such layers."""

    def refusal(self, layer: Layer, core: Core) -> str | None:  # noqa: ARG002 - any core will do
        """Refuse encodings whose code is not an 8-bit integer, and inputs that would need a huge table."""
        sums = sums_of(layer)
        return (
            None if sums.weights.encoding == "int8" and sums.input.bits == 8 else "needs int8 weights and 8-bit inputs"
        )

    def cost(self, layer: Layer) -> Cost:
        """Fifteen instructions for each weight."""
        return dense_cost(layer, per_weight=15, per_output=4, table_bytes=2 * (2 * self.reach(layer) + 1))

    def context(self, layer: Layer) -> Context:
        """Add the reach of the table that the layer needs."""
        return {**dense_context(layer), "reach": self.reach(layer)}

    @staticmethod
    def reach(layer: Layer) -> int:
        """Return the largest |x| + |w|."""
        source = sums_of(layer).input
        return max(-source.minimum, source.maximum) + 127


DENSE_QUARTER_SQUARE = DenseQuarterSquare("quarter square", "dense", "kernels/dense_quarter_square.c.j2")
