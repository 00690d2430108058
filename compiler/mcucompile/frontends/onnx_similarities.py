"""Layers that compare instead of multiplying, as `similarities.onnx_functions` writes them."""

import functools

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends.builder import Builder, Value
from mcucompile.frontends.onnx_convolution import convolve
from mcucompile.frontends.onnx_node import Node
from mcucompile.similarities import SIMILARITIES
from mcucompile.similarities.onnx_functions import DOMAIN, ONNX_FACES, node_type


def _conv(node: Node, builder: Builder, similarity: str) -> Value:
    _check_signs(node, similarity)
    return convolve(node, builder, similarity=similarity)


def _linear(node: Node, builder: Builder, similarity: str) -> Value:
    _check_signs(node, similarity)
    x, weight = node.activation(), node.constant(1)
    if weight.ndim != 2 or not x.shape or weight.shape[1] != x.shape[-1]:
        raise ModelError(node.source, f"compares {x.shape} with weights {weight.shape}", "export the model again")
    return builder.dense(x, weight, None, similarity=similarity)


def _check_signs(node: Node, similarity: str) -> None:
    """Refuse weights that are no signs where the node's function takes them as they are."""
    weight = node.constant(1)
    if SIMILARITIES[similarity].signs and not np.isin(weight, (-1, 0, 1)).all():
        value = float(weight.reshape(-1)[np.argmax(~np.isin(weight.reshape(-1), (-1, 0, 1)))])
        raise ModelError(node.source, f"has a weight of {value:.4g} among its signs", "export the model again")


CONVERTERS = {
    **{(DOMAIN, node_type(name, "Conv")): functools.partial(_conv, similarity=name) for name in ONNX_FACES},
    **{(DOMAIN, node_type(name, "Linear")): functools.partial(_linear, similarity=name) for name in ONNX_FACES},
}
