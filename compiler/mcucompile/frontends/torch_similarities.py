"""Layers of mcucompile.nn that compare instead of multiplying: the operator mcucompile::similarity."""

import numpy as np
import torch

from mcucompile.frontends.builder import Builder, Value
from mcucompile.frontends.convolution import Slide, convolution
from mcucompile.frontends.torch_call import Call
from mcucompile.nn.layers import torch_similarity


def _similarity(call: Call, builder: Builder) -> Value:
    face = torch_similarity(str(call.arguments["name"]), None, str(call.source))
    trained = torch.from_numpy(np.array(call.constant("weight"), dtype=np.float32))
    weight, scale = face.deployed(trained).numpy(), face.deployed_scale(trained)
    x, stride, padding = call.activation("x"), call.integers("stride"), call.integers("padding")
    if stride:
        (groups,) = call.integers("groups")
        slide = Slide(stride, call.integers("dilation"), padding, padding)
        y = convolution(builder, x, weight, None, slide, groups, similarity=face.name)
    else:
        y = builder.dense(x, weight, None, similarity=face.name)
    if scale is None:
        return y
    return builder.affine(y, scale.numpy().reshape(-1, *[1] * len(stride)), np.zeros(1))


CONVERTERS = {"mcucompile::similarity": _similarity}
