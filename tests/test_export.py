"""Export of modules that are more than a line of layers, against torch through onnxruntime."""

import math

import numpy as np
import onnxruntime
import pytest
import torch
from mcucompile.errors import ModelError, UnsupportedError
from mcucompile.nn import (
    TORCH_SIMILARITIES,
    Conv1d,
    Conv2d,
    Linear,
    RectifiedAngle,
    Scale,
    Standardize,
    convert,
    export_onnx,
    load_weights,
    set_homotopy,
)
from mcucompile.nn.export import to_onnx
from mcucompile.similarities.onnx_functions import ONNX_FACES, node_type, parse_node_type
from onnx import numpy_helper
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


def layers_of(similarity):
    """Return every kind of layer and geometry, with the shape of its input."""
    choice = {"similarity": similarity}
    return [
        (Linear(6, 4, **choice), (6,)),
        (nn.Sequential(Linear(5, 2, bias=False, **choice), nn.Flatten()), (3, 5)),
        (Conv1d(2, 3, 3, stride=2, padding=1, **choice), (2, 9)),
        (Conv1d(4, 4, 2, dilation=3, groups=4, bias=False, **choice), (4, 8)),
        (Conv2d(3, 4, 3, **choice), (3, 6, 5)),
        (Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), **choice), (2, 7, 6)),
        (Conv2d(4, 6, 3, padding=1, groups=2, bias=False, **choice), (4, 4, 4)),
        (Conv2d(3, 3, 3, padding=1, groups=3, **choice), (3, 5, 5)),
    ]


def bytes_scaled(*layers):
    """Return a module that takes bytes to multiples of 1/64 around 0, exactly, and flattens its result."""
    return drawn(nn.Sequential(Scale(1 / 64, -2.0), *layers, nn.Flatten()))


@pytest.mark.parametrize("similarity", ONNX_FACES)
def test_similarity_layers_compute_what_torch_computes(similarity):
    cases = layers_of(similarity)
    assert len(cases) == 8
    for layer, shape in cases:
        module = bytes_scaled(layer)
        model = assert_same(module, shape)
        own = [node for node in model.graph.node if node.domain == "mcucompile"]
        assert [parse_node_type(node.op_type) for node in own] == [
            (similarity, "Linear" if len(shape) < 2 or shape == (3, 5) else "Conv")
        ]
        assert [function.name for function in model.functions] == [own[0].op_type]


def lenet(similarity, **options):
    """Return a small LeNet-5 with batch normalisation, all layers of one similarity, for bytes (1, 14, 14)."""
    kinds = {"similarity": similarity, **options}
    act = RectifiedAngle if similarity == "trig" else nn.ReLU
    first = nn.Sequential(Conv2d(1, 3, 5, padding=2, **kinds), nn.BatchNorm2d(3), act(), nn.MaxPool2d(2))
    second = nn.Sequential(Conv2d(3, 8, 5, bias=False, **kinds), nn.BatchNorm2d(8), act(), nn.Flatten())
    return nn.Sequential(
        Scale(1 / 64, -2.0), first, second, Linear(72, 10, **kinds), nn.BatchNorm1d(10), act(), Linear(10, 5, **kinds)
    )


def normalised(module, shape):
    """Draw a module's weights and give its batch normalisations the statistics of random bytes."""
    drawn(module).train()
    inputs = torch.from_numpy(np.random.default_rng(41).integers(0, 256, (64, *shape), dtype=np.uint8)).float()
    for norm in (layer for layer in module.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)):
        norm.momentum = None
        norm.reset_running_stats()
    with torch.no_grad():
        module(inputs)
    return module.eval()


@pytest.mark.parametrize("similarity", ["dot", *ONNX_FACES])
def test_networks_of_one_similarity_compute_what_torch_computes(similarity):
    model = assert_same(normalised(lenet(similarity), (1, 14, 14)), (1, 14, 14))
    operators = [node.op_type for node in model.graph.node]
    if similarity == "dot":
        assert operators.count("Conv") == operators.count("Gemm") == 2
        assert not model.functions
    else:
        assert sum(operators.count(node_type(similarity, kind)) for kind in ("Conv", "Linear")) == 4
        assert len(model.functions) == 2


@pytest.mark.parametrize("similarity", ["adder", "euclid", "minconv"])
def test_converted_residual_networks_compute_what_torch_computes(similarity):
    module = convert(residual_network(), similarity, keep=["layers.fc"])
    model = assert_same(normalised(module, (3, 8, 8)), (3, 8, 8))
    operators = [node.op_type for node in model.graph.node]
    assert operators.count(node_type(similarity, "Conv")) == 6
    assert (operators.count("Add"), operators.count("Gemm")) == (3, 1)  # one Add is the bias of the first layer


def test_scaled_minconv_is_its_node_a_product_and_a_sum():
    layer = Conv2d(2, 3, 3, similarity="minconv", gradient="algorithm1")
    module = bytes_scaled(layer)
    layer.similarity.mean_abs_input.fill_(0.75)
    assert_same(module, (2, 5, 5), "Mul Add MinconvConv Mul Add Flatten")


def weights_in_file(similarity, weights):
    layer = Linear(weights.shape[1], len(weights), bias=False, similarity=similarity)
    layer.weight.data = torch.from_numpy(weights)
    model = to_onnx(layer.eval(), (weights.shape[1],), "layer")
    (tensor,) = model.graph.initializer
    return numpy_helper.to_array(tensor)


def test_files_hold_the_weights_of_inference():
    weights = np.random.default_rng(43).normal(size=(5, 40)).astype(np.float32) * 2
    weights[:, 7] = 0
    limits = 0.7 * np.abs(weights).mean(1, keepdims=True)
    expected = {
        "binary": np.where(weights >= 0, 1, -1),
        "ternary": np.sign(weights) * (np.abs(weights) > limits),
        "trig": np.clip(weights, -math.pi / 2, math.pi / 2),
        "adder": weights,
    }
    for similarity, values in expected.items():
        np.testing.assert_allclose(weights_in_file(similarity, weights), values, rtol=1e-7, err_msg=similarity)
    assert np.abs(weights).max() > math.pi / 2


def test_a_network_halfway_to_euclid_is_refused():
    module = lenet("euclid").eval()
    set_homotopy(module, 0.25)
    with pytest.raises(UnsupportedError, match=r"'1.0' \(Conv2d: its homotopy is 0.25.*'6' \(Linear") as caught:
        to_onnx(module, (1, 14, 14), "network")
    assert caught.value.problem.count("homotopy") == 4


def test_a_similarity_layer_in_training_mode_is_refused():
    with pytest.raises(UnsupportedError, match="training mode"):
        to_onnx(lenet("adder"), (1, 14, 14), "network")


def test_loaded_weights_are_exported(tmp_path):
    trained = normalised(lenet("adder"), (1, 14, 14))
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    model = lenet("adder").eval()
    load_weights(model, tmp_path / "weights.pt")
    for name, module in {"trained": trained, "loaded": model}.items():
        export_onnx(module, tmp_path / f"{name}.onnx", (1, 14, 14), "network")
    assert (tmp_path / "trained.onnx").read_bytes() == (tmp_path / "loaded.onnx").read_bytes()


def test_every_similarity_to_train_with_can_be_exported():
    assert {*ONNX_FACES, "dot", "synapse"} == {*TORCH_SIMILARITIES}
    module = bytes_scaled(Conv2d(2, 3, 3, similarity="synapse"))
    assert_same(module, (2, 5, 5), "Mul Add MinconvConv Add Flatten")
