"""Chooses a kernel for each layer: the cheapest that applies."""

from dataclasses import dataclass

from mcucompile.errors import UnsupportedError
from mcucompile.ir import Graph
from mcucompile.kernels import KERNELS, Core, Cost, Kernel, Layer


@dataclass(frozen=True, slots=True, eq=False)
class PlannedLayer:
    """A layer, the kernel that computes it and what that is expected to cost."""

    layer: Layer
    kernel: Kernel
    cost: Cost


def select_kernels(graph: Graph, core: Core) -> tuple[PlannedLayer, ...]:
    """Return a kernel for each layer of an integer graph, by estimated instructions.

    Raises:
        UnsupportedError: no kernel applies to a layer; the message gives each kernel's reason.
    """
    planned = []
    for op in graph.layers:
        output = graph.tensors[op.output]
        inputs = [graph.tensors[name] for name in op.inputs]
        layer = Layer(op, graph.shapes_of(op), tuple(t.stored for t in inputs), output.shape, output.stored)
        refusals = {kernel: kernel.refusal(layer, core) for kernel in KERNELS if kernel.kind == op.kind}
        candidates = [kernel for kernel, reason in refusals.items() if reason is None]
        if not candidates:
            reasons = "; ".join(f"{kernel.name}: {reason}" for kernel, reason in refusals.items())
            raise UnsupportedError(op.source, f"no kernel can compute it ({reasons})", "choose other --weights")
        best = min(candidates, key=lambda kernel: kernel.cost(layer).instructions)
        planned.append(PlannedLayer(layer, best, best.cost(layer)))
    return tuple(planned)
