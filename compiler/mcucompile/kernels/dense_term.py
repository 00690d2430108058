"""Dense layer, plain kernel: the loop nest around the similarity's term, one call for each weight."""

from dataclasses import dataclass

from mcucompile.kernels.dense import dense_context, dense_cost, looked_up_values, sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer


@dataclass(frozen=True, slots=True)
class DenseTerm(Kernel):
    """Decodes each weight (sign extension, or a table of the codebook's values) and calls mcu_<similarity>_step.

    Attributes:
        similarity: name in the similarity table.
        instructions: for each weight.
        multiplies: the term has a product.
    """

    similarity: str
    instructions: int
    multiplies: bool = False

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse other similarities, and a core without multiplier where one is needed."""
        if sums_of(layer).similarity != self.similarity:
            return f"computes {self.similarity} only"
        return None if core.has_multiplier or not self.multiplies else "needs a multiplier"

    def cost(self, layer: Layer, core: Core) -> Cost:
        """Two instructions more for each weight to look a value up."""
        values = looked_up_values(sums_of(layer).weights)
        per_weight = self.instructions + 2 * bool(values)
        return dense_cost(layer, per_weight=per_weight, per_output=4, table_bytes=2 * len(values))

    def context(self, layer: Layer) -> Context:
        """Add the table of values, empty if a code is its own value."""
        return {
            **dense_context(layer),
            "step": f"mcu_{self.similarity}_step",
            "table": None,
            "code_values": looked_up_values(sums_of(layer).weights),
        }


_TEMPLATE = "kernels/dense_term.c.j2"
DENSE_TERMS = (
    DenseTerm("multiply", "dense", _TEMPLATE, "dot", 7, multiplies=True),
    DenseTerm("subtract", "dense", _TEMPLATE, "adder", 9),
    DenseTerm("square", "dense", _TEMPLATE, "euclid", 8, multiplies=True),
    DenseTerm("compare", "dense", _TEMPLATE, "minconv", 14),
    DenseTerm("add magnitudes", "dense", _TEMPLATE, "mfo", 14),
    DenseTerm("compare signs", "dense", _TEMPLATE, "binary", 8),
    DenseTerm("add or subtract", "dense", _TEMPLATE, "ternary", 9),
)
