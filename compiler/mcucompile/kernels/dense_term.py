"""Dense layer, plain kernel: the loop nest around the similarity's term, one call for each weight."""

from collections.abc import Mapping
from dataclasses import dataclass

from mcucompile.kernels.dense import dense_context, dense_cost, looked_up_values, sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer

_NIBBLE = 4
# Instructions to look up the value of a weight of 8 bits and of 4.
_PER_LOOK_UP = {"rv32imac": (3.0, 1.5), "rv32ec": (3.0, 1.5), "cortex-m0": (1.0, 0.0), "cortex-m4": (1.0, 0.0)}


@dataclass(frozen=True, slots=True)
class DenseTerm(Kernel):
    """Decodes each weight (sign extension, or a table of the codebook's values) and calls mcu_<similarity>_step.

    Attributes:
        similarity: name in the similarity table.
        instructions: for each weight of 8 bits and of 4, by core.
        multiplies: the term has a product.
    """

    similarity: str
    instructions: Mapping[str, tuple[float, float]]
    multiplies: bool = False

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse other similarities, and a core without multiplier where one is needed."""
        if sums_of(layer).similarity != self.similarity:
            return f"computes {self.similarity} only"
        return None if core.has_multiplier or not self.multiplies else "needs a multiplier"

    def cost(self, layer: Layer, core: Core) -> Cost:
        """A weight takes more if it is unpacked, and if its value is looked up."""
        weights = sums_of(layer).weights
        values = looked_up_values(weights)
        per_weight = core.pick(self.instructions)[weights.bits == _NIBBLE]
        per_weight += core.pick(_PER_LOOK_UP)[weights.bits == _NIBBLE] if values else 0
        return dense_cost(layer, core, per_weight, table_bytes=2 * len(values), multiplies=self.multiplies)

    def context(self, layer: Layer) -> Context:
        """Add the table of values, empty if a code is its own value."""
        return {
            **dense_context(layer),
            "step": f"mcu_{self.similarity}_step",
            "table": None,
            "code_values": looked_up_values(sums_of(layer).weights),
        }


_TEMPLATE = "kernels/dense_term.c.j2"


def _term(name: str, similarity: str, *instructions: tuple[float, float], multiplies: bool = False) -> DenseTerm:
    by_core = dict(zip(("rv32imac", "rv32ec", "cortex-m0", "cortex-m4"), instructions, strict=True))
    return DenseTerm(name, "dense", _TEMPLATE, similarity, by_core, multiplies)


# Counted by benchmarks/kernels.py; the RV32EC has no product.
DENSE_TERMS = (
    _term("multiply", "dot", (4.8, 7.5), (4.8, 7.5), (6.0, 10.0), (3.5, 6.0), multiplies=True),
    _term("subtract", "adder", (6.7, 8.8), (6.7, 8.8), (9.9, 12.9), (7.0, 9.0)),
    _term("square", "euclid", (5.7, 9.0), (5.7, 9.0), (8.0, 12.0), (5.0, 7.5), multiplies=True),
    _term("compare", "minconv", (10.7, 14.5), (10.7, 14.6), (15.1, 19.6), (12.5, 14.5)),
    _term("add magnitudes", "mfo", (10.2, 12.9), (10.2, 12.9), (16.4, 20.0), (12.9, 15.2)),
    _term("compare signs", "binary", (6.0, 8.7), (6.0, 8.7), (10.5, 14.1), (6.2, 8.5)),
    _term("add or subtract", "ternary", (5.1, 7.8), (5.1, 7.8), (8.7, 12.3), (6.9, 9.2)),
)
