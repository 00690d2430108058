"""Normalisations of ONNX, all opsets."""

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends import normalization
from mcucompile.frontends.builder import Builder, Value
from mcucompile.frontends.onnx_node import Converter, Node
from mcucompile.frontends.refusals import RefusalError

# MeanVarianceNormalization adds 1e-9 to the deviation.
_MVN_EPSILON = 1e-18


def _epsilon(node: Node) -> float:
    return float(node.attributes.get("epsilon", 1e-5))


def _layer(node: Node, builder: Builder) -> Value:
    x = node.activation()
    bias = node.optional_constant(2)
    bias = np.zeros(()) if bias is None else bias
    return normalization.layer_norm(builder, x, node.axis(-1, len(x.shape)), node.constant(1), bias, _epsilon(node))


def _rms(node: Node, builder: Builder) -> Value:
    x = node.activation()
    return normalization.rms_norm(builder, x, node.axis(-1, len(x.shape)), node.constant(1), _epsilon(node))


def _instance(node: Node, builder: Builder) -> Value:
    return normalization.instance_norm(builder, node.activation(), node.constant(1), node.constant(2), _epsilon(node))


def _group(node: Node, builder: Builder) -> Value:
    groups = node.integer("num_groups")
    return normalization.group_norm(
        builder, node.activation(), groups, node.constant(1), node.constant(2), _epsilon(node)
    )


def _lp(node: Node, builder: Builder) -> Value:
    x, p = node.activation(), node.integer("p", 2)
    if p not in (1, 2):
        raise RefusalError(f"takes the norm with p={p}", "use p=1 or p=2")
    return normalization.over_axes(builder, x, (node.axis(-1, len(x.shape)),), f"l{p}")


def _mean_variance(node: Node, builder: Builder) -> Value:
    x = node.activation()
    axes = [node.normalised(axis, len(x.shape)) for axis in node.attributes.get("axes", (0, 2, 3))]
    return normalization.over_axes(builder, x, axes, "deviation", _MVN_EPSILON)


def _log_softmax(node: Node, builder: Builder) -> Value:
    return softmax(node, builder, logarithm=True)


def _softmax(node: Node, builder: Builder) -> Value:
    return softmax(node, builder, logarithm=False)


def softmax(node: Node, builder: Builder, *, logarithm: bool) -> Value:
    """Softmax or its logarithm; before opset 13 the axes from `axis` on are one."""
    x = node.activation()
    rank = len(x.shape)
    if not rank:
        raise ModelError(node.source, "normalises a number", "export the model again")
    if node.opset >= 13:
        return builder.softmax(x, node.axis(-1, rank), logarithm=logarithm)
    axis = node.axis(1, rank) if rank > 1 else 0
    flat = builder.reshape(x, (int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:]))))
    return builder.reshape(builder.softmax(flat, 1, logarithm=logarithm), x.shape)


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "GroupNormalization"): _group,
    ("", "InstanceNormalization"): _instance,
    ("", "LayerNormalization"): _layer,
    ("", "LogSoftmax"): _log_softmax,
    ("", "LpNormalization"): _lp,
    ("", "MeanVarianceNormalization"): _mean_variance,
    ("", "RMSNormalization"): _rms,
    ("", "Softmax"): _softmax,
}
