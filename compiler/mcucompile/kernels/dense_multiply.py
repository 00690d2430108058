"""Dense layer, plain kernel: the loop nest around the similarity's term, one multiply for each weight."""

from dataclasses import dataclass

from mcucompile.kernels.dense import dense_context, dense_cost, looked_up_values, sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer


@dataclass(frozen=True, slots=True)
class DenseMultiply(Kernel):
    """Decodes each weight (sign extension, or a table of the codebook's values) and multiplies."""

    def refusal(self, layer: Layer, core: Core) -> str | None:  # noqa: ARG002 - any layer will do
        """Refuse a core without multiplier."""
        return None if core.has_multiplier else "needs a multiplier"

    def cost(self, layer: Layer) -> Cost:
        """Seven instructions for each weight, two more to look a value up."""
        values = looked_up_values(sums_of(layer).weights)
        return dense_cost(layer, per_weight=9 if values else 7, per_output=4, table_bytes=2 * len(values))

    def context(self, layer: Layer) -> Context:
        """Add the table of values, empty if a code is its own value."""
        return {**dense_context(layer), "code_values": looked_up_values(sums_of(layer).weights)}


DENSE_MULTIPLY = DenseMultiply("multiply", "dense", "kernels/dense_multiply.c.j2")
