"""Chooses a kernel for each layer: the cheapest that applies, or the one that is asked for.

What is cheap: few cycles for speed, little memory for size. The balance between them is their product: code
that is twice as large has to be more than twice as fast.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mcucompile.errors import UnsupportedError, UserError
from mcucompile.ir import Graph
from mcucompile.kernels import KERNELS, Core, Cost, Kernel, Layer

# Flash that is not worth counting: the code of most kernels.
_FEW_BYTES = 2048
# Plans of different size that are looked at, when kernels must fit.
_FRONT = 1024

_PRICES: dict[str, Callable[[Cost], tuple[int, ...]]] = {
    "speed": lambda cost: (cost.time, cost.flash_bytes),
    "size": lambda cost: (cost.flash_bytes + cost.stack_bytes, cost.time),
    "balanced": lambda cost: (cost.time * (cost.flash_bytes + _FEW_BYTES),),
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
    flash_bytes: int | None = None,
) -> tuple[PlannedLayer, ...]:
    """Return a kernel for each layer of an integer graph, by estimated cost.

    Args:
        graph: of integers.
        core: what the CPU can do.
        chosen: names of kernels that layers must have, by layer.
        optimize: "speed", "size" or "balanced".
        stack_bytes: kernels with more scratch on the stack are not taken; the one with the least is, if all have more.
        flash_bytes: what weights, tables and code of all layers may take; if they cannot, they take the least.
    Raises:
        UnsupportedError: no kernel applies to a layer, or the chosen one does not; the message gives each
            kernel's reason.
    """
    choices = []
    for layer in layers_of(graph):
        name = (chosen or {}).get(layer.op.name)
        candidates = candidates_of(layer, core)
        wanted = [candidate for candidate in candidates if name is None or candidate.kernel.name == name]
        if not wanted:
            raise _unusable(layer, core, str(name), candidates)
        roomy = [each for each in wanted if stack_bytes is None or each.cost.stack_bytes <= stack_bytes]
        least = min(wanted, key=lambda each: (each.cost.stack_bytes, each.cost.instructions))
        choices.append(sorted(roomy or [least], key=lambda each: price(each.cost, optimize)))
    planned = tuple(of_layer[0] for of_layer in choices)
    fits = flash_bytes is None or sum(each.cost.flash_bytes for each in planned) <= flash_bytes
    return planned if fits or flash_bytes is None else _fitted(choices, flash_bytes)


def _fitted(choices: Sequence[Sequence[PlannedLayer]], flash_bytes: int) -> tuple[PlannedLayer, ...]:
    """Return the fastest kernels that fit, or the smallest: by the front of what is smaller or faster than the rest."""
    front: list[tuple[int, int, tuple[PlannedLayer, ...]]] = [(0, 0, ())]
    step = max(flash_bytes // _FRONT, 1)
    for of_layer in choices:
        grown = [
            (flash + each.cost.flash_bytes, time + each.cost.time, (*chosen, each))
            for flash, time, chosen in front
            for each in of_layer
        ]
        front = []
        for flash, time, chosen in sorted(grown, key=lambda plan: plan[:2]):
            # Of plans of nearly one size the smallest is kept, so that there are not too many.
            if not front or (flash <= flash_bytes and time < front[-1][1] and flash // step > front[-1][0] // step):
                front.append((flash, time, chosen))
    return front[-1][2]


def layers_of(graph: Graph) -> tuple[Layer, ...]:
    """Return what kernels are asked to compute."""
    layers = []
    for op in graph.layers:
        output = graph.tensors[op.output]
        formats = tuple(graph.tensors[name].stored for name in op.inputs)
        zeros = tuple(graph.tensors[name].zeros for name in op.inputs)
        layers.append(Layer(op, graph.shapes_of(op), formats, output.shape, output.stored, zeros=zeros))
    return tuple(layers)


def candidates_of(layer: Layer, core: Core) -> tuple[PlannedLayer, ...]:
    """Return the kernels that can compute a layer, the plain one first.

    Raises:
        UnsupportedError: there is none.
    """
    refusals = _refusals(layer, core)
    candidates = [kernel for kernel, reason in refusals if reason is None]
    if not candidates:
        listed = "; ".join(f"{kernel.name}: {reason}" for kernel, reason in refusals)
        raise UnsupportedError(layer.op.source, f"no kernel can compute it ({listed})", "choose other --weights")
    return tuple(PlannedLayer(layer, kernel, kernel.cost(layer, core)) for kernel in candidates)


def price(cost: Cost, optimize: str) -> tuple[int, ...]:
    """Return what orders costs: the least is wanted most.

    Args:
        cost: estimated or measured.
        optimize: "speed", "size" or "balanced".
    """
    return _PRICES[optimize](cost)


def _refusals(layer: Layer, core: Core) -> list[tuple[Kernel, str | None]]:
    return [(kernel, kernel.refusal(layer, core)) for kernel in KERNELS if kernel.kind == layer.op.kind]


def _unusable(layer: Layer, core: Core, name: str, candidates: tuple[PlannedLayer, ...]) -> UnsupportedError:
    reasons = (reason for kernel, reason in _refusals(layer, core) if kernel.name == name)
    applicable = ", ".join(dict.fromkeys(each.kernel.name for each in candidates))
    reason = next(reasons, "there is no such one")
    return UnsupportedError(layer.op.source, f"cannot use the kernel '{name}': {reason}", f"use {applicable}")
