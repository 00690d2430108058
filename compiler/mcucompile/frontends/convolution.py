"""Convolutions as both front-ends' operators mean them: (n, channels, *spatial), one or two spatial axes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends.builder import Activation, Builder, Constant
from mcucompile.frontends.dequantized import output_steps
from mcucompile.frontends.refusals import RefusalError
from mcucompile.ops import Conv
from mcucompile.ops.window import Pair, Window

_CHANNELS_LAST, _CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


@dataclass(frozen=True, slots=True)
class Slide:
    """How a window slides, one number for each spatial axis.

    Attributes:
        strides, dilations: at least 1.
        before, after: padding.
    """

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]


def convolution(
    builder: Builder,
    x: Activation,
    weight: Constant,
    bias: Constant | None,
    slide: Slide,
    groups: int,
    *,
    similarity: str = "dot",
) -> Activation:
    """Convolve x (n, c, *spatial) with weight (n_out, c / groups, *kernel) -> (n, n_out, *spatial)."""
    builder.require_real(x)
    spatial = len(x.shape) - 2
    if spatial not in (1, 2):
        raise RefusalError(f"convolves {spatial} spatial axes", "use one or two")
    if weight.ndim != len(x.shape) or groups < 1 or len(weight) % groups or weight.shape[1] * groups != x.shape[1]:
        raise ModelError(
            builder.source,
            f"has weights of shape {weight.shape} in {groups} groups for an input of shape {x.shape}",
            "export the model again",
        )
    kernel = weight if spatial == 2 else weight[:, :, None, :]
    window = window_of(weight.shape[2:], slide)
    y = convolved(builder, as_image(builder, x), kernel, bias, window, groups, similarity=similarity)
    return as_planes(builder, y, spatial)


def convolved(
    builder: Builder,
    image: Activation,
    kernel: Constant,
    bias: Constant | None,
    window: Window,
    groups: int,
    *,
    similarity: str = "dot",
) -> Activation:
    """Convolve an image (n, h, w, c) with a kernel (n_out, c / groups, rows, columns) -> (n, rows, columns, n_out)."""
    bias = np.zeros(len(kernel)) if bias is None else bias.reshape(-1)
    if bias.shape != (len(kernel),):
        raise ModelError(builder.source, f"has {bias.size} biases for {len(kernel)} outputs", "export the model again")
    return builder.emit(
        Conv,
        (image,),
        weight=builder.single(kernel.transpose(0, 2, 3, 1), "weight"),
        bias=builder.single(bias, "bias"),
        weight_scale=output_steps(kernel),
        window=window,
        groups=groups,
        similarity=similarity,
    )


def as_image(builder: Builder, x: Activation) -> Activation:
    """Return (n, c, *spatial) as (n, h, w, c); one spatial axis becomes the columns of one row."""
    planes = x if len(x.shape) == 4 else builder.reshape(x, (*x.shape[:2], 1, x.shape[2]))
    return builder.transpose(planes, _CHANNELS_LAST, part="_channels_last")


def as_planes(builder: Builder, y: Activation, spatial: int) -> Activation:
    """Return (n, h, w, c) as (n, c, *spatial)."""
    planes = builder.transpose(y, _CHANNELS_FIRST, part="_channels_first")
    return planes if spatial == 2 else builder.reshape(planes, (*planes.shape[:2], planes.shape[3]))


def window_of(kernel: Sequence[int], slide: Slide) -> Window:
    """Return the window over rows and columns; one spatial axis runs over columns."""
    if min((*kernel, *slide.strides, *slide.dilations), default=1) < 1:
        raise RefusalError("has a kernel, stride or dilation below 1", "use positive ones")
    if min((*slide.before, *slide.after), default=0) < 0:
        raise RefusalError("has a negative padding", "slice the input instead")
    return Window(
        _pair(kernel, 1),
        _pair(slide.strides, 1),
        _pair(slide.dilations, 1),
        _pair(slide.before, 0),
        _pair(slide.after, 0),
    )


def _pair(values: Sequence[int], missing: int) -> Pair:
    return (values[0], values[1]) if len(values) == 2 else (missing, values[0])
