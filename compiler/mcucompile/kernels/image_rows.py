"""Rows of windows over images, channels last: what kernels that walk over them share."""

from dataclasses import dataclass

from mcucompile.kernels.conv_patches import conv_of, row_context
from mcucompile.kernels.dense import sums_of
from mcucompile.kernels.kernel import Context, Layer
from mcucompile.ops import IntegerDense
from mcucompile.ops.window import Window


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


def geometry_context(layer: Layer, geometry: Geometry) -> Context:
    """Return what templates/kernels/image_rows.c.j2 needs to walk over rows. Strides are in elements of the input."""
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
