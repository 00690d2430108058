"""Transposed convolutions as both front-ends mean them: (n, channels, *spatial), one or two spatial axes.

y[s * i + d * k - before] gathers w[k] * x[i]: a convolution, its kernel turned around, over x with s - 1 zeros
between neighbours.
"""

from collections.abc import Sequence

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends.builder import MAX_ELEMENTS, Activation, Builder, Constant
from mcucompile.frontends.convolution import Slide, convolution
from mcucompile.frontends.movement import take
from mcucompile.frontends.refusals import RefusalError
from mcucompile.ops.take import FILL


def transposed_convolution(
    builder: Builder,
    x: Activation,
    weight: Constant,
    bias: Constant | None,
    slide: Slide,
    output_padding: Sequence[int],
    groups: int,
) -> Activation:
    """Convolve x (n, c, *spatial), transposed, with weight (c, n_out / groups, *kernel) -> (n, n_out, *spatial).

    Args:
        slide: strides are of the output; padding is what the output lacks at each end, negative: what it gains.
        output_padding: what the output has more after its end, for each spatial axis.
    """
    builder.require_real(x)
    spatial = len(x.shape) - 2
    if spatial not in (1, 2):
        raise RefusalError(f"convolves {spatial} spatial axes", "use one or two")
    if weight.ndim != len(x.shape) or groups < 1 or len(weight) % groups or len(weight) != x.shape[1]:
        raise ModelError(
            builder.source,
            f"has weights of shape {weight.shape} in {groups} groups for an input of shape {x.shape}",
            "export the model again",
        )
    kernel = weight.shape[2:]
    if min((*kernel, *slide.strides, *slide.dilations), default=1) < 1 or min(output_padding, default=0) < 0:
        raise RefusalError("has a kernel, stride, dilation or output padding below its least", "use positive ones")
    indices: dict[int, Sequence[int]] = {}
    before, after = [], []
    for i in range(spatial):
        reach = (kernel[i] - 1) * slide.dilations[i]
        first, last = reach - slide.before[i], reach - slide.after[i] + output_padding[i]
        length = (x.shape[2 + i] - 1) * slide.strides[i] + 1
        if max(length, first, last) > MAX_ELEMENTS:
            raise RefusalError(f"makes more than {MAX_ELEMENTS} rows or columns", "use a smaller stride")
        indices[2 + i] = _spread(length, slide.strides[i])[max(-first, 0) : length + min(last, 0)]
        before.append(max(first, 0))
        after.append(max(last, 0))
    return convolution(
        builder,
        take(builder, x, indices),
        _turned(weight, groups),
        bias,
        Slide((1,) * spatial, slide.dilations, tuple(before), tuple(after)),
        groups,
    )


def _spread(length: int, stride: int) -> list[int]:
    """Return the positions 0, 1, 2 ... with stride - 1 fills between them."""
    return [place // stride if place % stride == 0 else FILL for place in range(length)]


def _turned(weight: Constant, groups: int) -> Constant:
    """Return (n_out, c / groups, *kernel) of (c, n_out / groups, *kernel), the kernel from its other end."""
    c, n_out, *kernel = weight.shape
    turned = np.flip(weight, tuple(range(2, weight.ndim)))
    return turned.reshape(groups, c // groups, n_out, *kernel).swapaxes(1, 2).reshape(groups * n_out, -1, *kernel)
