"""Dense layer without multiplier, products and squares from one table of quarter squares.

x * w = floor((x + w)**2 / 4) - floor((x - w)**2 / 4), exact for integers of any sign, and
n**2 = 4 * floor(n**2 / 4) + n % 2.
"""

from dataclasses import dataclass

from mcucompile.kernels.dense import StepTable, dense_context, dense_cost, looked_up_values, reach_of, sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer

_SIMILARITIES = ("dot", "euclid")
# Instructions for each weight of a product and of a square, counted by benchmarks/kernels.py.
_PER_WEIGHT = {"rv32imac": (12.8, 10.7), "rv32ec": (14.3, 11.5), "cortex-m0": (15.5, 14.5), "cortex-m4": (9.0, 8.0)}
# A 16-bit input takes two products.
_WIDE_FACTOR = 2.1
# The square of what is larger is larger than four times 16 bits.
_LARGEST_REACH = 511


@dataclass(frozen=True, slots=True)
class DenseQuarterSquare(Kernel):
    """For 8-bit weights on any core; its table takes about 1 KB of flash, shared by all such layers.

    A 16-bit input of a product is taken in two bytes: x * w = 256 * (x >> 8) * w + (x & 255) * w.

    Attributes:
        decoded: the weights are values, whatever encoding they come from.
    """

    decoded: bool = False

    def refusal(self, layer: Layer, core: Core) -> str | None:  # noqa: ARG002 - any core will do
        """Refuse encodings whose values are not integers of 8 bits or so, and inputs of more than 16 bits."""
        sums = sums_of(layer)
        if sums.similarity not in _SIMILARITIES:
            return "computes dot and euclid only"
        is_small = reach_of(sums) <= _LARGEST_REACH and sums.input.bits <= 16
        is_integer = self.decoded or sums.weights.encoding in ("int8", "int8z") or sums.similarity == "euclid"
        return None if is_small and is_integer else "needs 8-bit weights and inputs of at most 16 bits"

    def cost(self, layer: Layer, core: Core) -> Cost:
        """Two instructions more for each weight to look its value up."""
        sums = sums_of(layer)
        values = looked_up_values(sums.weights)
        per_weight = core.pick(_PER_WEIGHT)[_SIMILARITIES.index(sums.similarity)] + 2 * bool(values)
        if sums.input.bits == 16 and sums.similarity == "dot":
            per_weight *= _WIDE_FACTOR
        table_bytes = 2 * (2 * reach_of(sums) + 1) + 2 * len(values)
        return dense_cost(layer, core, per_weight, table_bytes=table_bytes)

    def context(self, layer: Layer) -> Context:
        """Add the reach of the table that the layer needs."""
        sums = sums_of(layer)
        return {
            **dense_context(layer),
            "reach": reach_of(sums),
            "step": f"mcu_{sums.similarity}_step_quarter_square{'_s16' if sums.input.bits == 16 else ''}",
            "code_values": looked_up_values(sums.weights),
            "table": StepTable("uint16_t", "quarter_square", "quarter_squares", "QUARTER_SQUARE_REACH"),
        }


DENSE_QUARTER_SQUARE = DenseQuarterSquare("quarter square", "dense", "kernels/dense_term.c.j2")
# Around kernels that decode weights beforehand.
DECODED_QUARTER_SQUARE = DenseQuarterSquare("quarter square", "dense", "kernels/dense_term.c.j2", decoded=True)
