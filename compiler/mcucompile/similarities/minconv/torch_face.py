"""Torch face of the MinConv similarity S = smin(x, w) = sign(x) sign(w) min(|x|, |w|), also called synapse.

Source: Yang et al., "MinConvNets: A new class of multiplication-less Neural Networks", arXiv:2101.09492; the
function is the comparative synapse of Dogaru and Chua, IEEE Transactions on Circuits and Systems I 46(11), 1999.
"""

from typing import Any

import torch
from torch import Tensor

from mcucompile.similarities.torch_face import TorchSimilarity, Window, tiles

# Share of the old value in the moving mean of |x|; the paper leaves it open, this is batch normalisation's.
MOMENTUM = 0.9


class MinConvSimilarity(TorchSimilarity):
    """S = sign(x) sign(w) min(|x|, |w|).

    Gradients, with G the gradient of the output:
        exact: dX = G sign(w) [|x| < |w|], dW = G sign(x) [|w| < |x|]; 0 at a tie.
        multiplication: as if S were x w: dX = G w, dW = G x.
        algorithm1: the paper's Algorithm 1. Forward: x clipped at 2 mu_x, each filter at 2 mu_w and scaled to the
            inputs' size (equation 12), the sum times mu_w (equation 13); mu_x = mean |x|, of the batch in training
            and its moving mean at inference, mu_w = mean |w| of the filter. Backward: as if S were x w, zero
            outside the clips.
    """

    name = "minconv"
    gradients = ("exact", "multiplication", "algorithm1")
    mean_abs_input: Tensor

    def __init__(self, gradient: str | None = None) -> None:
        super().__init__(gradient)
        if self.gradient == "algorithm1":
            self.register_buffer("mean_abs_input", torch.ones(()))

    def forward(self, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        """Return sum smin(x, w); with `algorithm1`, equation 13."""
        if self.gradient == "exact":
            return window.pairwise(x, weight, _MinSum.apply)
        if self.gradient == "multiplication":
            return _exact_backward(x, weight, x, weight, None, window)
        if self.training:
            mean = x.detach().abs().mean()
            self.mean_abs_input.lerp_(mean, 1 - MOMENTUM)
        else:
            mean = self.mean_abs_input
        limit = 2 * _mean_abs(weight)
        clipped_x = x.clamp(-2 * mean, 2 * mean)
        clipped_weight = weight.clamp(-limit, limit)
        return _exact_backward(
            clipped_x, clipped_weight, clipped_x, _scaled(weight, mean), self.deployed_scale(weight), window
        )

    def deployed(self, weight: Tensor) -> Tensor:
        """Return w; with `algorithm1`, the scaled weights of equation 12.

        They are at most 2 mu_x, so that clipping x changes nothing and inference leaves it out.
        """
        return _scaled(weight, self.mean_abs_input) if self.gradient == "algorithm1" else weight

    def deployed_scale(self, weight: Tensor) -> Tensor | None:
        """Return mu_w of each filter with `algorithm1`."""
        return _mean_abs(weight).flatten() if self.gradient == "algorithm1" else None


def _mean_abs(weight: Tensor) -> Tensor:
    """Return mean |w| of each filter, (n_out, 1, ...); a filter of zeros counts as the smallest number."""
    mean = weight.detach().abs().flatten(1).mean(1).clamp_min(torch.finfo(weight.dtype).tiny)
    return mean.reshape(-1, *[1] * (weight.ndim - 1))


def _scaled(weight: Tensor, mean_abs_input: Tensor) -> Tensor:
    """Return mu_x / mu_w clip(w, 2 mu_w), equation 12."""
    mean = _mean_abs(weight)
    return (weight / mean).clamp(-2, 2) * mean_abs_input


def _exact_backward(
    x: Tensor, weight: Tensor, min_x: Tensor, min_weight: Tensor, scale: Tensor | None, window: Window
) -> Tensor:
    """Return scale * sum smin(min_x, min_weight), whose gradient is that of sum x * weight."""
    product = window.convolve(x, weight)
    with torch.no_grad():
        sums = window.pairwise(min_x, min_weight, _MinSum.apply)
        if scale is not None:
            sums = sums * scale.reshape(-1, *[1] * len(window.stride))
    return product + (sums - product).detach()


class _MinSum(torch.autograd.Function):
    """x (g, n, k), w (g, o, k) -> sum_k smin(x, w), (g, n, o); terms exist only one tile at a time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        result = x.new_empty(len(x), x.shape[1], weight.shape[1])
        for fields, filters, sums in zip(x, weight, result, strict=True):
            high, sign = filters.abs(), filters.sign()
            for part, terms in tiles(len(fields), filters):
                # smin(x, w) = sign(w) clamp(x, -|w|, |w|)
                torch.clamp(fields[part, None], -high, high, out=terms)
                torch.sum(terms.mul_(sign), 2, out=sums[part])
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        (grad,) = grads
        return (
            _input_gradient(x, weight, grad) if ctx.needs_input_grad[0] else None,
            _weight_gradient(x, weight, grad) if ctx.needs_input_grad[1] else None,
        )


def _input_gradient(x: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
    """Return sum_o G sign(w) [|x| < |w|]."""
    result = torch.empty_like(x)
    for fields, filters, errors, slopes in zip(x.abs(), weight, grad, result, strict=True):
        sizes, sign = filters.abs(), filters.sign()
        for part, terms in tiles(len(fields), filters):
            torch.lt(fields[part, None], sizes, out=terms)
            torch.bmm(errors[part, None], terms.mul_(sign), out=slopes[part, None])
    return result


def _weight_gradient(x: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
    """Return sum_n G sign(x) [|w| < |x|]."""
    result = torch.zeros_like(weight)
    for fields, filters, errors, slopes in zip(x, weight.abs(), grad.mT.contiguous(), result, strict=True):
        sizes, signs = fields.abs(), fields.sign()
        for part, terms in tiles(len(fields), filters, by_output=True):
            torch.lt(filters[:, None], sizes[part], out=terms)
            slopes.add_(torch.bmm(errors[:, None, part], terms.mul_(signs[part]))[:, 0])
    return result
