"""Transposed convolutions as both front-ends mean them: (n, channels, *spatial), one or two spatial axes.

y[s * i + d * k - before] gathers w[k] * x[i]: a convolution, its kernel turned around, over x with s - 1 zeros
between neighbours. Where s divides the kernel's size, the s outputs of each x[i] are channels of a convolution without
those zeros, which are then put side by side (Shi et al., arXiv:1609.05158): as many weights, s times fewer products.
"""

from collections.abc import Sequence

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends.builder import MAX_ELEMENTS, Activation, Builder, Constant
from mcucompile.frontends.convolution import Slide, as_image, as_planes, convolved, window_of
from mcucompile.frontends.movement import take
from mcucompile.frontends.refusals import RefusalError
from mcucompile.ops.take import FILL
from mcucompile.ops.window import Window


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
    sizes = [
        slide.strides[i] * (x.shape[2 + i] - 1)
        + (kernel[i] - 1) * slide.dilations[i]
        + (1 + output_padding[i] - slide.before[i] - slide.after[i])
        for i in range(spatial)
    ]
    if max(*sizes, *(kernel[i] * slide.dilations[i] for i in range(spatial))) > MAX_ELEMENTS or min(sizes) < 1:
        raise RefusalError(f"makes an output of {sizes} rows and columns", f"keep them between 1 and {MAX_ELEMENTS}")
    divides = all(size % stride == 0 for size, stride in zip(kernel, slide.strides, strict=True))
    if divides and max(slide.strides) > 1 == max(slide.dilations):
        return _side_by_side(builder, x, weight, bias, slide, sizes, groups)
    return _with_zeros(builder, x, weight, bias, slide, sizes, groups)


def _with_zeros(
    builder: Builder,
    x: Activation,
    weight: Constant,
    bias: Constant | None,
    slide: Slide,
    sizes: Sequence[int],
    groups: int,
) -> Activation:
    """Put zeros between the elements and convolve."""
    spatial = len(sizes)
    turned = _turned(weight, groups)
    image = as_image(builder, x)
    indices: dict[int, Sequence[int]] = {}
    before, after = [], []
    for i, size in enumerate(sizes):
        reach = (weight.shape[2 + i] - 1) * slide.dilations[i]
        length = (x.shape[2 + i] - 1) * slide.strides[i] + 1
        first = reach - slide.before[i]
        last = size + reach - first - length
        indices[3 - spatial + i] = _spread(length, slide.strides[i])[max(-first, 0) : length + min(last, 0)]
        before.append(max(first, 0))
        after.append(max(last, 0))
    window = window_of(weight.shape[2:], Slide((1,) * spatial, slide.dilations, tuple(before), tuple(after)))
    kernel = turned if spatial == 2 else turned[:, :, None, :]
    y = convolved(builder, take(builder, image, indices), kernel, bias, window, groups)
    return as_planes(builder, y, spatial)


def _side_by_side(
    builder: Builder,
    x: Activation,
    weight: Constant,
    bias: Constant | None,
    slide: Slide,
    sizes: Sequence[int],
    groups: int,
) -> Activation:
    """Convolve to rows * columns times as many channels, the strides' product, and put them side by side."""
    spatial = len(sizes)
    turned = _turned(weight, groups)
    kernel = turned if spatial == 2 else turned[:, :, None, :]
    image = as_image(builder, x)
    strides, begins = (1, *slide.strides)[-2:], (0, *slide.before)[-2:]
    extents = (1, *sizes)[-2:]
    indices: dict[int, Sequence[int]] = {}
    kept: dict[int, Sequence[int]] = {}
    before, after = [], []
    for i, (stride, begin, extent) in enumerate(zip(strides, begins, extents, strict=True)):
        # Blocks of outputs, one for each element of x, from the first to the last that is kept.
        first, last = begin // stride, (begin + extent - 1) // stride
        reach, n = kernel.shape[2 + i] // stride - 1, image.shape[1 + i]
        indices[1 + i] = range(max(first - reach, 0), min(last, n - 1) + 1)
        kept[1 + i] = range(begin - first * stride, begin - first * stride + extent)
        before.append(max(reach - first, 0))
        after.append(max(last - n + 1, 0))
    n_out, inner, *taps = kernel.shape
    (rows, columns), (up, across) = strides, (taps[0] // strides[0], taps[1] // strides[1])
    # Tap s * m + p, from the kernel's end, is tap m of the channel of the output that is p-th from its block's end.
    apart = kernel.reshape(n_out, inner, up, rows, across, columns).transpose(0, 3, 5, 1, 2, 4)[:, ::-1, ::-1]
    y = convolved(
        builder,
        take(builder, image, indices),
        apart.reshape(n_out * rows * columns, inner, up, across),
        None if bias is None else np.repeat(bias.reshape(-1), rows * columns),
        Window((up, across), before=(before[0], before[1]), after=(after[0], after[1])),
        groups,
    )
    n, high, wide, _ = y.shape
    blocks = builder.reshape(y, (n, high, wide, n_out, rows, columns))
    beside = builder.transpose(blocks, (0, 1, 4, 2, 5, 3), part="_side_by_side")
    whole = builder.reshape(beside, (n, high * rows, wide * columns, n_out))
    return as_planes(builder, take(builder, whole, kept), spatial)


def _spread(length: int, stride: int) -> list[int]:
    """Return the positions 0, 1, 2 ... with stride - 1 fills between them."""
    return [place // stride if place % stride == 0 else FILL for place in range(length)]


def _turned(weight: Constant, groups: int) -> Constant:
    """Return (n_out, c / groups, *kernel) of (c, n_out / groups, *kernel), the kernel from its other end."""
    c, n_out, *kernel = weight.shape
    turned = np.flip(weight, tuple(range(2, weight.ndim)))
    return turned.reshape(groups, c // groups, n_out, *kernel).swapaxes(1, 2).reshape(groups * n_out, -1, *kernel)
