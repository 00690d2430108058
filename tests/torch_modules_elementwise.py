"""Torch modules of element-wise functions, each with the shape of its input."""

from collections.abc import Callable

import torch
from torch import nn
from torch_modules_windows import Function

_SHAPE = (1, 3, 5)
# Torch's own exporter has no ONNX for them, or other operators.
WITHOUT_ONNX = {
    "threshold",
    "rms_norm",
    "layer_norm",
    "layer_norm_plain",
    "group_norm",
    *(f"function_{name}" for name in ("asinh", "atanh", "acosh", "cosh", "sinh")),
}


def _of(function: Callable[[torch.Tensor], torch.Tensor]) -> tuple[Callable[[], nn.Module], tuple[int, ...]]:
    return lambda: Function(function), _SHAPE


# Their decomposed forms have operators of their own.
ELEMENTWISE_DECOMPOSED = ("log_softmax", "layer_norm", "group_norm")
ELEMENTWISE_MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{
        f"function_{name}": (lambda name=name: Function(getattr(torch, name)), _SHAPE)
        for name in (
            "abs", "asinh", "atan", "ceil", "cos", "cosh", "erf", "exp", "floor", "round", "sigmoid", "sign", "sin",
            "sinh", "square", "tan", "tanh",
        )
    },
    "function_acos": _of(lambda x: torch.acos(torch.tanh(x))),
    "function_asin": _of(lambda x: torch.asin(torch.tanh(x))),
    "function_atanh": _of(lambda x: torch.atanh(torch.tanh(x) * 0.5)),
    "function_acosh": _of(lambda x: torch.acosh(x.abs() + 1.5)),
    "function_log": _of(lambda x: torch.log(x.abs() + 0.5)),
    "function_sqrt": _of(lambda x: torch.sqrt(x.abs())),
    "function_rsqrt": _of(lambda x: torch.rsqrt(x.abs() + 0.5)),
    "function_reciprocal": _of(lambda x: torch.reciprocal(x.abs() + 0.5)),
    "celu": (lambda: nn.CELU(0.5), _SHAPE),
    "elu": (lambda: nn.ELU(0.75), _SHAPE),
    "gelu": (nn.GELU, _SHAPE),
    "gelu_tanh": (lambda: nn.GELU(approximate="tanh"), _SHAPE),
    "hardsigmoid": (nn.Hardsigmoid, _SHAPE),
    "hardswish": (nn.Hardswish, _SHAPE),
    "hardtanh": (lambda: nn.Hardtanh(-0.5, 0.75), _SHAPE),
    "leaky_relu": (lambda: nn.LeakyReLU(0.2), _SHAPE),
    "log_sigmoid": (nn.LogSigmoid, _SHAPE),
    "mish": (nn.Mish, _SHAPE),
    "relu6": (lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU6()), _SHAPE),
    "relu6_function": _of(nn.functional.relu6),
    "selu": (nn.SELU, _SHAPE),
    "silu": (nn.SiLU, _SHAPE),
    "softplus": (lambda: nn.Softplus(beta=2.0), _SHAPE),
    "threshold": (lambda: nn.Threshold(0.25, 0.0), _SHAPE),
    "clamped": _of(lambda x: x.clamp(-0.5, 0.5)),
    "clamped_below": _of(lambda x: torch.clamp_min(x, -0.25)),
    "clamped_above": _of(lambda x: torch.clamp_max(x, 0.25)),
    "prelu": (lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.PReLU(3, 0.3)), (1, 2, 5, 5)),
    "prelu_number": (nn.PReLU, _SHAPE),
    "product": _of(lambda x: x * torch.sigmoid(x.mean(2, keepdim=True))),
    "quotient": _of(lambda x: x / (1 + x.abs())),
    "difference_of_means": _of(lambda x: x - x.mean(1, keepdim=True)),
    "maximum": _of(lambda x: torch.maximum(x, x.mean(1, keepdim=True))),
    "minimum": _of(lambda x: torch.minimum(x, -x.mean(1, keepdim=True))),
    "where": _of(lambda x: torch.where(torch.tensor([True, False, True, False, True]), x, torch.tensor(0.5))),
    "layer_norm": (lambda: nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 3)), _SHAPE),
    "layer_norm_plain": (lambda: nn.LayerNorm((3, 5), elementwise_affine=False), _SHAPE),
    "rms_norm": (lambda: nn.RMSNorm(5), _SHAPE),
    "instance_norm": (lambda: nn.InstanceNorm2d(3, affine=True), (1, 3, 4, 5)),
    "group_norm": (lambda: nn.GroupNorm(2, 6), (1, 6, 4, 5)),
    "log_softmax": (lambda: nn.LogSoftmax(dim=1), _SHAPE),
    "softmax_channels": (lambda: nn.Softmax(dim=1), (1, 3, 4, 5)),
    "matrix_product": _of(lambda x: x @ x.transpose(1, 2)),
    "batched_product": _of(lambda x: torch.bmm(x, x.transpose(1, 2))),
    "power": _of(lambda x: (x.abs() + 0.5) ** 1.7),
    "power_of_constant": _of(lambda x: 2.0**x),
}  # fmt: skip
