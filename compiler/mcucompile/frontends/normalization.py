"""Normalisations as both front-ends' operators mean them."""

import math
from collections.abc import Sequence

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends.builder import Activation, Builder, Constant
from mcucompile.frontends.convolution import as_image, as_planes
from mcucompile.frontends.refusals import RefusalError
from mcucompile.ops import Normalize


def over_axes(builder: Builder, x: Activation, axes: Sequence[int], function: str, epsilon: float = 0.0) -> Activation:
    """Normalise over some axes, counted from the front; `function` as of Normalize."""
    builder.require_real(x)
    if not math.isfinite(epsilon) or epsilon < 0:
        raise RefusalError(f"has epsilon={epsilon}", "use a small positive epsilon")
    rank = len(x.shape)
    if rank in (3, 4) and sorted(axes) == list(range(2, rank)) and x.shape[1] > 1:
        # Channels last, as the convolutions before it: their transposition and this one cancel.
        image = as_image(builder, x)
        lanes = builder.reshape(image, (x.shape[0], math.prod(x.shape[2:]), x.shape[1]))
        y = builder.emit(Normalize, (lanes,), function=function, epsilon=epsilon)
        return as_planes(builder, builder.reshape(y, image.shape), rank - 2)
    long = [axis for axis in range(rank) if x.shape[axis] > 1]
    last = [axis for axis in long if axis in axes]
    order = [*(axis for axis in range(rank) if axis not in last), *last]
    turned = builder.transpose(x, order, part="_moved")
    count = math.prod(x.shape[axis] for axis in last)
    lanes = builder.reshape(turned, (math.prod(x.shape) // count, count, 1))
    y = builder.reshape(builder.emit(Normalize, (lanes,), function=function, epsilon=epsilon), turned.shape)
    return builder.transpose(y, [int(axis) for axis in np.argsort(order)], part="_back")


def layer_norm(
    builder: Builder, x: Activation, first: int, scale: Constant, bias: Constant, epsilon: float
) -> Activation:
    """Over all axes from `first` on; scale and bias broadcast to them."""
    y = over_axes(builder, x, range(first, len(x.shape)), "deviation", epsilon)
    return _scaled(builder, y, scale, bias)


def rms_norm(builder: Builder, x: Activation, first: int, scale: Constant, epsilon: float) -> Activation:
    """Root mean square over all axes from `first` on."""
    y = over_axes(builder, x, range(first, len(x.shape)), "root_mean_square", epsilon)
    return _scaled(builder, y, scale, np.zeros(()))


def instance_norm(builder: Builder, x: Activation, scale: Constant, bias: Constant, epsilon: float) -> Activation:
    """Each channel (axis 1) over its spatial axes; scale and bias of each channel."""
    if len(x.shape) < 3:
        raise ModelError(builder.source, f"normalises images, its input is {x.shape}", "export the model again")
    y = over_axes(builder, x, range(2, len(x.shape)), "deviation", epsilon)
    spatial = (1,) * (len(x.shape) - 2)
    return _scaled(builder, y, scale.reshape(-1, *spatial), bias.reshape(-1, *spatial))


def group_norm(
    builder: Builder, x: Activation, groups: int, scale: Constant, bias: Constant, epsilon: float
) -> Activation:
    """Groups of channels (axis 1) over their channels and spatial axes; scale and bias of each channel or group."""
    n, channels, *spatial = x.shape if len(x.shape) > 1 else (0, 0)
    if groups < 1 or channels % groups or channels == 0:
        raise ModelError(builder.source, f"puts {channels} channels into {groups} groups", "export the model again")
    wide = builder.reshape(x, (n, groups, math.prod((channels // groups, *spatial))))
    lanes = builder.reshape(wide, (n * groups, wide.shape[2]))
    y = builder.reshape(over_axes(builder, lanes, (1,), "deviation", epsilon), x.shape)
    ones = (1,) * len(spatial)
    factors = [np.repeat(v.reshape(-1), channels // groups) if v.size == groups else v for v in (scale, bias)]
    return _scaled(builder, y, factors[0].reshape(-1, *ones), factors[1].reshape(-1, *ones))


def _scaled(builder: Builder, y: Activation, scale: Constant, bias: Constant) -> Activation:
    is_plain = bool((scale == 1).all()) and not bias.any()
    return y if is_plain else builder.affine(y, scale, bias)
