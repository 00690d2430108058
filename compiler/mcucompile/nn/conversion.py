"""From a trained network to the same network with another similarity."""

import copy
from collections.abc import Collection
from typing import TypeVar

import torch
from torch import Tensor, nn

from mcucompile.errors import ModelError, UnsupportedError
from mcucompile.nn.layers import Conv1d, Conv2d, Linear, torch_similarity

Layer = nn.Linear | nn.Conv1d | nn.Conv2d
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d
M = TypeVar("M", bound=nn.Module)


def convert(
    model: M,
    similarity: str,
    *,
    gradient: str | None = None,
    batch: Tensor | None = None,
    keep: Collection[str] = (),
) -> M:
    """Return a copy of a network in which every Linear, Conv1d and Conv2d has another similarity.

    Weights, biases and everything else are copied; parameters keep their names. A distance does not compute
    what the convolution computed: train the result, or at least renew its batch statistics.

    Args:
        model: any tree of modules, of torch's layers or this package's.
        similarity, gradient: of the new layers.
        batch: inputs to match the weights' size to first (`matched_init`); None leaves them as they are.
        keep: dotted names of layers left as they are.
    Raises:
        UnsupportedError: an unknown similarity or gradient, or a padding by name.
        ModelError: `keep` names something that is no such layer; also what `matched_init` raises.
    """
    result = copy.deepcopy(model)
    layers = _layers(result, keep)
    if batch is not None:
        matched_init(result, batch, keep)
    for name, layer in layers.items():
        _replace(result, name, _converted(layer, similarity, gradient, name))
    return result


def matched_init(model: nn.Module, batch: Tensor, keep: Collection[str] = ()) -> None:
    """Bring each layer's weights to the size of its inputs, in place, without changing what a conv net computes.

    Weights and bias are multiplied by c = rms(x) / rms(w); the batch normalisation that follows has its running
    mean multiplied by c, its variance by c^2, and its gamma corrected for epsilon. Distances between x and w
    mean something only if both have one size.

    Args:
        model: a trained network of dot products, each followed by batch normalisation.
        batch: inputs of the network, representative ones.
        keep: dotted names of layers left as they are.
    Raises:
        ModelError: a layer is not followed by batch normalisation with running statistics, or sees only zeros.
    """
    layers = _layers(model, keep)
    inputs, followers = _trace(model, layers, batch)
    for name, layer in layers.items():
        norm = followers.get(name)
        if norm is None or norm.running_mean is None or norm.running_var is None:
            raise ModelError(
                f"layer '{name}'",
                "is not followed by batch normalisation with running statistics",
                f"add it, or leave the layer out: keep=['{name}']",
            )
        size, weights = inputs[name], float(layer.weight.detach().square().mean().sqrt())
        if not size or not weights:
            raise ModelError(f"layer '{name}'", "has only zeros as inputs or weights", "give a batch of real inputs")
        _rescale(layer, norm, size / weights)


def set_batch_norm_gamma(model: nn.Module, gamma: float) -> None:
    """Set the weight of every batch normalisation, in place; 0.3 keeps the angles of "trig" small.

    Source: thesis "Log or Trig", listing 4.1, where gamma is called the mean.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.weight is not None:
            nn.init.constant_(module.weight, gamma)


def _layers(model: nn.Module, keep: Collection[str]) -> dict[str, Layer]:
    """Return the layers to change by dotted name; a layer reached by two names has one entry."""
    layers: dict[str, Layer] = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    }
    unknown = sorted(set(keep) - layers.keys())
    if unknown:
        raise ModelError("keep", f"no layers are called {', '.join(unknown)}", f"choose from {', '.join(layers)}")
    return {name: layer for name, layer in layers.items() if name not in keep}


def _converted(layer: Layer, similarity: str, gradient: str | None, name: str) -> Layer:
    torch_similarity(similarity, gradient, f"layer '{name}'")
    has_bias = layer.bias is not None
    new: Layer
    if isinstance(layer, nn.Linear):
        new = Linear(layer.in_features, layer.out_features, has_bias, similarity=similarity, gradient=gradient)
    else:
        if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
            raise UnsupportedError(
                f"layer '{name}'", f"has padding {layer.padding!r}", "give the padding as a number of zeros"
            )
        kind = Conv1d if isinstance(layer, nn.Conv1d) else Conv2d
        new = kind(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            layer.dilation,  # type: ignore[arg-type]
            layer.groups,
            has_bias,
            similarity=similarity,
            gradient=gradient,
        )
    new.weight = layer.weight
    new.bias = layer.bias
    return new.to(layer.weight.device, layer.weight.dtype).train(layer.training)


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    if not name:
        raise ModelError("the model", "is a single layer", "wrap it: torch.nn.Sequential(layer)")
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def _trace(model: nn.Module, layers: dict[str, Layer], batch: Tensor) -> tuple[dict[str, float], dict[str, BatchNorm]]:
    """Run the batch; return the rms of each layer's input and the normalisation that takes its output."""
    inputs: dict[str, float] = {}
    outputs: dict[str, Tensor] = {}
    followers: dict[str, BatchNorm] = {}
    hooks = []
    for name, layer in layers.items():

        def record(_layer: nn.Module, args: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
            inputs[name] = float(args[0].square().mean().sqrt())
            outputs[name] = output

        hooks.append(layer.register_forward_hook(record))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):

            def follow(norm: BatchNorm, args: tuple[Tensor, ...]) -> None:
                followers.update({name: norm for name, output in outputs.items() if output is args[0]})

            hooks.append(module.register_forward_pre_hook(follow))
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            model.eval()(batch)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    return inputs, followers


def _rescale(layer: Layer, norm: BatchNorm, factor: float) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        layer.weight.mul_(factor)
        if layer.bias is not None:
            layer.bias.mul_(factor)
        if norm.weight is not None:
            before = (norm.running_var + norm.eps).sqrt()
            norm.weight.mul_((norm.running_var * factor**2 + norm.eps).sqrt() / (before * factor))
        norm.running_mean.mul_(factor)
        norm.running_var.mul_(factor**2)
