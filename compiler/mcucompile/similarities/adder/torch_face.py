"""Torch face of the adder similarity S = -|x - w|, with AdderNet's gradients.

Source: Chen et al., "AdderNet: Do We Really Need Multiplications in Deep Learning?", arXiv:1912.13200.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mcucompile.similarities.torch_face import TorchSimilarity, Window, fused, tiles


class AdderSimilarity(TorchSimilarity):
    """S = -|x - w|.

    Gradients, with G the gradient of the output:
        full_precision: dW = G (x - w), equation 5; dX = G HardTanh(w - x), equation 6.
        unclipped: dX = G (w - x), the ablation without HardTanh.
        sign: the exact gradient, dW = G sgn(x - w), equation 4, and dX = G sgn(w - x).
    Weights start as N(0, 1): filters are compared with inputs that batch normalisation has brought to that size.
    """

    name = "adder"
    gradients = ("full_precision", "unclipped", "sign")

    def forward(self, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        """Return -sum |x - w|."""

        def sums(fields: Tensor, filters: Tensor) -> Tensor:
            fuse = self.compiled and self.training
            result: Tensor = _AdderSum.apply(fields, filters, self.gradient, fuse)  # type: ignore[no-untyped-call]
            return result

        return window.pairwise(x, weight, sums)

    def reset_weight(self, weight: Tensor) -> None:
        """Draw weights from N(0, 1)."""
        nn.init.normal_(weight)


class _AdderSum(torch.autograd.Function):
    """x (g, n, k), w (g, o, k) -> -sum_k |x - w|, (g, n, o); differences exist only one tile at a time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, gradient: str, fuse: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.gradient, ctx.fuse = gradient, fuse
        result = x.new_empty(len(x), x.shape[1], weight.shape[1])
        for fields, filters, sums in zip(x, weight, result, strict=True):
            if fuse:
                sums.copy_(fused(_distances)(fields, filters))
                continue
            for part, terms in tiles(len(fields), filters):
                torch.sub(fields[part, None], filters, out=terms)
                torch.sum(terms.abs_(), 2, out=sums[part])
        return result.neg_()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        (grad,) = grads
        return (
            _input_gradient(x, weight, grad, ctx.gradient, ctx.fuse) if ctx.needs_input_grad[0] else None,
            _weight_gradient(x, weight, grad, ctx.gradient) if ctx.needs_input_grad[1] else None,
            None,
            None,
        )


def _distances(x: Tensor, weight: Tensor) -> Tensor:
    return (x[:, None] - weight).abs().sum(2)


def _clipped_slopes(x: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
    return (grad[:, :, None] * (weight - x[:, None]).clamp(-1, 1)).sum(1)


def _input_gradient(x: Tensor, weight: Tensor, grad: Tensor, gradient: str, fuse: bool) -> Tensor:
    if gradient == "unclipped":
        return grad @ weight - x * grad.sum(2, keepdim=True)
    result = torch.empty_like(x)
    for fields, filters, errors, slopes in zip(x, weight, grad, result, strict=True):
        if fuse and gradient == "full_precision":
            slopes.copy_(fused(_clipped_slopes)(fields, filters, errors))
            continue
        for part, terms in tiles(len(fields), filters):
            torch.sub(filters, fields[part, None], out=terms)
            torch.bmm(errors[part, None], _slope(terms, gradient), out=slopes[part, None])
    return result


def _weight_gradient(x: Tensor, weight: Tensor, grad: Tensor, gradient: str) -> Tensor:
    if gradient != "sign":
        return grad.mT @ x - weight * grad.sum(1)[..., None]
    result = torch.zeros_like(weight)
    for fields, filters, errors, slopes in zip(x, weight, grad.mT.contiguous(), result, strict=True):
        for part, terms in tiles(len(fields), filters, by_output=True):
            torch.sub(fields[part], filters[:, None], out=terms)
            slopes.add_(torch.bmm(errors[:, None, part], _slope(terms, gradient))[:, 0])
    return result


def _slope(differences: Tensor, gradient: str) -> Tensor:
    """Replace differences by their sign or HardTanh, in place."""
    return differences.sign_() if gradient == "sign" else differences.clamp_(-1, 1)
