"""LSTM and GRU around any kernel of weighted sums: a loop over steps, in it the sums, tables and products.

The state, the memory and the parts of the gates' arguments are on the stack; weights and the sigmoid's table are
in flash once.
"""

import math
from dataclasses import dataclass

from mcucompile.kernels.dense import reach_of, sums_of
from mcucompile.kernels.dense_quarter_square import DenseQuarterSquare
from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer, SharedTable
from mcucompile.numerics import Int
from mcucompile.ops import IntegerDense, IntegerGru, IntegerLstm, IntegerRecurrent
from mcucompile.ops.lstm import PRODUCT_BITS
from mcucompile.ops.recurrent import SIGMOID_BITS, TANH_BITS, sigmoid_place

# Instructions for each element of the state at each step, beyond the weighted sums, without a multiplier.
_PER_ELEMENT = 700


@dataclass(frozen=True, slots=True)
class RecurrentKernel(Kernel):
    """A recurrent layer around another kernel.

    Attributes:
        sums: the kernel that makes the weighted sums of one step.
    """

    sums: Kernel

    @property
    def included(self) -> tuple[str, ...]:
        """The headers of the inner kernel."""
        return self.sums.included

    def refusal(self, layer: Layer, core: Core) -> str | None:
        """Refuse what the inner kernel refuses for any of the sums."""
        reasons = (self.sums.refusal(part, core) for part in _parts(layer).values())
        return next((reason for reason in reasons if reason is not None), None)

    def cost(self, layer: Layer, core: Core) -> Cost:
        """Every step of every sequence makes all sums."""
        op = recurrent_of(layer)
        parts = _parts(layer).values()
        inner = [self.sums.cost(part, core) for part in parts]
        # The parts share the largest table of quarter squares.
        tables = [4 * reach_of(sums_of(part)) + 2 for part in parts if isinstance(self.sums, DenseQuarterSquare)]
        steps = math.prod(layer.shapes[0][:2])
        sums = sum(2 * len(weights.codes) for weights, _, _ in op.weighted_sums())
        return Cost(
            steps * (sum(cost.instructions for cost in inner) + _PER_ELEMENT * op.hidden),
            sum(cost.flash_bytes for cost in inner) - sum(sorted(tables)[:-1]) + 2 * len(op.sigmoid),
            max(cost.stack_bytes for cost in inner) + sums + (2 + 2 * op.state.item_bytes) * op.hidden,
        )

    def context(self, layer: Layer) -> Context:
        """Add the loop over steps and the places in the sigmoid's table."""
        op = recurrent_of(layer)
        steps, batch, n_in = layer.shapes[0]
        parts = {name: self.sums.context(part) for name, part in _parts(layer).items()}
        reaches = [reach for part in parts.values() if isinstance(reach := part.get("reach", 0), int)]
        stride = -1 if op.reverse else 1
        gives_cell = isinstance(op, IntegerLstm) and op.gives_cell
        computed = PRODUCT_BITS if isinstance(op, IntegerLstm) else op.memory_fraction
        y_steps = 0 if op.last else batch * op.hidden
        table = SharedTable(
            f"sigmoid_{op.segment_bits}",
            "uint16_t",
            f"sigmoid * 2^15 at {len(op.sigmoid)} equal distances from -16 to 16",
            tuple(int(v) for v in op.sigmoid),
        )
        return {
            "parts": parts,
            "sums_template": self.sums.template,
            "reach": max(reaches),
            "shared_tables": (table,),
            "sigmoid": table.suffix,
            "gate_place": sigmoid_place(len(op.sigmoid), op.sum_fraction),
            "candidate_place": sigmoid_place(len(op.sigmoid), op.sum_fraction - 1),
            "memory_place": sigmoid_place(len(op.sigmoid), op.memory_fraction - 1),
            "candidate_shift": TANH_BITS - op.memory_fraction,
            "state_type": op.state.c_type,
            "state_shift": computed - op.state_fraction,
            "state_limits": (op.state.minimum, op.state.maximum),
            "reset_shift": SIGMOID_BITS + op.memory_fraction - op.state_fraction,
            "output_shift": (op.memory_fraction if gives_cell else computed) - op.output_fraction,
            "output_limits": (op.minimum, op.maximum),
            "output_clamps": layer.output_format.bits < 32,
            "gives_cell": gives_cell,
            "resets_sum": isinstance(op, IntegerGru) and op.resets_sum,
            "steps": steps,
            "batch": batch,
            "n_in": n_in,
            "hidden": op.hidden,
            "x_first": (steps - 1) * batch * n_in if op.reverse else 0,
            "x_step": stride * batch * n_in,
            "y_first": (steps - 1) * y_steps if op.reverse else 0,
            "y_step": stride * y_steps,
            "initial_state": _table(op.initial_state),
            "initial_memory": _table(op.initial_memory),
        }


def recurrent_of(layer: Layer) -> IntegerRecurrent:
    """Return the layer's operator as a recurrent one."""
    if not isinstance(layer.op, IntegerRecurrent):
        raise TypeError(f"{layer.op.kind} is not recurrent")
    return layer.op


def _parts(layer: Layer) -> dict[str, Layer]:
    """Return the sums of one step as dense layers by name."""
    op = recurrent_of(layer)
    parts = {}
    for weights, requantize, name in op.weighted_sums():
        n_out, n_in = weights.codes.shape
        dense = IntegerDense(
            name=f"{op.name} {name}",
            inputs=op.inputs,
            output=op.output,
            source=op.source,
            similarity=op.similarity,
            weights=weights,
            requantize=requantize,
        )
        format_ = layer.formats[0] if name == "input" else op.state
        parts[name] = Layer(dense, ((int(n_in),),), (format_,), (int(n_out),), op.sums)
    return parts


def _table(values: Int) -> tuple[int, ...]:
    """Return initial values, none if all are 0."""
    return tuple(int(v) for v in values.reshape(-1)) if values.any() else ()
