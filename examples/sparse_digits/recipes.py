"""How the sparse network is trained: it learns from a larger network's answers to many variants of each digit.

Training multiplies, in float; the network that it makes only adds and subtracts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from augmentation import Strength, pooled, varied
from networks import sparse_layers, student, teacher
from torch import Tensor, nn
from torch.nn import functional

Bytes = npt.NDArray[np.uint8]
# Called after each epoch with what is trained, its number from 1, the number of epochs and the mean training loss.
Progress = Callable[[str, int, int, float], None]
# What bytes are multiplied by.
PIXEL_SCALE = 1 / 256
_BATCH_OF_ANSWERS = 500
# Steps between choices of which weights are 0.
_CHOICE_STEPS = 10


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the sparse network's training: AdamW, one cycle.

    Attributes:
        epochs: of it.
        rate, weight_rate: largest learning rates, of biases and factors, and of weights.
        divided: after this share of the steps the counts are reached, and each output's are fixed.
        levelled: after this share all weights have levels, and those that keep changing become fixed.
        labels_share: of the loss, the labels' cross entropy; the rest is how far its answers are from the teacher's.
    """

    epochs: int
    rate: float
    weight_rate: float
    divided: float
    levelled: float
    labels_share: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. Chosen on the last 5,000 training images, never on the test images.

    Attributes:
        counts: weights of each layer that are not 0, before each output's are rounded to fours.
        variants: of each image; an epoch sees one of each.
        teacher_epochs, teacher_batch, teacher_rate: of the larger network: AdamW, one cycle, stronger variants, each
            image's once.
        phases, batch: of the sparse network.
        temperature: that divides both networks' logits.
        seed: of the variants, the initial weights and the order.
    """

    counts: tuple[int, ...] = (6000, 3500, 500)
    variants: int = 16
    teacher_epochs: int = 10
    teacher_batch: int = 128
    teacher_rate: float = 3e-3
    phases: tuple[Phase, ...] = (
        Phase(60, 3e-3, 2e-3, 0.35, 0.6, labels_share=0.5),
        Phase(36, 2e-3, 1.5e-3, 0.0, 0.35, labels_share=1.0),
    )
    batch: int = 256
    temperature: float = 4.0
    seed: int = 1


# How often a weight may change its level: at first, and at the end.
_LIMITS = (0.3, 0.01)


def pool(images: Bytes, strength: Strength, variants: int, seed: int) -> Tensor:
    """Return variants of images (n, 28, 28) as the network sees them: (variants, n, 196) bytes."""
    generator = torch.Generator().manual_seed(seed)
    batches = torch.from_numpy(images).split(1000)
    return torch.stack(
        [torch.cat([pooled(varied(batch, strength, generator)) for batch in batches]) for _ in range(variants)]
    )


def scaled(images: Tensor) -> Tensor:
    """Return bytes as networks take them in training."""
    return images.float() * PIXEL_SCALE


def fit_teacher(variants: Tensor, labels: Tensor, recipe: Recipe, progress: Progress) -> nn.Sequential:
    """Return the larger network, trained on variants (v, n, 196) with labels (n,); in evaluation mode."""
    torch.manual_seed(recipe.seed)
    model = teacher()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.teacher_rate, weight_decay=1e-2)
    steps = recipe.teacher_epochs * _steps(len(labels), recipe.teacher_batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.teacher_rate, total_steps=max(steps, 2), pct_start=0.2
    )
    for epoch in range(recipe.teacher_epochs):
        images, total = variants[epoch % len(variants)], 0.0
        for index in _batches(len(labels), recipe.teacher_batch):
            loss = functional.cross_entropy(model(scaled(images[index])), labels[index], label_smoothing=0.05)
            total += _step(loss, optimizer, schedule) * len(index)
        progress("teacher", epoch + 1, recipe.teacher_epochs, total / len(labels))
    return model.eval()


def answers(model: nn.Module, variants: Tensor, recipe: Recipe) -> Tensor:
    """Return the logarithms of a network's softened answers to variants (v, n, 196): (v, n, 10)."""
    with torch.no_grad():
        logits = [torch.cat([model(scaled(batch)) for batch in images.split(_BATCH_OF_ANSWERS)]) for images in variants]
    return functional.log_softmax(torch.stack(logits) / recipe.temperature, dim=-1)


