"""Dense layer, plain kernel: the loop nest around the similarity's term, one multiply for each weight."""

from dataclasses import dataclass

import numpy as np

from mcucompile.encodings import Weights
from mcucompile.kernels.dense import dense_context, dense_cost, sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer


@dataclass(frozen=True, slots=True)
class DenseMultiply(Kernel):
    """Decodes each weight (sign extension, or a table of the codebook's values) and multiplies."""

    def refusal(self, layer: Layer, core: Core) -> str | None:  # noqa: ARG002 - any layer will do
        """Refuse a core without multiplier."""
        return None if core.has_multiplier else "needs a multiplier"

    def cost(self, layer: Layer) -> Cost:
        """Seven instructions for each weight, two more to look a value up."""
        values = self._values(sums_of(layer).weights)
        return dense_cost(layer, per_weight=9 if values else 7, per_output=4, table_bytes=2 * len(values))

    def context(self, layer: Layer) -> Context:
        """Add the table of values, empty if a code is its own value."""
        return {**dense_context(layer), "code_values": self._values(sums_of(layer).weights)}

    @staticmethod
    def _values(weights: Weights) -> tuple[int, ...]:
        values = weights.code_values
        codes = np.arange(len(values))
        own = np.where(codes < len(values) // 2, codes, codes - len(values))
        return () if np.array_equal(values, own) else tuple(int(v) for v in values)


DENSE_MULTIPLY = DenseMultiply("multiply", "dense", "kernels/dense_multiply.c.j2")
