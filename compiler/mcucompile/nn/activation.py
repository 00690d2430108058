"""What stands between layers: the angle for trigonometric inference, and the scale of the input."""

from torch import Tensor, nn

from mcucompile.similarities.trig.torch_face import QUARTER_TURN


class RectifiedAngle(nn.Module):
    """y = x clamped to [0, pi/2]; the sine itself is in the next layer of similarity "trig".

    Together they are the rectified sine of the thesis "Log or Trig", equation 4.9, without its descent past pi/2.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the angles."""
        return x.clamp(0, QUARTER_TURN)


class Scale(nn.Module):
    """y = x * factor + offset with constants; brings bytes to the range that a network was trained on."""

    def __init__(self, factor: float, offset: float = 0.0) -> None:
        super().__init__()
        self.factor = factor
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled input, float."""
        return x * self.factor + self.offset

    def extra_repr(self) -> str:
        """Show the constants in the module's repr."""
        return f"factor={self.factor}, offset={self.offset}"
