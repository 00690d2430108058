"""Gives a pool to the convolution before it, where a kernel of the core makes both in one and is faster so."""

from collections.abc import Collection
from dataclasses import fields, replace

from mcucompile.ir import Graph, Op
from mcucompile.kernels import KERNELS, Core, Layer
from mcucompile.ops import IntegerConv, IntegerPooledConv, MaxPool
from mcucompile.plan.select import candidates_of, layers_of

# Between the names of the two layers.
JOINED = "+"


def pool_convolutions(graph: Graph, core: Core, kept: Collection[str] = ()) -> Graph:
    """Return the integer graph with each pool that alone reads a convolution as one operator with it.

    Args:
        graph: of integers.
        core: what the CPU can do.
        kept: layers that stay as they are.
    """
    layers = {layer.op: layer for layer in layers_of(graph)}
    ops: list[Op] = list(graph.ops)
    for pool in graph.ops:
        conv = graph.producer(pool.inputs[0])
        if not isinstance(pool, MaxPool) or type(conv) is not IntegerConv or {pool.name, conv.name} & {*kept}:
            continue
        if len(graph.consumers(conv.output)) > 1 or conv.output in graph.outputs:
            continue
        joined = _joined(conv, pool)
        layer = replace(layers[conv], op=joined, output_shape=layers[pool].output_shape)
        if _is_faster(layer, (layers[conv], layers[pool]), core):
            ops[ops.index(conv)] = joined
            ops.remove(pool)
    used = {*graph.inputs, *(op.output for op in ops)}
    return graph.replaced(ops=tuple(ops), tensors={name: t for name, t in graph.tensors.items() if name in used})


def _joined(conv: IntegerConv, pool: MaxPool) -> IntegerPooledConv:
    parts = {field.name: getattr(conv, field.name) for field in fields(conv)}
    return IntegerPooledConv(
        **{**parts, "name": f"{conv.name}{JOINED}{pool.name}", "output": pool.output}, pool=pool.window
    )


def _is_faster(layer: Layer, apart: tuple[Layer, ...], core: Core) -> bool:
    found = [kernel for kernel in KERNELS if kernel.kind == layer.op.kind and kernel.refusal(layer, core) is None]
    if not found:
        return False
    separate = sum(min(each.cost.time for each in candidates_of(part, core)) for part in apart)
    return min(kernel.cost(layer, core).time for kernel in found) < separate
