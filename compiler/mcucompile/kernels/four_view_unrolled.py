"""Four-view projection with every line sum written out: two instructions for each pixel and direction."""

from dataclasses import dataclass

from mcucompile.kernels.kernel import Context, Core, Cost, Kernel, Layer
from mcucompile.kernels.plain import four_view_context
from mcucompile.ops import FourView

# Code grows with the zone's pixels, about 16 bytes each.
_MAX_ZONE_PIXELS = 64


@dataclass(frozen=True, slots=True)
class FourViewUnrolled(Kernel):
    """For zones of at most 64 pixels on any core."""

    def refusal(self, layer: Layer, core: Core) -> str | None:  # noqa: ARG002 - any core will do
        """Refuse zones whose written-out sums would be long."""
        pixels = _zone_pixels(layer)
        return None if pixels <= _MAX_ZONE_PIXELS else f"a zone of {pixels} pixels would make too much code"

    def cost(self, layer: Layer, core: Core) -> Cost:  # noqa: ARG002 - the same on any
        """Eight instructions for each pixel and three for each of a zone's lines."""
        pixels = _zone_pixels(layer)
        zones = layer.output_shape[-1] // 4
        return Cost(zones * 12 * pixels, 16 * pixels)

    def context(self, layer: Layer) -> Context:
        """Add the pixel offsets of each diagonal and anti-diagonal, from the zone's first pixel."""
        op = layer.op
        if not isinstance(op, FourView):
            raise TypeError(op.kind)
        width = layer.shapes[0][-1]
        pixels = [(r, c) for r in range(op.zone_height) for c in range(op.zone_width)]
        lines = range(op.zone_height + op.zone_width - 1)
        last = op.zone_height - 1
        return {
            **four_view_context(layer),
            "diagonals": [[r * width + c for r, c in pixels if last - r + c == line] for line in lines],
            "anti_diagonals": [[r * width + c for r, c in pixels if r + c == line] for line in lines],
        }


def _zone_pixels(layer: Layer) -> int:
    op = layer.op
    if not isinstance(op, FourView):
        raise TypeError(op.kind)
    return op.zone_height * op.zone_width


FOUR_VIEW_UNROLLED = FourViewUnrolled("unrolled", "four_view", "kernels/four_view_unrolled.c.j2")
