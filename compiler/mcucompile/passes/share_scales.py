"""Layers that compare x and w need both in one scale: who gives x that scale, and what it must be.

Layers of signs want steps so fine that rounding leaves a small value its sign.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mcucompile.ir import Graph, Op
from mcucompile.lowering import LARGEST_WEIGHT, ScaleRule
from mcucompile.ops import Add, Affine, AveragePool, Clip, Conv, Dense, MaxPool, Relu, Reshape, Take, Transpose
from mcucompile.ops.sums import Sums
from mcucompile.passes.rewrite import Change, Draft, rewrite

# Operators that can give any scale, and those that pass on their input's.
_FREE = (Conv, Dense, Affine, Add)
_SAME = (Reshape, Transpose, Take, MaxPool, Relu, Clip)


def share_scales(graph: Graph) -> Graph:
    """Return the graph with an Affine of factor 1 before each layer that compares what nothing before can fit to it.

    Needs: all folding, which would remove the Affine. Gives: what `wanted_scales` relies on.
    """
    return rewrite(graph, _rescale)


def wanted_scales(graph: Graph) -> Mapping[str, ScaleRule]:
    """Return what each tensor's readers want of its scale, tensors that none minds left out. Needs: share_scales."""
    wanted: dict[str, ScaleRule] = {}
    for op in reversed(graph.ops):
        rule = _rule(op)
        if rule is None and isinstance(op, _SAME):
            rule = wanted.get(op.output)
        for name in op.inputs:
            found = rule or ScaleRule()
            wanted[name] = wanted[name] | found if name in wanted else found
    free = ScaleRule()
    return {name: rule for name, rule in wanted.items() if rule != free and name not in graph.outputs}


def _rule(op: Op) -> ScaleRule | None:
    if isinstance(op, Sums) and op.similarity == "binary":
        return ScaleRule(only_signs=True)
    if not isinstance(op, Sums) or not op.term.shares_scale:
        return None
    if op.term.input_scale is not None:
        return ScaleRule(exact=op.term.input_scale, reach=op.term.input_reach)
    scale = float(np.abs(op.weight).max()) / LARGEST_WEIGHT
    return ScaleRule(room=scale) if op.term.beyond else ScaleRule(least=scale)


def _rescale(graph: Draft, op: Op) -> Change | None:
    if not isinstance(op, Sums) or op.is_linear:
        return None
    name = op.inputs[0]
    before = graph.producer(name)
    while isinstance(before, _SAME):
        before = graph.producer(before.inputs[0])
    # Signs take any scale, but no zero point, which functions and pairs may give. Means have none, but steps that
    # suit binary sums, which read the signs of x, they cannot choose.
    is_mean = isinstance(before, AveragePool) and op.similarity == "ternary"
    if isinstance(before, _FREE) or is_mean or (before is None and not op.term.shares_scale):
        return None
    tensor = graph.tensors[name]
    rescaled = f"{name}@{op.name}"
    affine = Affine(
        name=f"{op.name}_input",
        inputs=(name,),
        output=rescaled,
        source=op.source,
        scale=np.ones(1, np.float32),
        offset=np.zeros(1, np.float32),
        axis=0,
        relu=tensor.format is not None and not tensor.format.signed,
    )
    return Change({op: (affine, replace(op, inputs=(rescaled,)))}, shapes={rescaled: tensor.shape})
