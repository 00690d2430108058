"""Torch face of the MinConv similarity S = smin(x, w) = sign(x) sign(w) min(|x|, |w|), also called synapse.

Source: Yang et al., "MinConvNets: A new class of multiplication-less Neural Networks", arXiv:2101.09492; the
function is the comparative synapse of Dogaru and Chua, IEEE Transactions on Circuits and Systems I 46(11), 1999.
"""

from typing import Any

import torch
from torch import Tensor

from mcucompile.similarities.torch_face import TorchSimilarity, Window, fused, tiles

# Positions whose inputs and errors stay in a core's second-level cache while all filters pass over them.
FUSED_POSITIONS = 2048
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
            fuse = self.compiled and self.training

            def sums(fields: Tensor, filters: Tensor) -> Tensor:
                result: Tensor = _MinSum.apply(fields, filters, fuse)  # type: ignore[no-untyped-call]
                return result

            return window.pairwise(x, weight, sums)
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
        sums = window.pairwise(min_x, min_weight, _min_sums)
        if scale is not None:
            sums = sums * scale.reshape(-1, *[1] * len(window.stride))
    return product + (sums - product).detach()


def _min_sums(x: Tensor, weight: Tensor) -> Tensor:
    """Return sum_k smin(x, w), (g, n, o), of x (g, n, k) and w (g, o, k); terms exist only one tile at a time."""
    result = x.new_empty(len(x), x.shape[1], weight.shape[1])
    for fields, filters, sums in zip(x, weight, result, strict=True):
        high, sign = filters.abs(), filters.sign()
        for part, terms in tiles(len(fields), filters):
            # smin(x, w) = sign(w) clamp(x, -|w|, |w|)
            torch.clamp(fields[part, None], -high, high, out=terms)
            torch.sum(terms.mul_(sign), 2, out=sums[part])
    return result


class _MinSum(torch.autograd.Function):
    """`_min_sums` with smin's own gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, fuse: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.fuse = fuse
        if not fuse:
            return _min_sums(x, weight)
        return torch.stack([fused(_fused_sums)(*pair) for pair in zip(x, weight, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        (grad,) = grads
        return (
            _input_gradient(x, weight, grad, ctx.fuse) if ctx.needs_input_grad[0] else None,
            _weight_gradient(x, weight, grad, ctx.fuse) if ctx.needs_input_grad[1] else None,
            None,
        )


def _fused_sums(x: Tensor, weight: Tensor) -> Tensor:
    # smin(x, w) = (|x + w| - |x - w|) / 2
    return ((x[:, None] + weight).abs() - (x[:, None] - weight).abs()).sum(2) / 2


def _fused_input_slopes(sizes: Tensor, limits: Tensor, signs: Tensor, grad: Tensor) -> Tensor:
    return torch.where(sizes[:, None] < limits, grad[:, :, None] * signs, 0.0).sum(1)


def _fused_weight_slopes(sizes: Tensor, signs: Tensor, limits: Tensor, grad: Tensor) -> Tensor:
    # sizes and signs (k, n), limits (o, k), grad (o, n): the sum runs over what lies together in memory.
    return torch.where(limits[:, :, None] < sizes, grad[:, None] * signs, 0.0).sum(2)


def _input_gradient(x: Tensor, weight: Tensor, grad: Tensor, fuse: bool) -> Tensor:
    """Return sum_o G sign(w) [|x| < |w|]."""
    result = torch.empty_like(x)
    for fields, filters, errors, slopes in zip(x.abs(), weight, grad, result, strict=True):
        sizes, sign = filters.abs(), filters.sign()
        if fuse:
            slopes.copy_(fused(_fused_input_slopes)(fields, sizes, sign, errors))
            continue
        for part, terms in tiles(len(fields), filters):
            torch.lt(fields[part, None], sizes, out=terms)
            torch.bmm(errors[part, None], terms.mul_(sign), out=slopes[part, None])
    return result


def _weight_gradient(x: Tensor, weight: Tensor, grad: Tensor, fuse: bool) -> Tensor:
    """Return sum_n G sign(x) [|w| < |x|]."""
    result = torch.zeros_like(weight)
    for fields, filters, errors, slopes in zip(x, weight.abs(), grad.mT.contiguous(), result, strict=True):
        if fuse:
            for some, their in zip(fields.split(FUSED_POSITIONS), errors.split(FUSED_POSITIONS, dim=1), strict=True):
                columns = some.T.contiguous()
                slopes.add_(fused(_fused_weight_slopes)(columns.abs(), columns.sign(), filters, their.contiguous()))
            continue
        sizes, signs = fields.abs(), fields.sign()
        for part, terms in tiles(len(fields), filters, by_output=True):
            torch.lt(filters[:, None], sizes[part], out=terms)
            slopes.add_(torch.bmm(errors[:, None, part], terms.mul_(signs[part]))[:, 0])
    return result
