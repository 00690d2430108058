"""What kernels for cores with DSP instructions share: geometry, the codes of sums, values packed in words."""

from dataclasses import dataclass, replace

import numpy as np

from mcucompile.kernels.conv_patches import conv_of, row_context
from mcucompile.kernels.dense import Sums, sums_of
from mcucompile.kernels.kernel import Context, Layer
from mcucompile.kernels.requantize import requantize_code
from mcucompile.numerics import Int, Requantization
from mcucompile.ops import IntegerDense
from mcucompile.ops.window import Window

_INT16_MAX = 32767
_SCALING_BYTES = 8


@dataclass(frozen=True, slots=True)
class Geometry:
    """Rows of windows as the template sees them; a dense layer's rows are pixels.

    Attributes:
        images, height, width, channels: of the input.
        rows, columns: of the output.
        window, fill: of the convolution.
    """

    images: int
    height: int
    width: int
    channels: int
    rows: int
    columns: int
    window: Window
    fill: int

    @property
    def checks(self) -> tuple[bool, bool]:
        """Whether windows reach beyond rows and columns of the image."""
        checks = []
        for axis, (extent, outputs) in enumerate(((self.height, self.rows), (self.width, self.columns))):
            last = int(self.window.positions(axis, outputs).max()) - self.window.before[axis]
            checks.append(self.window.before[axis] > 0 or last >= extent)
        return checks[0], checks[1]


def geometry_of(layer: Layer) -> Geometry:
    """Return the geometry of a convolution, or of a dense layer's rows."""
    if isinstance(layer.op, IntegerDense):
        rows = sums_of(layer).rows
        return Geometry(1, 1, rows, layer.shapes[0][-1], 1, rows, Window((1, 1)), 0)
    op = conv_of(layer)
    images, height, width, channels = layer.shapes[0]
    _, rows, columns, _ = layer.output_shape
    return Geometry(images, height, width, channels, rows, columns, op.window, op.fill)


def scaling_of(sums: Sums, requantize: Requantization) -> tuple[tuple[int, int, int], ...]:
    """Return offset, multiplier and shift of each output; none if they are not enough or do not fit."""
    code = requantize_code(requantize, sums.output)
    if code.is_wide or code.tie_window or int(np.abs(requantize.multiplier).max()) > _INT16_MAX:
        return ()
    offset, multiplier, shift = np.broadcast_arrays(
        np.array(code.offsets), requantize.multiplier, requantize.shift, np.zeros(len(sums.weights.codes))
    )[:3]
    return tuple(zip(offset.tolist(), multiplier.tolist(), shift.tolist(), strict=True))


def code_bytes(sums: Sums, requantize: Requantization) -> int:
    """Return the bytes of flash that the codes of sums take."""
    scaling = scaling_of(sums, requantize)
    return _SCALING_BYTES * len(scaling) if scaling else requantize_code(requantize, sums.output).table_bytes


def code_context(sums: Sums, requantize: Requantization) -> Context:
    """Return what templates/kernels/dsp.c.j2 needs to make the codes of sums."""
    return {
        "n_out": len(sums.weights.codes),
        "requantize": requantize_code(requantize, sums.output),
        "scaling": scaling_of(sums, requantize),
    }


def geometry_context(layer: Layer, geometry: Geometry) -> Context:
    """Return what templates/kernels/dsp.c.j2 needs to walk over rows. Strides are in elements of the input."""
    row = geometry.width * geometry.channels
    return {
        "geometry": geometry,
        "window": geometry.window,
        "checks": geometry.checks,
        "row_stride": row,
        "image_elements": geometry.height * row,
        "row_elements": geometry.columns * layer.output_shape[-1],
        **row_context(layer, geometry.window, row),
        "row_arguments": ("top", "offset") if geometry.checks[0] else ("offset",),
    }


def bytes_as_words(values: Int) -> Int:
    """Return rows of bytes 0..255 as words, the first byte lowest: (rows, 4 * words) -> (rows, words)."""
    quads = values.reshape(len(values), -1, 4)
    return np.asarray((quads << np.array([0, 8, 16, 24])).sum(axis=-1), dtype=np.int64)


def halfwords_as_words(values: Int) -> Int:
    """Return rows of halfwords of any sign as words, the first one lowest: (rows, 2 * words) -> (rows, words)."""
    pairs = values.reshape(len(values), -1, 2) & 0xFFFF
    return np.asarray(pairs[..., 0] | (pairs[..., 1] << 16), dtype=np.int64)


def padded(values: Int, multiple: int, value: int) -> Int:
    """Return rows made a multiple as long with a value."""
    missing = -values.shape[1] % multiple
    return np.pad(values, ((0, 0), (0, missing)), constant_values=value)


def with_constant(requantize: Requantization, constant: Int) -> Requantization:
    """Return the requantization of sums that lack a constant each. constant: (n_out,).

    Offsets of 32 bits are those modulo 2**32: C adds modulo 2**32, where the whole fits.
    """
    offset = requantize.offset + requantize.multiplier * constant
    if not requantize.is_wide:
        half = 0 if requantize.tie_window else requantize.half()
        offset = (offset + half + 2**31) % 2**32 - 2**31 - half
    return replace(requantize, offset=np.asarray(offset, dtype=np.int64))


def word_order(values: Int) -> Int:
    """Return rows in the order of halfwords: a word of bytes x0 x1 x2 x3 becomes the words (x0, x2) and (x1, x3)."""
    quads = padded(values, 4, 0).reshape(len(values), -1, 2, 2)
    return np.asarray(quads.transpose(0, 1, 3, 2).reshape(len(values), -1), dtype=np.int64)
