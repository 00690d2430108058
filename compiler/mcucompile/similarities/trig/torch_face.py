"""Torch face of trigonometric inference: S = sin(x) sin(w), inputs and weights are angles in radians.

Source: thesis "Log or Trig", section 4.2: forward by equation 4.8, gradients by 4.11 to 4.14.
"""

import math
from typing import Any

import torch
from torch import Tensor

from mcucompile.similarities.torch_face import TorchSimilarity, Window

QUARTER_TURN = math.pi / 2


class TrigSimilarity(TorchSimilarity):
    """S = sin(x) sin(w), with w kept within [-pi/2, pi/2].

    Gradients, with G the gradient of the output:
        exact: dW = (G^T sin x) cos w, dX = (G sin w) cos x, equation 4.11.
        method1: the same with sin(G) for G, equation 4.12.
        method2: sin(G) for G and 1/2 for both cosines, equation 4.14.
    The factor 0 where x <= 0 belongs to the activation before (`RectifiedAngle`).
    """

    name = "trig"
    gradients = ("exact", "method1", "method2")

    def forward(self, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        """Return sum sin(x) sin(w)."""
        angle = self.deployed(weight)
        if self.gradient == "exact":
            return window.convolve(x.sin(), angle.sin())
        if self.gradient == "method1":
            sums = window.convolve(x.sin(), angle.sin())
        else:
            sums = window.convolve(_HalfSlopeSine.apply(x), _HalfSlopeSine.apply(angle))  # type: ignore[no-untyped-call]
        result: Tensor = _SineOfGradient.apply(sums)  # type: ignore[no-untyped-call]
        return result

    def deployed(self, weight: Tensor) -> Tensor:
        """Return the weights as angles within [-pi/2, pi/2]: sine repeats itself past them."""
        return weight.clamp(-QUARTER_TURN, QUARTER_TURN)


class _SineOfGradient(torch.autograd.Function):
    """y = x; backward, sin(gradient): the error signal as an angle."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].sin()


class _HalfSlopeSine(torch.autograd.Function):
    """y = sin(x); backward, gradient / 2."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x.sin()

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] / 2