def fit_student(
    variants: Tensor, answered: Tensor, labels: Tensor, recipe: Recipe, progress: Progress
) -> nn.Sequential:
    """Return the sparse network, trained on variants (v, n, 196), a teacher's answers and labels; evaluation mode.

    Source of the loss: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531,
        section 2.
    """
    torch.manual_seed(recipe.seed)
    model = student()
    for phase in recipe.phases:
        for layer in sparse_layers(model):
            layer.release()
        _fit_phase(model, variants, answered, labels, recipe, phase, progress)
    return model.eval()


def _fit_phase(
    model: nn.Module,
    variants: Tensor,
    answered: Tensor,
    labels: Tensor,
    recipe: Recipe,
    phase: Phase,
    progress: Progress,
) -> None:
    sparse = sparse_layers(model)
    others = [value for name, value in model.named_parameters() if not name.endswith("weight")]
    weights = [layer.weight for layer in sparse]
    optimizer = torch.optim.AdamW(
        [{"params": others, "lr": phase.rate}, {"params": weights, "lr": phase.weight_rate}],
        weight_decay=0.0,
        fused=True,
    )
    steps = phase.epochs * _steps(len(labels), recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [phase.rate, phase.weight_rate], total_steps=max(steps, 2), pct_start=0.1, cycle_momentum=False
    )
    step = 0
    for epoch in range(phase.epochs):
        place, total = epoch % len(variants), 0.0
        for index in _batches(len(labels), recipe.batch):
            if step % _CHOICE_STEPS == 0:
                choose(model, recipe.counts, phase, step / steps)
            logits = model(scaled(variants[place, index]))
            loss = functional.cross_entropy(logits, labels[index])
            if phase.labels_share < 1:
                softened = functional.log_softmax(logits / recipe.temperature, dim=1)
                distance = functional.kl_div(softened, answered[place, index], log_target=True, reduction="batchmean")
                loss = phase.labels_share * loss + (1 - phase.labels_share) * recipe.temperature**2 * distance
            kept = [layer.weight.detach().clone() for layer in sparse]
            total += _step(loss, optimizer, schedule) * len(index)
            for layer, before in zip(sparse, kept, strict=True):
                layer.weight.data = torch.where(layer.is_fixed, before, layer.weight.data)
            step += 1
        progress("student", epoch + 1, phase.epochs, total / len(labels))
    choose(model, recipe.counts, phase, 1.0)


def choose(model: nn.Module, counts: tuple[int, ...], phase: Phase, share: float) -> None:
    """Choose which weights are 0, and the levels of the others, after a share (0..1) of the steps of a phase.

    Source of the cubic: Zhu & Gupta, arXiv:1710.01878, equation 1.
    """
    turned = (1 + math.cos(math.pi * (share - phase.levelled) / (1 - phase.levelled))) / 2
    limit = None if share < phase.levelled else _LIMITS[1] + (_LIMITS[0] - _LIMITS[1]) * turned
    for layer, count in zip(sparse_layers(model), counts, strict=True):
        if share < phase.divided:
            left = (1 - share / phase.divided) ** 3
            layer.prune(round(count + left * (layer.weight.numel() - count)))
            continue
        if not layer.counts:
            layer.divide(count)
        towards = (share - phase.divided) / (phase.levelled - phase.divided)
        layer.level(min(1.0, towards) if phase.divided else 1.0, limit)


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share (0..1) of pooled images (n, 196) whose largest logit is their label's."""
    with torch.no_grad():
        guesses = torch.cat([model(scaled(batch)).argmax(1) for batch in images.split(1000)])
    return int((guesses == labels).sum()) / len(labels)


def _steps(count: int, batch: int) -> int:
    return -(-count // batch)


def _batches(count: int, batch: int) -> tuple[Tensor, ...]:
    return torch.randperm(count).split(batch)


def _step(loss: Tensor, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler) -> float:
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()
    schedule.step()
    return float(loss.detach())
