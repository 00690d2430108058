"""Loading trained weights: a file that was written by another model, version or program is named as such."""

import copy
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from mcucompile.errors import ModelError
from mcucompile.frontends.names import first_line, label

_SHOWN = 6


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a state dict that `torch.save(model.state_dict(), path)` wrote into a model, all of it or nothing.

    Nothing of the file is executed (`weights_only`). Tensors are brought to the model's device and types;
    differences between versions that torch knows how to bridge are bridged.

    Args:
        model: with the layers that the weights were trained in; changed in place.
        path: the file.
    Raises:
        ModelError: the file is missing, damaged or not readable by the installed torch, holds something else
            than a state dict, or its tensors are not the model's; those missing, unexpected and of another
            shape are named.
    """
    state = _state(path)
    own = model.state_dict()
    misfits = [
        f"{label(key)} is {_description(value)}, the model has {_description(own[key])}"
        for key, value in state.items()
        if key in own and _description(value) != _description(own[key])
    ]
    # Tried on a copy, so that a model that is refused its weights keeps those it has. A copy of the state dict
    # keeps the versions of the layers that torch wrote into it.
    fitting = copy.copy(state)
    for key in [key for key in state if key in own and state[key].shape != own[key].shape]:
        del fitting[key]
    found = copy.deepcopy(model).load_state_dict(fitting, strict=False)
    missing = [key for key in found.missing_keys if key not in state]
    problems = [
        *_listed("misses", missing),
        *_listed("has unexpected", map(label, found.unexpected_keys)),
        *_listed("does not fit:", misfits),
    ]
    if problems:
        raise ModelError(
            path,
            f"holds the weights of another model: it {'; it '.join(problems)}",
            "build the model with the layers and sizes it was trained with",
        )
    model.load_state_dict(state)


def _state(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name."""
    advice = "save it again with torch.save(model.state_dict(), path) and the installed torch"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(path, f"cannot be read: {error.strerror or first_line(error)}", "check the path") from error
    except Exception as error:
        # The file's content is anything: torch raises whatever its parsers raise.
        problem = f"cannot be loaded by torch {torch.__version__} ({type(error).__name__}: {first_line(error)})"
        raise ModelError(path, problem, advice) from error
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise ModelError(path, f"holds a {type(state).__name__}, not a state dict", advice)
    foreign = [f"{label(key)}, a {type(value).__name__}" for key, value in state.items() if not torch.is_tensor(value)]
    if foreign or not state:
        problem = f"is no state dict: it {'; '.join(_listed('holds', foreign)) or 'is empty'}"
        raise ModelError(path, problem, advice)
    return state


def _description(value: Tensor) -> str:
    """Return the shape, and whether the numbers are real ones."""
    kind = "real" if value.is_floating_point() else str(value.dtype).removeprefix("torch.")
    return f"{kind} {tuple(value.shape)}"


def _listed(verb: str, names: Iterable[str]) -> list[str]:
    """Return [] for no names, else one phrase with the first few of them."""
    all_names = [*names]
    more = f" and {len(all_names) - _SHOWN} more" if len(all_names) > _SHOWN else ""
    return [f"{verb} {', '.join(all_names[:_SHOWN])}{more}"] if all_names else []
