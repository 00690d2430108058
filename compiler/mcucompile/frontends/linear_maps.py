"""Operators that are linear in their input and have nothing else to compute with: a constant matrix along an axis."""

from collections.abc import Callable, Mapping

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends import arithmetic
from mcucompile.frontends.builder import MAX_ELEMENTS, Activation, Builder, Constant
from mcucompile.frontends.convolution import convolved
from mcucompile.frontends.refusals import RefusalError
from mcucompile.frontends.resizing import Resizing
from mcucompile.numerics import Real
from mcucompile.ops.window import Window


def along(builder: Builder, x: Activation, axis: int, matrix: Constant) -> Activation:
    """Multiply along one axis, counted from the front; matrix: (new length, old length)."""
    if np.array_equal(matrix, np.eye(len(matrix))):
        return x
    rank = len(x.shape)
    order = (*(other for other in range(rank) if other != axis), axis)
    y = builder.dense(builder.transpose(x, order, part="_moved"), matrix, None)
    return builder.transpose(y, [int(place) for place in np.argsort(order)], part="_back")


def cumulative_sum(builder: Builder, x: Activation, axis: int, *, exclusive: bool, reverse: bool) -> Activation:
    """Sum of the elements up to each along an axis, without itself if exclusive, from the end if reverse."""
    n = x.shape[axis]
    require_size(n * n)
    lower = np.tri(n, k=-1 if exclusive else 0)
    return along(builder, x, axis, lower.T if reverse else lower)


def interpolated(
    builder: Builder,
    x: Activation,
    axes: Mapping[int, Resizing],
    matrix_of: Callable[[Resizing], Constant],
    value: float,
) -> Activation:
    """Resize axes one after the other by weights of their elements.

    Args:
        builder: gets the operators.
        x: any shape.
        axes: what becomes of each axis that is resized.
        matrix_of: gives an axis' weights, (new length, old length); rows of zeros lie outside of the input.
        value: what is outside.
    """
    inside = np.ones(())
    for axis, resizing in axes.items():
        require_size(resizing.length * resizing.resized)
        matrix = matrix_of(resizing)
        x = along(builder, x, axis, matrix)
        inside = inside * matrix.any(axis=1).reshape(-1, *(1,) * (len(x.shape) - axis - 1))
    return x if value == 0 or inside.all() else arithmetic.add(builder, x, value * (1 - inside))


def fourier(builder: Builder, x: Activation, axis: int, length: int, *, inverse: bool, one_sided: bool) -> Activation:
    """Discrete Fourier transform along an axis.

    Args:
        builder: gets the operators.
        x: (..., 1), real, or (..., 2), real and imaginary parts.
        axis: of the signal, counted from the front, not the last one.
        length: the signal is cut or filled with zeros to it.
        inverse: from frequencies to times; a one-sided inverse gives real numbers, (..., 1).
        one_sided: only the frequencies up to half of the length.

    Source: onnx.ai/onnx/operators/onnx__DFT.html.
    """
    parts, given = x.shape[-1], x.shape[axis]
    if parts not in (1, 2) or axis == len(x.shape) - 1 or length < 1:
        raise ModelError(builder.source, f"transforms {x.shape} along axis {axis}", "export the model again")
    require_size(4 * length * given)
    back = inverse and one_sided
    # Column j is the transform of a signal that is 1 (or i) at j.
    units = np.concatenate([np.eye(given), 1j * np.eye(given)][:parts])
    if back:
        spectrum = np.fft.irfft(units, length, axis=1).astype(np.complex128)
    elif inverse:
        spectrum = np.fft.ifft(units, length, axis=1)
    else:
        spectrum = np.fft.fft(units, length, axis=1)[:, : length // 2 + 1 if one_sided else length]
    outputs = [spectrum.real] if back else [spectrum.real, spectrum.imag]
    matrix = np.concatenate(outputs, axis=1).T
    # The signal and its parts become one axis, parts first: (..., parts * n).
    rank = len(x.shape)
    rest = [other for other in range(rank - 1) if other != axis]
    moved = builder.transpose(x, (*rest, rank - 1, axis), part="_moved")
    lead = moved.shape[:-2]
    y = builder.dense(builder.reshape(moved, (*lead, parts * given)), matrix, None)
    wide = builder.reshape(y, (*lead, len(outputs), len(matrix) // len(outputs)))
    order = [0] * rank
    for place, axis_of in enumerate((*rest, rank - 1, axis)):
        order[axis_of] = place
    return builder.transpose(wide, order, part="_back")


def frames(builder: Builder, x: Activation, step: int, window: Real, *, one_sided: bool) -> Activation:
    """Short-time Fourier transform of real signals, a convolution: (n, length, 1) -> (n, frames, frequencies, 2).

    Args:
        builder: gets the operators.
        x: (n, length, 1).
        step: elements from one frame to the next.
        window: weight of each element of a frame.
        one_sided: only the frequencies up to half of the frame's length.

    Source: onnx.ai/onnx/operators/onnx__STFT.html.
    """
    length = len(window)
    require_size(2 * length * length)
    count = length // 2 + 1 if one_sided else length
    spectrum = np.fft.fft(np.eye(length) * window, axis=1)[:, :count]
    # Real and imaginary part of a frequency lie side by side.
    kernel = np.stack([spectrum.real, spectrum.imag], axis=-1).reshape(length, 2 * count).T
    image = builder.reshape(x, (x.shape[0], 1, x.shape[1], 1))
    slide = Window((1, length), (1, step), (1, 1), (0, 0), (0, 0))
    y = convolved(builder, image, kernel[:, None, None, :], None, slide, 1)
    return builder.reshape(y, (x.shape[0], y.shape[2], count, 2))


def mapped(builder: Builder, x: Activation, matrices: Constant, shape: tuple[int, ...]) -> Activation:
    """Multiply the flattened last axes of x (n, c, ...) by one matrix for each of the n samples.

    matrices: (n or 1, elements of an output, elements of an input); shape: of the output after n and c.
    """
    n, channels = x.shape[:2]
    flat = builder.reshape(x, (n, channels, matrices.shape[2]))
    y = arithmetic.matmul(builder, flat, np.swapaxes(matrices, 1, 2))
    return builder.reshape(y, (n, channels, *shape))


def require_size(count: int) -> None:
    """Refuse a matrix of more constants than any board can hold."""
    if count > MAX_ELEMENTS:
        raise RefusalError(f"is a matrix of {count:,} constants", f"use axes whose product is at most {MAX_ELEMENTS:,}")
