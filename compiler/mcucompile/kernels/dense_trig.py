"""Dense layer of the trigonometric similarity: cosines of differences and sums, from a table or by CORDIC."""

from dataclasses import dataclass

from mcucompile.kernels.dense import StepTable, dense_context, dense_cost, looked_up_values, sums_of
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer, SharedTable
from mcucompile.similarities.trig.reference import COSINES

# Instructions for each weight with a table, and by CORDIC: two cosines of about 17 steps each.
_INSTRUCTIONS = {
    "rv32imac": (14.9, 435.0),
    "rv32ec": (14.9, 435.0),
    "cortex-m0": (17.3, 570.0),
    "cortex-m4": (16.2, 480.0),
}
# Instructions to look a weight's value up.
_LOOK_UP = {"rv32imac": 4.7, "rv32ec": 4.7, "cortex-m0": 6.0, "cortex-m4": 2.0}
_TABLE = SharedTable(
    "cosines", "int16_t", "cos(n * 2^-7) * 2^12 for n = 0, 1, 2, ..., by CORDIC", tuple(int(value) for value in COSINES)
)


@dataclass(frozen=True, slots=True)
class DenseTrig(Kernel):
    """For the trigonometric similarity on any core.

    Attributes:
        has_table: cosines come from a table of 806 bytes, shared by all such layers; else from CORDIC.
    """

    has_table: bool

    def refusal(self, layer: Layer, core: Core) -> str | None:  # noqa: ARG002 - any core will do
        """Refuse other similarities."""
        return None if sums_of(layer).similarity == "trig" else "computes trig only"

    def cost(self, layer: Layer, core: Core) -> Cost:
        """A few instructions more for each weight whose value is looked up."""
        values = looked_up_values(sums_of(layer).weights)
        per_weight = core.pick(_INSTRUCTIONS)[not self.has_table] + core.pick(_LOOK_UP) * bool(values)
        table_bytes = 2 * len(values) + (2 * len(COSINES) if self.has_table else 0)
        return dense_cost(layer, core, per_weight, table_bytes=table_bytes)

    def context(self, layer: Layer) -> Context:
        """Add the table of values, empty if a code is its own value, and that of cosines."""
        return {
            **dense_context(layer),
            "step": "mcu_trig_step" if self.has_table else "mcu_trig_step_cordic",
            "table": StepTable("int16_t", "cosines", "cosines") if self.has_table else None,
            "shared_tables": (_TABLE,) if self.has_table else (),
            "code_values": looked_up_values(sums_of(layer).weights),
        }


DENSE_TRIG = (
    DenseTrig("cosine table", "dense", "kernels/dense_term.c.j2", has_table=True),
    DenseTrig("cordic", "dense", "kernels/dense_term.c.j2", has_table=False),
)
