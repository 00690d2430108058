"""Modified four-view projection: an image's zones become the peaks of their line sums in four directions.

Source: Log-or-Trig thesis, section 2.1.1.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcucompile.errors import ModelError, QuantizationError
from mcucompile.ir import Array, Format, Shape
from mcucompile.lowering import Lowered, Lowering, RealOp
from mcucompile.numerics import Int

DOMAIN = "mcucompile"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FourView(RealOp):
    """x: (..., height, width) bytes -> y: (..., zones * 4), each floor(peak / 2**shift).

    Zones are row-major; in each the order is row, column, diagonal, anti-diagonal. A peak is the largest
    sum along one line of the zone in that direction; lines end at the zone's border. The same operator
    serves reals (whole numbers 0..255) and integers.

    Attributes:
        zone_height, zone_width: of one zone, pixels.
        shift: 3 brings the peaks of 7x7 zones (0..1785) to 0..223.
    """

    kind: ClassVar[str] = "four_view"
    keeps_format: ClassVar[bool] = True
    zone_height: int
    zone_width: int
    shift: int

    def output_shape(self, *shapes: Shape) -> Shape:
        """Four values for each zone."""
        shape = shapes[0]
        zone = (self.zone_height, self.zone_width)
        if len(shape) < 2 or min(zone) < 1 or shape[-2] % zone[0] or shape[-1] % zone[1] or 0 in shape:
            raise ModelError(
                self.source,
                f"cannot divide an image of shape {shape} into zones of {zone[0]}x{zone[1]}",
                "choose a zone that divides the height and the width",
            )
        zones = (shape[-2] // zone[0]) * (shape[-1] // zone[1])
        return (*shape[:-2], 4 * zones)

    def run(self, *inputs: Array) -> Array:
        """Return the features in the input's kind of number."""
        codes = four_view(inputs[0].astype(np.int64), self.zone_height, self.zone_width) >> self.shift
        return codes if np.issubdtype(inputs[0].dtype, np.integer) else codes.astype(np.float32)

    def lower(self, lowering: Lowering) -> Lowered:
        """Keep the operator. It is defined on raw bytes; the output is uint8 if every peak fits."""
        source = lowering.formats[0]
        if (source.bits, source.signed, source.scale, source.zero_point) != (8, False, 1.0, 0):
            raise QuantizationError(
                self.source, f"reads {source}, but is defined on raw bytes", "feed uint8 images, unscaled"
            )
        peak = source.maximum * max(self.zone_height, self.zone_width) >> self.shift
        if peak > 255:
            raise QuantizationError(
                self.source,
                f"a feature can reach {peak}, a byte holds 255",
                f"set shift to {self.shift + (peak >> 8).bit_length()} or use smaller zones",
            )
        return Lowered(self, Format(8, False))


def four_view(image: Int, zone_height: int, zone_width: int) -> Int:
    """Return the peaks. image: (..., height, width) -> (..., zones * 4)."""
    *lead, height, width = image.shape
    rows, columns = height // zone_height, width // zone_width
    zones = image.reshape(*lead, rows, zone_height, columns, zone_width)
    zones = np.moveaxis(zones, -2, -3).reshape(*lead, rows * columns, zone_height, zone_width)
    offsets = range(1 - zone_height, zone_width)
    views = [
        zones.sum(axis=-1).max(axis=-1),
        zones.sum(axis=-2).max(axis=-1),
        np.stack([np.trace(zones, offset, -2, -1) for offset in offsets], -1).max(axis=-1),
        np.stack([np.trace(zones[..., ::-1], offset, -2, -1) for offset in offsets], -1).max(axis=-1),
    ]
    return np.asarray(np.stack(views, axis=-1).reshape(*lead, rows * columns * 4), dtype=np.int64)
