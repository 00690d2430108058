"""Chooses a kernel for each layer: the cheapest that applies, or the one that is asked for.

What is cheap: few instructions for speed, little memory for size. The balance between them is their product: code
that is twice as large has to be more than twice as fast.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mcucompile.errors import UnsupportedError, UserError
from mcucompile.ir import Graph
from mcucompile.kernels import KERNELS, Core, Cost, Kernel, Layer

# Flash that is not worth counting: the code of most kernels.
_FEW_BYTES = 2048

_PRICES: dict[str, Callable[[Cost], tuple[int, ...]]] = {
    "speed": lambda cost: (cost.instructions, cost.flash_bytes),
    "size": lambda cost: (cost.flash_bytes + cost.stack_bytes, cost.instructions),
    "balanced": lambda cost: (cost.instructions * (cost.flash_bytes + _FEW_BYTES),),
}


@dataclass(frozen=True, slots=True, eq=False)
class PlannedLayer:
    """A layer, the kernel that computes it and what that is expected to cost."""

    layer: Layer
    kernel: Kernel
    cost: Cost


def parse_kernels(text: str, graph: Graph) -> Mapping[str, str]:
    """Parse "fc1=bins,conv1=multiply": kernels by layer.

    Raises:
        UserError: not of that form, or an unknown layer.
    """
    known = [op.name for op in graph.layers]
    chosen = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        layer, _, kernel = part.rpartition("=")
        if layer not in known:
            raise UserError(
                f"--kernels {text}", f"no layer is called '{layer}'", f"give layer=kernel; layers: {', '.join(known)}"
            )
        chosen[layer] = kernel
    return chosen


def select_kernels(
    graph: Graph,
    core: Core,
    chosen: Mapping[str, str] | None = None,
    optimize: str = "balanced",
    stack_bytes: int | None = None,
) -> tuple[PlannedLayer, ...]:
    """Return a kernel for each layer of an integer graph, by estimated cost.

    Args:
        graph: of integers.
        core: what the CPU can do.
        chosen: names of kernels that layers must have, by layer.
        optimize: "speed", "size" or "balanced".
        stack_bytes: kernels with more scratch on the stack are not taken; the one with the least is, if all have more.
    Raises:
        UnsupportedError: no kernel applies to a layer, or the chosen one does not; the message gives each
            kernel's reason.
    """
    planned = []
    for op in graph.layers:
        output = graph.tensors[op.output]
        inputs = [graph.tensors[name] for name in op.inputs]
        layer = Layer(op, graph.shapes_of(op), tuple(t.stored for t in inputs), output.shape, output.stored)
        refusals = {kernel: kernel.refusal(layer, core) for kernel in KERNELS if kernel.kind == op.kind}
        candidates = [kernel for kernel, reason in refusals.items() if reason is None]
        if not candidates:
            listed = "; ".join(f"{kernel.name}: {reason}" for kernel, reason in refusals.items())
            raise UnsupportedError(op.source, f"no kernel can compute it ({listed})", "choose other --weights")
        name = (chosen or {}).get(op.name)
        wanted = [kernel for kernel in candidates if name is None or kernel.name == name]
        if not wanted:
            reason = next(
                (reason for kernel, reason in refusals.items() if kernel.name == name), "there is no such one"
            )
            applicable = ", ".join(kernel.name for kernel in candidates)
            raise UnsupportedError(op.source, f"cannot use the kernel '{name}': {reason}", f"use {applicable}")
        costs = [(kernel, kernel.cost(layer)) for kernel in wanted]
        roomy = [pair for pair in costs if stack_bytes is None or pair[1].stack_bytes <= stack_bytes]
        least = min(costs, key=lambda pair: (pair[1].stack_bytes, pair[1].instructions))
        best, cost = min(roomy or [least], key=lambda pair: _PRICES[optimize](pair[1]))
        planned.append(PlannedLayer(layer, best, cost))
    return tuple(planned)
