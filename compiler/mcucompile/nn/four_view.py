"""Modified four-view projection: a picture as the peaks of its line sums, zone by zone.

It is one torch operator, `mcucompile::four_view`, so that torch.export keeps it as one node; a `.pt2`
file that holds it can be loaded once this module has been imported.
"""

import functools

import numpy as np
import torch
from torch import Tensor, nn


def view_sizes(zone_height: int, zone_width: int) -> tuple[int, int, int, int]:
    r"""Return the number of lines of each view: rows, columns, diagonals "\" and anti-diagonals "/"."""
    diagonals = zone_height + zone_width - 1
    return zone_height, zone_width, diagonals, diagonals


@functools.cache
def line_matrix(zone_height: int, zone_width: int) -> Tensor:
    """Return the 0/1 matrix that turns the pixels of a zone into the sums along its lines.

    Returns:
        float32, shape (zone_height * zone_width, lines): 1 where the pixel (row-major) lies on the
        line; lines in the order of `view_sizes`, none of them wraps around.
    """
    row, column = np.divmod(np.arange(zone_height * zone_width), zone_width)
    lines = (row, column, row - column + zone_width - 1, row + column)
    sizes = view_sizes(zone_height, zone_width)
    views = [line[:, None] == np.arange(size) for line, size in zip(lines, sizes, strict=True)]
    return torch.from_numpy(np.concatenate(views, axis=1).astype(np.float32))


def _feature_shape(images: Tensor, zone_height: int, zone_width: int) -> tuple[int, int]:
    """Return (n, features), or raise the ValueError that `FourView` documents."""
    if images.ndim != 3:
        raise ValueError(f"four-view features need images of shape (n, h, w), got {tuple(images.shape)}")
    n, height, width = images.shape
    if height % zone_height or width % zone_width or not height * width:
        raise ValueError(f"images of {height} x {width} do not divide into zones of {zone_height} x {zone_width}")
    return n, height // zone_height * (width // zone_width) * 4


@torch.library.custom_op("mcucompile::four_view", mutates_args=())
def four_view(images: Tensor, zone_height: int, zone_width: int, shift: int) -> Tensor:
    """Compute what `FourView` documents; float32 holds every sum exactly."""
    n, features = _feature_shape(images, zone_height, zone_width)
    height, width = images.shape[1:]
    zones = images.float().reshape(n, height // zone_height, zone_height, width // zone_width, zone_width)
    pixels = zones.transpose(2, 3).reshape(n, features // 4, zone_height * zone_width)
    sums = pixels @ line_matrix(zone_height, zone_width).to(images.device)
    views = torch.split(sums, list(view_sizes(zone_height, zone_width)), dim=-1)
    peaks = torch.stack([view.amax(-1) for view in views], dim=-1)
    return torch.floor(peaks / 2**shift).reshape(n, features)


@four_view.register_fake
def _(images: Tensor, zone_height: int, zone_width: int, shift: int) -> Tensor:  # noqa: ARG001
    return images.new_empty(_feature_shape(images, zone_height, zone_width), dtype=torch.float32)


class FourView(nn.Module):
    r"""Four features per zone: the largest row, column, diagonal "\" and anti-diagonal "/" sum.

    Input: (n, h, w), bytes: uint8, or float with the values 0..255; h and w divide into zones.
    Output: float32 (n, zones * 4), integers floor(peak / 2**shift); zones row by row, in each zone the
    views in the order above. No gradient: the layer has no parameters and its input is data.

    Args:
        zone_height, zone_width: size of a zone in pixels; 7 x 7 gives 64 features of a 28 x 28 picture.
        shift: bits dropped from each peak; with 3, a 7 x 7 zone's peak (0..1785) fits a uint8.
    Raises:
        ValueError: here for a zone without pixels or a negative shift; on call for images that are not
            (n, h, w) or do not divide into zones.
    Source: thesis "Log or Trig", section 2.1.1.
    Example:
        >>> FourView(zone_height=2, zone_width=2, shift=0)(torch.tensor([[[1, 2], [3, 4]]])).tolist()
        [[7.0, 6.0, 5.0, 5.0]]
    """

    def __init__(self, zone_height: int = 7, zone_width: int = 7, shift: int = 3) -> None:
        super().__init__()
        if zone_height < 1 or zone_width < 1 or shift < 0:
            raise ValueError(
                f"a zone of {zone_height} x {zone_width} with shift {shift}: "
                "both sizes must be at least 1 and the shift at least 0"
            )
        self.zone_height = zone_height
        self.zone_width = zone_width
        self.shift = shift

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (n, zones * 4) of images (n, h, w)."""
        features: Tensor = four_view(images, self.zone_height, self.zone_width, self.shift)
        return features

    def extra_repr(self) -> str:
        """Show the attributes in the module's repr."""
        return f"zone_height={self.zone_height}, zone_width={self.zone_width}, shift={self.shift}"
