"""Modules to trace, by name, and a small four-view network: what the tests of the torch front-end share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mcucompile.nn import FourView
from torch import Tensor, nn
from torch_modules_elementwise import ELEMENTWISE_MODULES
from torch_modules_movement import MOVEMENT_MODULES
from torch_modules_recurrent import RECURRENT_MODULES
from torch_modules_similarities import SIMILARITY_MODULES
from torch_modules_windows import WINDOW_MODULES

Forward = Callable[[nn.ModuleDict, Tensor], Tensor]


class Network(nn.Module):
    """A module whose forward is a function of its layers and the input."""

    def __init__(self, forward: Forward, **layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.function = forward

    def forward(self, x: Tensor) -> Tensor:
        """Call the function."""
        return self.function(self.layers, x)


def trained_norm(channels: int, layer: type[nn.BatchNorm1d | nn.BatchNorm2d] = nn.BatchNorm1d) -> nn.Module:
    """Return a batch normalisation with statistics and parameters as training leaves them."""
    norm = layer(channels)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.3, 2)
    nn.init.uniform_(norm.weight, -2, 2)
    nn.init.uniform_(norm.bias, -1, 1)
    return norm


# Modules by name, each with the shape of its input. The sizes of the layers' weights follow from the shapes.
MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv2d": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)), (1, 3, 7, 6)),
    "conv2d_depthwise": (lambda: nn.Conv2d(4, 8, (3, 2), groups=4, dilation=(2, 1), bias=False), (1, 4, 7, 6)),
    "conv2d_same": (lambda: nn.Conv2d(2, 3, 4, padding="same"), (1, 2, 6, 6)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 5, stride=2, padding=2), (1, 3, 12)),
    "conv_transpose2d": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        (1, 4, 5, 4),
    ),
    "conv_transpose2d_dilated": (lambda: nn.ConvTranspose2d(2, 3, (2, 3), dilation=2, bias=False), (1, 2, 5, 4)),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(3, 4, 4, stride=2), (1, 3, 6)),
    "linear": (lambda: nn.Linear(6, 4), (1, 6)),
    "linear_without_bias": (lambda: nn.Linear(6, 4, bias=False), (1, 6)),
    "linear_of_rows": (lambda: nn.Linear(6, 4), (1, 3, 6)),
    "linear_relu": (lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)), (1, 6)),
    "batch_norm": (lambda: nn.Sequential(nn.Linear(6, 4), trained_norm(4), nn.ReLU()), (1, 6)),
    "batch_norm_first": (lambda: nn.Sequential(trained_norm(6), nn.Linear(6, 4)), (1, 6)),
    "batch_norm_plain": (lambda: nn.BatchNorm1d(6, affine=False), (1, 6)),
    "batch_norm_image": (lambda: trained_norm(3, nn.BatchNorm2d), (1, 3, 4, 5)),
    "flatten": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), (1, 3, 4)),
    "flatten_inner": (lambda: nn.Sequential(nn.ReLU(), nn.Flatten(1, 2)), (1, 2, 3, 4)),
    "unflatten": (lambda: nn.Sequential(nn.Linear(6, 12), nn.Unflatten(1, (3, 4)), nn.Linear(4, 2)), (1, 6)),
    "softmax": (lambda: nn.Sequential(nn.Linear(6, 4), nn.Softmax(dim=1)), (1, 6)),
    "softmax_last": (lambda: nn.Softmax(dim=-1), (1, 3, 6)),
    "argmax": (lambda: Network(lambda m, x: m["a"](x).argmax(1), a=nn.Linear(6, 4)), (1, 6)),
    "argmax_kept": (lambda: Network(lambda m, x: m["a"](x).argmax(1, keepdim=True), a=nn.Linear(6, 4)), (1, 6)),
    "dropout": (lambda: nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5), nn.ReLU()), (1, 6)),
    "residual": (
        lambda: Network(lambda m, x: m["b"](torch.relu(m["a"](x)) + x).relu(), a=nn.Linear(6, 6), b=nn.Linear(6, 6)),
        (1, 6),
    ),
    "in_place": (lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(inplace=True)), (1, 6)),
    "permute": (lambda: Network(lambda m, x: m["a"](x.permute(0, 2, 1)), a=nn.Linear(3, 2)), (1, 3, 4)),
    "swapped": (lambda: Network(lambda m, x: m["a"](x.transpose(1, 2).flatten(1)), a=nn.Linear(12, 2)), (1, 3, 4)),
    "reshape": (lambda: Network(lambda m, x: m["a"](x.reshape(x.shape[0], -1)), a=nn.Linear(12, 2)), (1, 3, 4)),
    "view": (lambda: Network(lambda m, x: m["a"](x.view(-1, 6)), a=nn.Linear(6, 2)), (1, 2, 6)),
    "squeezed": (lambda: Network(lambda m, x: m["a"](x.squeeze(1)).unsqueeze(2), a=nn.Linear(6, 2)), (1, 1, 6)),
    "scaled": (lambda: Network(lambda m, x: 2.0 - m["a"]((x - 0.5) / 4.0) * 3.0, a=nn.Linear(6, 2)), (1, 6)),
    "difference": (lambda: nn.Sequential(nn.Linear(6, 4), Network(lambda _, x: x - torch.relu(x))), (1, 6)),
    "matrix": (lambda: Network(lambda m, x: x @ m["a"].weight.T + m["a"].bias, a=nn.Linear(6, 4)), (1, 6)),
    "matrix_of_rows": (lambda: Network(lambda m, x: x @ m["a"].weight.T, a=nn.Linear(6, 4)), (2, 3, 6)),
    "negated": (lambda: Network(lambda m, x: -m["a"](x), a=nn.Linear(6, 4)), (1, 6)),
    "transposed": (lambda: Network(lambda m, x: m["a"](x.t()), a=nn.Linear(6, 4)), (6, 3)),
    "inner_constant": (lambda: Network(lambda m, x: m["a"](x * torch.tensor([2.0, 3.0])), a=nn.Linear(2, 4)), (1, 2)),
    "norm_function": (
        lambda: Network(
            lambda m, x: torch.native_batch_norm(
                x, m["n"].weight, m["n"].bias, m["n"].running_mean, m["n"].running_var, False, 0.1, 1e-3
            )[0],
            n=trained_norm(6),
        ),
        (1, 6),
    ),
    "no_operation": (
        lambda: Network(
            lambda m, x: m["a"](torch.ops.aten.alias(torch.ops.aten._unsafe_view(x.detach(), (2, 3)))),
            a=nn.Linear(3, 4),
        ),
        (1, 6),
    ),
    "contiguous": (
        lambda: Network(lambda m, x: m["a"](x.permute(0, 2, 1).contiguous().clone()), a=nn.Linear(3, 2)),
        (1, 3, 4),
    ),
    "to_float": (lambda: Network(lambda m, x: m["a"](x.to(torch.float32).contiguous()), a=nn.Linear(6, 4)), (1, 6)),
    **WINDOW_MODULES,
    **MOVEMENT_MODULES,
    **ELEMENTWISE_MODULES,
    **RECURRENT_MODULES,
    **SIMILARITY_MODULES,
}


def built(name: str) -> tuple[nn.Module, Tensor]:
    """Return a module of the table, in evaluation mode, and an example of its input."""
    torch.manual_seed(1)
    make, shape = MODULES[name]
    return make().eval(), torch.randn(shape)


def digits() -> nn.Sequential:
    """Return a four-view network on 14x14 bytes with random weights."""
    torch.manual_seed(3)
    layers = [FourView(7, 7, 3), nn.Linear(16, 6), trained_norm(6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 4)]
    return nn.Sequential(*layers).eval()


def images(count: int) -> np.ndarray:
    """Return random pictures, uint8 (count, 14, 14)."""
    return np.random.default_rng(4).integers(0, 256, (count, 14, 14), dtype=np.uint8)


def saved_digits(path: Path) -> nn.Sequential:
    """Save the four-view network as a program and return it."""
    module = digits()
    torch.export.save(torch.export.export(module, (torch.from_numpy(images(1)),)), path)
    return module
