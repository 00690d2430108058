"""Loading of trained weights: files of this model, of other models, and of no model at all."""

from collections import OrderedDict

import pytest
import torch
from mcucompile.errors import ModelError
from mcucompile.nn import load_weights
from torch import nn


def network(seed, **sizes):
    torch.manual_seed(seed)
    hidden = sizes.get("hidden", 3)
    layers = OrderedDict(fc=nn.Linear(4, hidden), norm=nn.BatchNorm1d(hidden), last=nn.Linear(hidden, 2, bias=False))
    return nn.Sequential(layers)


def assert_unchanged(model, seed):
    expected = network(seed).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_weights_come_back_as_they_were_saved(tmp_path):
    trained, model = network(1), network(2)
    trained.norm.running_mean.fill_(5)
    torch.save(trained.double().state_dict(), tmp_path / "weights.pt")
    load_weights(model, tmp_path / "weights.pt")
    assert all(
        torch.equal(value, trained.state_dict()[name].to(value.dtype)) for name, value in model.state_dict().items()
    )
    assert model.fc.weight.dtype == torch.float32


def test_statistics_from_before_torch_counted_batches_are_bridged(tmp_path):
    state = network(1).state_dict()
    del state["norm.num_batches_tracked"]
    torch.save(dict(state), tmp_path / "old.pt")
    model = network(2)
    load_weights(model, tmp_path / "old.pt")
    assert torch.equal(model.fc.weight, state["fc.weight"])


def state_of(**changes):
    """Return the tensors of another network of this kind, some changed, some (None) left out."""
    state = dict(network(1).state_dict()) | {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (state_of(fc__bias=None), ["misses fc.bias"]),
        (state_of(fc__scale=torch.zeros(3)), ["has unexpected fc.scale"]),
        (
            state_of(fc__bias=None, last__weight=torch.zeros(2, 5), head__w=torch.zeros(1)),
            ["misses fc.bias;", "unexpected head.w;", "last.weight is real (2, 5), the model has real (2, 3)"],
        ),
        (state_of(fc__weight=torch.zeros(3, 4, dtype=torch.int8)), ["fc.weight is int8 (3, 4), the model has real"]),
        ({f"layer{i}": torch.zeros(1) for i in range(9)}, ["layer5 and 3 more", "norm.running_var and 1 more"]),
        ({}, ["it is empty"]),
        ([torch.zeros(3)], ["holds a list"]),
        (torch.zeros(3), ["holds a Tensor"]),
        ({1: torch.zeros(3)}, ["holds a dict, not a state dict"]),
        ({"state_dict": state_of(), "epoch": 3}, ["holds state_dict, a dict, epoch, a int"]),
        (network(1), ["cannot be loaded by torch", "UnpicklingError"]),
    ],
)
def test_foreign_content_is_named_and_changes_nothing(tmp_path, content, words):
    torch.save(content, tmp_path / "weights.pt")
    model = network(2)
    with pytest.raises(ModelError) as caught:
        load_weights(model, tmp_path / "weights.pt")
    assert [word for word in words if word not in caught.value.problem] == []
    assert "weights.pt" in caught.value.where
    assert_unchanged(model, 2)


@pytest.mark.parametrize("size", [0, 1, 40, 400, -1])
def test_damaged_files_are_refused(tmp_path, size):
    path = tmp_path / "weights.pt"
    torch.save(network(1).state_dict(), path)
    path.write_bytes(path.read_bytes()[:size])
    model = network(2)
    with pytest.raises(ModelError, match=r"cannot be loaded by torch [\d.]+") as caught:
        load_weights(model, path)
    assert "torch.save(model.state_dict(), path)" in caught.value.fix
    assert_unchanged(model, 2)


def test_paths_without_a_file_are_refused(tmp_path):
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(ModelError, match="cannot be read"):
            load_weights(network(2), path)
