"""What the torch face of a similarity is: a module that sums S(x, w) over receptive fields, and trains.

The layers of `mcucompile.nn` own the weights and the geometry; the face owns the arithmetic and its gradients.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mcucompile.errors import UnsupportedError

# Elements of one tile of (positions, outputs, inputs): a few tiles stay in a core's second-level cache.
TILE_ELEMENTS = 1 << 17


@dataclass(frozen=True, slots=True)
class Window:
    """The receptive fields of a layer: one entry per spatial dimension, none for a fully connected layer.

    Attributes:
        stride, padding, dilation: as in torch.nn.Conv1d and Conv2d; padding is with the value 0.
        groups: how many groups of channels do not see each other.
    """

    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return sum x * w: x (n, c, ...), weight (n_out, c / groups, ...); or x (..., n_in), weight (n_out, n_in)."""
        if not self.stride:
            return functional.linear(x, weight)
        convolve = functional.conv1d if len(self.stride) == 1 else functional.conv2d
        return convolve(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def padded(self, x: Tensor) -> tuple[Tensor, "Window"]:
        """Return x with its padding, for terms where a padded 0 is not neutral, and the window without it."""
        if not any(self.padding):
            return x, self
        sizes = [size for pad in reversed(self.padding) for size in (pad, pad)]
        window = Window(self.stride, (0,) * len(self.padding), self.dilation, self.groups)
        return functional.pad(x, sizes), window

    def pairwise(self, x: Tensor, weight: Tensor, sums: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Apply `sums` to every pair of receptive field and filter; shapes as in `convolve`.

        Args:
            x, weight: input and filters.
            sums: (groups, positions, k), (groups, n_out / groups, k) -> (groups, positions, n_out / groups).
        """
        filters = weight.reshape(self.groups, weight.shape[0] // self.groups, -1)
        if not self.stride:
            fields = x.reshape(1, x.shape[:-1].numel(), x.shape[-1])
            return sums(fields, filters).reshape(*x.shape[:-1], len(weight))
        kernel = weight.shape[2:]
        sizes = [
            (size + 2 * pad - step * (width - 1) - 1) // stride + 1
            for size, pad, step, width, stride in zip(
                x.shape[2:], self.padding, self.dilation, kernel, self.stride, strict=True
            )
        ]
        n = x.shape[0]
        columns = _unfold(x, kernel, self)
        fields = columns.reshape(n, self.groups, -1, columns.shape[-1]).permute(1, 0, 3, 2)
        result = sums(fields.reshape(self.groups, -1, filters.shape[2]), filters)
        images = result.reshape(self.groups, n, -1, filters.shape[1]).permute(1, 0, 3, 2)
        return images.reshape(n, weight.shape[0], *sizes)

    def repeated(self, x: Tensor, n_out: int) -> Tensor:
        """Repeat one channel per group (n, groups, ...) for every output of the group: (n, n_out, ...)."""
        return x if self.groups == 1 else x.repeat_interleave(n_out // self.groups, dim=1)


def _unfold(x: Tensor, kernel: torch.Size, window: Window) -> Tensor:
    """Return the receptive fields as columns (n, c * k, positions); an image of one dimension has one row."""
    if len(kernel) == 1:
        dilation, padding, stride = ((1, window.dilation[0]), (0, window.padding[0]), (1, window.stride[0]))
        return functional.unfold(x[:, :, None], (1, kernel[0]), dilation, padding, stride)
    return functional.unfold(x, tuple(kernel), window.dilation, window.padding, window.stride)


def tiles(positions: int, filters: Tensor, *, by_output: bool = False) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of the positions, each with a reused buffer for its terms.

    Args:
        positions: how many there are.
        filters: (n_out, k), of the buffers' type and device.
        by_output: buffers are (n_out, slice, k) instead of (slice, n_out, k).
    """
    outputs, inputs = filters.shape
    size = max(1, min(positions, TILE_ELEMENTS // max(1, outputs * inputs)))
    memory = filters.new_empty(outputs * size * inputs)
    for start in range(0, positions, size):
        part = slice(start, min(start + size, positions))
        rows = part.stop - start
        shape = (outputs, rows, inputs) if by_output else (rows, outputs, inputs)
        yield part, memory[: outputs * rows * inputs].view(shape)


@functools.cache
def fused(terms: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a function of tensors compiled by torch.compile for every shape: its terms never reach memory."""
    compiled: Callable[..., Tensor] = torch.compile(terms, dynamic=True)
    return compiled


class TorchSimilarity(nn.Module, ABC):
    """The sum of one similarity, with a choice of gradients. Subclasses are the torch faces.

    Class attributes:
        name: of the similarity.
        gradients: names of the gradients to choose from, the default first.
    Attributes:
        compiled: training may use `fused` (`nn.compile_training`); inference never does.
    """

    name: ClassVar[str]
    gradients: ClassVar[tuple[str, ...]] = ("exact",)

    def __init__(self, gradient: str | None = None) -> None:
        super().__init__()
        self.compiled = False
        self.gradient = self.gradients[0] if gradient is None else gradient
        if self.gradient not in self.gradients:
            raise UnsupportedError(
                f"similarity '{self.name}'",
                f"has no gradient '{gradient}'",
                f"choose one of {', '.join(self.gradients)}",
            )

    @abstractmethod
    def forward(self, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        """Return the sum of S(x, w) over each receptive field; shapes as in `Window.convolve`."""

    def deployed(self, weight: Tensor) -> Tensor:
        """Return the weights that inference uses with the plain formula of the similarity; same shape."""
        return weight

    def deployed_scale(self, weight: Tensor) -> Tensor | None:  # noqa: ARG002
        """Return what inference multiplies each output channel with, (n_out,), before the bias; None for 1."""
        return None

    def reset_weight(self, weight: Tensor) -> None:
        """Initialise weights in place where torch's own initialisation does not serve."""

    def extra_repr(self) -> str:
        """Show the gradient in the module's repr."""
        return f"gradient={self.gradient}"
