"""Torch modules that copy elements, each with the shape of its input."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from torch_modules_windows import Function

_IMAGE = (1, 4, 6, 8)
MOVEMENT_MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "cat": (lambda: Function(lambda x: torch.cat([x, torch.relu(x)], 1)), _IMAGE),
    "cat_constant": (lambda: Function(lambda x: torch.cat([torch.ones(1, 2), x], -1)), (1, 6)),
    "stack": (lambda: Function(lambda x: torch.stack([x, torch.relu(x)], 1)), (1, 6)),
    "slice": (lambda: Function(lambda x: x[:, 1:3, ::2, -5:]), _IMAGE),
    "select": (lambda: Function(lambda x: x[:, -1]), _IMAGE),
    "index_select": (lambda: Function(lambda x: torch.index_select(x, 1, torch.tensor([2, 0, 2]))), _IMAGE),
    "flip": (lambda: Function(lambda x: x.flip((1, 3))), _IMAGE),
    "pad": (lambda: Function(lambda x: functional.pad(x, (1, 2, 0, 3))), _IMAGE),
    "pad_value": (lambda: nn.ConstantPad2d(1, 0.5), _IMAGE),
    "pad_reflect": (lambda: nn.ReflectionPad2d((1, 2, 3, 0)), _IMAGE),
    "pad_replicate": (lambda: nn.ReplicationPad2d(2), _IMAGE),
    "pad_circular": (lambda: Function(lambda x: functional.pad(x, (1, 2, 0, 3), mode="circular")), _IMAGE),
    "split": (lambda: Function(lambda x: torch.cat(torch.split(x, 4, 2)[::-1], 2)), _IMAGE),
    "split_sizes": (lambda: Function(lambda x: torch.split(x, [1, 3, 2], 2)[1]), _IMAGE),
    "chunk": (lambda: Function(lambda x: torch.cat(torch.chunk(x, 3, 3)[::-1], 3)), _IMAGE),
    "expand": (lambda: Function(lambda x: x.expand(3, -1, 4)), (1, 6, 1)),
    "repeat": (lambda: Function(lambda x: x.repeat(2, 1, 3)), (2, 3)),
    "pixel_shuffle": (lambda: nn.PixelShuffle(2), _IMAGE),
    "pixel_unshuffle": (lambda: nn.PixelUnshuffle(2), _IMAGE),
    "upsample": (lambda: nn.Upsample(scale_factor=2), _IMAGE),
    "upsample_size": (lambda: nn.Upsample(size=(9, 5)), _IMAGE),
    "upsample_1d": (lambda: nn.Upsample(scale_factor=3), (1, 3, 5)),
}
# Their decomposed forms have operators of their own.
MOVEMENT_DECOMPOSED = ("pad", "split", "chunk")
