"""Layers with a choice of similarity, to be used where torch.nn has Linear, Conv1d and Conv2d.

    Conv2d(6, 16, 5, similarity="adder")
    Linear(400, 120, bias=False, similarity="minconv", gradient="multiplication")

Weights, shapes, state dict keys and initialisation are torch's (adder: N(0, 1)); only what is summed differs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mcucompile.errors import UnsupportedError
from mcucompile.similarities.adder.torch_face import AdderSimilarity
from mcucompile.similarities.binary.torch_face import BinarySimilarity
from mcucompile.similarities.dot.torch_face import DotSimilarity
from mcucompile.similarities.euclid.torch_face import EuclidSimilarity
from mcucompile.similarities.mfo.torch_face import MfoSimilarity
from mcucompile.similarities.minconv.torch_face import MinConvSimilarity
from mcucompile.similarities.ternary.torch_face import TernarySimilarity
from mcucompile.similarities.torch_face import TorchSimilarity, Window
from mcucompile.similarities.trig.torch_face import TrigSimilarity

# The torch faces by name; synapse is EuclidNets' name of MinConvNets' function.
TORCH_SIMILARITIES: dict[str, type[TorchSimilarity]] = {
    "dot": DotSimilarity,
    "adder": AdderSimilarity,
    "euclid": EuclidSimilarity,
    "minconv": MinConvSimilarity,
    "synapse": MinConvSimilarity,
    "mfo": MfoSimilarity,
    "trig": TrigSimilarity,
    "binary": BinarySimilarity,
    "ternary": TernarySimilarity,
}


def torch_similarity(name: str, gradient: str | None, where: str) -> TorchSimilarity:
    """Return the torch face of a similarity.

    Raises:
        UnsupportedError: there is no such similarity, or it has no such gradient.
    """
    if name not in TORCH_SIMILARITIES:
        known = ", ".join(TORCH_SIMILARITIES)
        raise UnsupportedError(where, f"there is no similarity '{name}'", f"choose one of {known}")
    return TORCH_SIMILARITIES[name](gradient)


@torch.library.custom_op("mcucompile::similarity", mutates_args=())
def similarity_sums(
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    name: str,
) -> Tensor:
    """Return what the face `name` sums, shapes as in `Window.convolve`: one operator that torch.export keeps whole."""
    window = Window(tuple(stride), tuple(padding), tuple(dilation), groups)
    sums: Tensor = TORCH_SIMILARITIES[name](None)(x, weight, window)
    return sums


@similarity_sums.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    name: str,  # noqa: ARG001
) -> Tensor:
    # Every similarity gives what an ordinary convolution's shape is.
    return Window(tuple(stride), tuple(padding), tuple(dilation), groups).convolve(x, weight)


def _sums(layer: "Linear | Conv1d | Conv2d", x: Tensor, window: Window) -> Tensor:
    face = layer.similarity
    if torch.compiler.is_compiling() and not layer.training and face.name != "dot":
        if getattr(face, "homotopy", 1.0) != 1.0:
            raise UnsupportedError(type(layer).__name__, "its homotopy is not 1 yet", "set_homotopy(model, 1.0)")
        sums: Tensor = similarity_sums(
            x, layer.weight, window.stride, window.padding, window.dilation, window.groups, face.name
        )
        return sums
    result: Tensor = face(x, layer.weight, window)
    return result


def _biased(sums: Tensor, bias: Tensor | None, dimensions: int) -> Tensor:
    return sums if bias is None else sums + bias.reshape(-1, *[1] * dimensions)


def _window(layer: nn.Conv1d | nn.Conv2d) -> Window:
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        raise UnsupportedError(
            type(layer).__name__,
            f"padding={layer.padding!r} with padding_mode={layer.padding_mode!r}",
            "give the padding as a number of zeros",
        )
    return Window(tuple(layer.stride), tuple(layer.padding), tuple(layer.dilation), layer.groups)


class Linear(nn.Linear):
    """y[o] = sum_i S(x[i], w[o, i]) + bias[o]; x (..., n_in) -> (..., n_out).

    Args:
        in_features, out_features, bias: as in torch.nn.Linear.
        similarity: the name of S, a key of TORCH_SIMILARITIES.
        gradient: one of the similarity's gradients, None for its default.
    Raises:
        UnsupportedError: an unknown similarity or gradient.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        similarity: str = "dot",
        gradient: str | None = None,
    ) -> None:
        face = torch_similarity(similarity, gradient, type(self).__name__)
        super().__init__(in_features, out_features, bias)
        self.similarity = face
        face.reset_weight(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's outputs."""
        return _biased(_sums(self, x, Window()), self.bias, 0)


class Conv1d(nn.Conv1d):
    """As `Conv2d`, over one dimension; x (n, c, w) -> (n, n_out, w_out)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | tuple[int] = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        similarity: str = "dot",
        gradient: str | None = None,
    ) -> None:
        face = torch_similarity(similarity, gradient, type(self).__name__)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.window = _window(self)
        self.similarity = face
        face.reset_weight(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's outputs."""
        return _biased(_sums(self, x, self.window), self.bias, 1)


class Conv2d(nn.Conv2d):
    """y[o] = sum S(x, w[o]) over each receptive field + bias[o]; x (n, c, h, w) -> (n, n_out, h_out, w_out).

    Padding takes part with the value 0, whatever the similarity.

    Args:
        in_channels ... bias: as in torch.nn.Conv2d; padding is a number.
        similarity: the name of S, a key of TORCH_SIMILARITIES.
        gradient: one of the similarity's gradients, None for its default.
    Raises:
        UnsupportedError: an unknown similarity or gradient, or a padding by name.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        similarity: str = "dot",
        gradient: str | None = None,
    ) -> None:
        face = torch_similarity(similarity, gradient, type(self).__name__)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.window = _window(self)
        self.similarity = face
        face.reset_weight(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's outputs."""
        return _biased(_sums(self, x, self.window), self.bias, 2)
