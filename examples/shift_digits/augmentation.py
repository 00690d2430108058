"""Random variants of the digits, as the device sees them: turned, scaled, sheared, moved and bent."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Points of the grid of an elastic distortion along each axis.
GRID = 6


@dataclass(frozen=True, slots=True)
class Strength:
    """How much images change.

    Attributes:
        turn: largest angle, radians.
        size, shear: largest relative change of width and height, and shear.
        shift: largest, in pixels of a 28x28 image.
        bend: standard deviation of the elastic distortion's shifts, pixels; smooth between the points of a grid.
    """

    turn: float
    size: float
    shear: float
    shift: float
    bend: float


LIGHT = Strength(math.radians(8), 0.08, 0.1, 1.0, 0.5)


def varied(images: Tensor, strength: Strength, generator: torch.Generator) -> Tensor:
    """Return a random variant of each image: (n, 28, 28) bytes -> (n, 28, 28), 0..255.

    Source of the elastic part: Simard, Steinkraus, Platt, "Best Practices for Convolutional Neural Networks Applied
    to Visual Document Analysis", ICDAR 2003, section 2; here the field is smoothed by bicubic interpolation.
    """
    count, size = len(images), images.shape[-1]

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    angle, shear = uniform(strength.turn), uniform(strength.shear)
    wide, high = 1 + uniform(strength.size), 1 + uniform(strength.size)
    # affine_grid's coordinates: 2 for the size of the image.
    right, down = uniform(strength.shift * 2 / size), uniform(strength.shift * 2 / size)
    rows = (
        torch.stack([wide * angle.cos(), -high * (angle.sin() + shear), right], 1),
        torch.stack([wide * angle.sin(), high * angle.cos(), down], 1),
    )
    grid = functional.affine_grid(torch.stack(rows, 1), [count, 1, size, size], align_corners=False)
    points = torch.randn(count, 2, GRID, GRID, generator=generator) * (strength.bend * 2 / size)
    bend = functional.interpolate(points, (size, size), mode="bicubic", align_corners=True)
    return functional.grid_sample(
        images[:, None].float(), grid + bend.permute(0, 2, 3, 1), mode="bilinear", align_corners=False
    )[:, 0]


def halved(images: Tensor) -> Tensor:
    """Return means of 2x2 pixels as bytes, halves rounded up: (n, 28, 28), 0..255 -> (n, 1, 14, 14) uint8."""
    means = functional.avg_pool2d(images[:, None].float(), 2)
    return (means + 0.5).floor().to(torch.uint8)
