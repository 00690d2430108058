"""Dense layer without multiplier, any 8-bit weights: a product is the difference of two quarter squares.

x * w = floor((x + w)**2 / 4) - floor((x - w)**2 / 4), exact for integers of any sign.
"""

from dataclasses import dataclass

import numpy as np

from mcucompile.kernels.dense import dense_context, dense_cost, looked_up_values, sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer

# Of an int8 weight, so that most layers share one table.
_LARGEST = 127


@dataclass(frozen=True, slots=True)
class DenseQuarterSquare(Kernel):
    """For 8-bit weights on any core; its table takes about 1 KB of flash, shared by all such layers.

    A 16-bit input is taken in two bytes: x * w = 256 * (x >> 8) * w + (x & 255) * w.
    """

    def refusal(self, layer: Layer, core: Core) -> str | None:  # noqa: ARG002 - any core will do
        """Refuse encodings whose values are not integers of 8 bits or so, and inputs of more than 16 bits."""
        sums = sums_of(layer)
        is_small = sums.weights.encoding in ("int8", "int8z") and sums.input.bits <= 16
        return None if is_small else "needs 8-bit weights and inputs of at most 16 bits"

    def cost(self, layer: Layer) -> Cost:
        """Fifteen instructions for each weight and byte of the input, two more to look a weight's value up."""
        sums = sums_of(layer)
        values = looked_up_values(sums.weights)
        per_weight = (15 if sums.input.bits == 8 else 32) + 2 * bool(values)
        table_bytes = 2 * (2 * self.reach(layer) + 1) + 2 * len(values)
        return dense_cost(layer, per_weight=per_weight, per_output=4, table_bytes=table_bytes)

    def context(self, layer: Layer) -> Context:
        """Add the reach of the table that the layer needs."""
        sums = sums_of(layer)
        return {
            **dense_context(layer),
            "reach": self.reach(layer),
            "two_bytes": sums.input.bits == 16,
            "code_values": looked_up_values(sums.weights),
        }

    @staticmethod
    def reach(layer: Layer) -> int:
        """Return the largest |x| + |w|, of one byte of x."""
        sums = sums_of(layer)
        largest = 255 if sums.input.bits == 16 else max(-sums.input.minimum, sums.input.maximum)
        return largest + max(_LARGEST, int(np.abs(sums.weights.values).max()))


DENSE_QUARTER_SQUARE = DenseQuarterSquare("quarter square", "dense", "kernels/dense_quarter_square.c.j2")
