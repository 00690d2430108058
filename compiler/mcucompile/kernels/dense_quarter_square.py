"""Dense layer without multiplier, any 8-bit weights: a product is the difference of two quarter squares.

x * w = floor((x + w)**2 / 4) - floor((x - w)**2 / 4), exact for integers of any sign.
"""

from dataclasses import dataclass

from mcucompile.kernels.dense import dense_context, dense_cost, sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer


@dataclass(frozen=True, slots=True)
class DenseQuarterSquare(Kernel):
    """For int8 weights on any core; its table takes about 1 KB of flash, shared by all such layers.

    A 16-bit input is taken in two bytes: x * w = 256 * (x >> 8) * w + (x & 255) * w.
    """

    def refusal(self, layer: Layer, core: Core) -> str | None:  # noqa: ARG002 - any core will do
        """Refuse encodings whose code is not an 8-bit integer, and inputs of more than 16 bits."""
        sums = sums_of(layer)
        is_small = sums.weights.encoding == "int8" and sums.input.bits <= 16
        return None if is_small else "needs int8 weights and inputs of at most 16 bits"

    def cost(self, layer: Layer) -> Cost:
        """Fifteen instructions for each weight and byte of the input."""
        per_weight = 15 if sums_of(layer).input.bits == 8 else 32
        return dense_cost(layer, per_weight=per_weight, per_output=4, table_bytes=2 * (2 * self.reach(layer) + 1))

    def context(self, layer: Layer) -> Context:
        """Add the reach of the table that the layer needs."""
        return {**dense_context(layer), "reach": self.reach(layer), "two_bytes": sums_of(layer).input.bits == 16}

    @staticmethod
    def reach(layer: Layer) -> int:
        """Return the largest |x| + |w|, of one byte of x."""
        source = sums_of(layer).input
        return (255 if source.bits == 16 else max(-source.minimum, source.maximum)) + 127


DENSE_QUARTER_SQUARE = DenseQuarterSquare("quarter square", "dense", "kernels/dense_quarter_square.c.j2")
