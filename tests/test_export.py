"""Export of modules that are more than a line of layers, against torch through onnxruntime."""

import numpy as np
import onnxruntime
import pytest
import torch
from mcucompile.errors import ModelError, UnsupportedError
from mcucompile.nn import Standardize
from mcucompile.nn.export import to_onnx
from torch import nn
from torch.nn import functional
from torch_modules import Network


def drawn(module):
    """Draw the weights and statistics of a module, so that nothing is left at its initial value."""
    generator = torch.Generator().manual_seed(31)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            low, high = (0.5, 1.5) if name.endswith("running_var") else (-0.5, 0.5)
            value.uniform_(low, high, generator=generator)
    return module.eval()


def assert_same(module, input_shape, operators=None):
    """Compare the exported file with the module on bytes; return the file."""
    model = to_onnx(module, input_shape, "network")
    if operators is not None:
        assert [node.op_type for node in model.graph.node] == ["Cast", *operators.split()]
    names = [node.name for node in model.graph.node] + [tensor.name for tensor in model.graph.initializer]
    assert len(names) == len(set(names))
    inputs = np.random.default_rng(37).integers(0, 256, (3, *input_shape), dtype=np.uint8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = module(torch.from_numpy(inputs).float()).numpy()
    (result,) = session.run(["logits"], {"input": inputs})
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    return model


def block(inputs, outputs, stride):
    """Return two convolutions and a shortcut, as ResNet-20 has them; one rectifier is called twice."""

    def forward(self, x):
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        out += self.shortcut(x)
        return self.relu(out)

    return Network(
        forward,
        conv1=nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        norm1=nn.BatchNorm2d(outputs),
        conv2=nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
        norm2=nn.BatchNorm2d(outputs),
        relu=nn.ReLU(inplace=True),
        shortcut=nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride, bias=False),
    )


def residual_network():
    def forward(self, x):
        x = self.blocks(functional.relu(self.first(x)))
        x = functional.adaptive_avg_pool2d(x, 1)
        return self.fc(torch.flatten(x, 1))

    blocks = nn.Sequential(block(4, 4, 1), block(4, 8, 2))
    return drawn(Network(forward, first=nn.Conv2d(3, 4, 3, padding=1), blocks=blocks, fc=nn.Linear(8, 5)))


def test_a_residual_network_keeps_its_shape_and_names():
    block = "Conv BatchNormalization Relu Conv BatchNormalization"
    rest = "GlobalAveragePool Flatten Gemm"
    model = assert_same(residual_network(), (3, 8, 8), f"Conv Relu {block} Add Relu {block} Conv Add Relu {rest}")
    names = {node.name.replace("layers.", "") for node in model.graph.node}
    assert {"first", "blocks.0.conv1", "blocks.0.relu", "blocks.0.relu_1", "blocks.1.shortcut", "add_1", "fc"} <= names


@pytest.mark.parametrize("rectify", [lambda x: functional.relu(x, inplace=True), lambda x: x.relu_()])
def test_a_tensor_changed_in_place_is_read_as_changed(rectify):
    def forward(self, x):
        x = self.fc(x)
        positive = rectify(x)
        x.add_(positive)
        return x + positive

    assert_same(drawn(Network(forward, fc=nn.Linear(6, 6))), (6,), "Gemm Relu Add Add")


def views(_self, x):
    """Flatten in all the ways that people write it, and add in all of them."""
    a = x.view(x.size(0), -1)
    b = x.reshape(-1, 12)
    c = torch.reshape(x, (x.shape[0], 12))
    d = x.flatten(start_dim=1)
    e = torch.flatten(x, 1)
    return (a + b).relu() + torch.add(c, d).add(e)


def pools(self, x):
    x = self.pools(x)
    x = functional.max_pool2d(x, 3, stride=(2, 1), padding=1)
    x = functional.avg_pool2d(x, kernel_size=2, stride=1, padding=(1, 0))
    x = functional.dropout(x, 0.5, self.training)
    return functional.relu(input=x).flatten(1)


def test_functions_and_views_become_the_layers_they_mean():
    assert_same(Network(views).eval(), (3, 4), "Flatten Flatten Flatten Flatten Flatten Add Relu Add Add Add")
    layers = nn.Sequential(nn.MaxPool2d((2, 3), 1), nn.AvgPool2d(2, 1, 1, count_include_pad=False))
    assert_same(Network(pools, pools=layers).eval(), (2, 9, 8), "MaxPool AveragePool MaxPool AveragePool Relu Flatten")


def test_layers_of_one_dimension_compute_what_the_module_computes():
    module = nn.Sequential(
        nn.Conv1d(2, 4, 3, stride=2, padding=1, dilation=2),
        nn.BatchNorm1d(4),
        nn.MaxPool1d(3, 2, padding=1),
        nn.Conv1d(4, 4, 2, groups=4, bias=False),
        nn.AvgPool1d(2, 1, padding=1),
        nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool1d(1)),
        nn.Flatten(),
    )
    assert_same(
        drawn(module),
        (2, 21),
        "Conv BatchNormalization MaxPool Conv AveragePool Relu GlobalAveragePool Flatten",
    )


def test_standardize_that_no_linear_follows_is_a_subtraction_and_a_product():
    module = nn.Sequential(Standardize(torch.tensor(33.0), torch.tensor(78.0)), nn.Conv2d(1, 2, 3), nn.Flatten())
    assert_same(drawn(module), (1, 5, 5), "Sub Mul Conv Flatten")


def test_a_layer_called_twice_has_two_nodes():
    def forward(self, x):
        x = self.scale(x)
        return self.fc(self.fc(x)) + x

    scale = Standardize(torch.tensor(9.0), torch.tensor(80.0))
    assert_same(drawn(Network(forward, scale=scale, fc=nn.Linear(4, 4))), (4,), "Sub Mul Gemm Gemm Add")


def test_the_module_is_not_changed():
    module = residual_network().double()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    to_onnx(module, (3, 8, 8), "network")
    after = module.state_dict()
    assert all(value.dtype == after[name].dtype and torch.equal(value, after[name]) for name, value in before.items())


def test_every_call_without_an_onnx_form_is_listed():
    def forward(self, x):
        x = self.soft(x) + self.soft.view
        x = (x + 1).add(x, alpha=2)
        x = functional.dropout(x, training=True)
        return torch.cat([x, x], 1)

    module = Network(forward, soft=nn.Softplus()).eval()
    module.layers.soft.view = nn.Parameter(torch.zeros(4))
    with pytest.raises(UnsupportedError) as caught:
        to_onnx(module, (4,), "network")
    parts = (
        "'layers.soft' (Softplus: no ONNX form here)",
        "'layers_soft_view' (layers.soft.view: a parameter outside of a layer)",
        "'add_1' (add: only of two activations)",
        "'add_2' (add: only of two activations)",
        "'dropout' (Dropout: it drops although",
        "'cat' (cat: no ONNX form here)",
    )
    assert [part for part in parts if part not in caught.value.problem] == []
    assert caught.value.problem.count("(") == len(parts)


class TwoInputs(nn.Module):
    """Adds its inputs."""

    def forward(self, x, y):
        """Return the sum."""
        return x + y


@pytest.mark.parametrize(
    ("module", "error", "words"),
    [
        (
            Network(lambda _, x: x if x.sum() > 0 else -x),
            UnsupportedError,
            "cannot be traced by torch.fx (TraceError: ",
        ),
        (TwoInputs(), UnsupportedError, "one input and one output"),
        (Network(lambda _, x: (x, x)), UnsupportedError, "one input and one output"),
        (Network(lambda _, x: x.view(-1, 2)), ModelError, "gives (4, 2) for 2 samples"),
        (Network(lambda _, x: x.view(-1, 2).view(-1, 4)), UnsupportedError, "'view' (view: only as (n, -1))"),
        (Network(lambda _, x: x.T.reshape(-1, 4)), UnsupportedError, "'getattr_1' (getattr: no ONNX form here)"),
        (Network(lambda _, x: x.view(-1, 3)), ModelError, "does not take an input of shape (2, 4)"),
        (Network(lambda _, x: x.size(0)), ModelError, "gives () for 2 samples"),
        (nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Linear(4, 2), nn.Flatten()), UnsupportedError, "(Linear: only of"),
    ],
)
def test_refusals_of_traced_modules(module, error, words):
    with pytest.raises(error) as caught:
        to_onnx(module.eval(), (4,), "network")
    assert words in caught.value.problem
