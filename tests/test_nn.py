"""The torch layers and their ONNX form, against loops written for the test and against onnxruntime."""

from collections import OrderedDict

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mcucompile.errors import ModelError, ProjectError, UnsupportedError
from mcucompile.nn import FourView, Standardize, export_onnx, fold_standardize
from mcucompile.nn.export import to_onnx
from mcucompile.ops.four_view_function import four_view_function
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import nn


def looped_features(image, zone_height, zone_width, shift):
    """Walk along every line of every zone, one pixel at a time."""
    height, width = image.shape
    features = []
    for top in range(0, height, zone_height):
        for left in range(0, width, zone_width):
            zone = image[top : top + zone_height, left : left + zone_width].astype(int).tolist()
            lines = [{}, {}, {}, {}]
            for r in range(zone_height):
                for c in range(zone_width):
                    for sums, line in zip(lines, (r, c, r - c, r + c), strict=True):
                        sums[line] = sums.get(line, 0) + zone[r][c]
            features += [max(sums.values()) >> shift for sums in lines]
    return features


@st.composite
def geometries(draw):
    zone_height, zone_width = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    down, across = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    shift, seed = draw(st.integers(0, 6)), draw(st.integers(0, 2**32 - 1))
    images = np.random.default_rng(seed).integers(
        0, 256, (draw(st.integers(1, 3)), zone_height * down, zone_width * across), dtype=np.uint8
    )
    return zone_height, zone_width, shift, images


def four_view_model(zone_height, zone_width, shift, images):
    element = helper.np_dtype_to_tensor_dtype(images.dtype)
    attributes = {"zone_height": zone_height, "zone_width": zone_width, "shift": shift}
    graph = helper.make_graph(
        [helper.make_node("FourView", ["x"], ["y"], domain="mcucompile", **attributes)],
        "features",
        [helper.make_tensor_value_info("x", element, ["N", *images.shape[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "features"])],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("mcucompile", 1)]
    model = helper.make_model(graph, functions=[four_view_function()], opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def run_onnx(model, inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: inputs})[0]


@settings(max_examples=60, deadline=None)
@given(geometries())
def test_four_view_equals_a_walk_along_every_line(case):
    zone_height, zone_width, shift, images = case
    layer = FourView(zone_height, zone_width, shift)
    expected = [looped_features(image, zone_height, zone_width, shift) for image in images]
    assert layer(torch.from_numpy(images)).tolist() == expected
    assert layer(torch.from_numpy(images).float()).tolist() == expected


@settings(max_examples=25, deadline=None)
@given(geometries(), st.sampled_from([np.uint8, np.float32]))
def test_onnx_function_equals_the_torch_layer(case, dtype):
    zone_height, zone_width, shift, images = case
    inputs = images.astype(dtype)
    model = four_view_model(zone_height, zone_width, shift, inputs)
    expected = FourView(zone_height, zone_width, shift)(torch.from_numpy(images)).numpy()
    np.testing.assert_array_equal(run_onnx(model, inputs), expected, strict=True)


def test_onnx_function_means_the_same_to_the_onnx_reference():
    images = np.random.default_rng(3).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    outputs = ReferenceEvaluator(four_view_model(7, 7, 3, images)).run(None, {"x": images})
    np.testing.assert_array_equal(outputs[0], FourView()(torch.from_numpy(images)).numpy(), strict=True)


def test_default_features_of_a_28_by_28_image_fit_a_byte():
    features = FourView()(torch.full((2, 28, 28), 255, dtype=torch.uint8))
    assert features.shape == (2, 64)
    assert features.unique().tolist() == [7 * 255 // 8]


def test_two_geometries_share_one_function():
    graph = helper.make_graph(
        [
            helper.make_node("FourView", ["x"], ["a"], domain="mcucompile", zone_height=2, zone_width=4, shift=0),
            helper.make_node("FourView", ["x"], ["b"], domain="mcucompile", zone_height=4, zone_width=2, shift=1),
            helper.make_node("Concat", ["a", "b"], ["y"], axis=1),
        ],
        "features",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 64])],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("mcucompile", 1)]
    model = helper.make_model(graph, functions=[four_view_function()], opset_imports=opsets, ir_version=10)
    images = np.random.default_rng(5).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    both = [FourView(*geometry)(torch.from_numpy(images)) for geometry in ((2, 4, 0), (4, 2, 1))]
    np.testing.assert_array_equal(run_onnx(model, images), torch.cat(both, 1).numpy(), strict=True)


@pytest.mark.parametrize("shape", [(28, 28), (2, 1, 28, 28), (2, 28, 27), (2, 6, 28), (2, 0, 28)])
def test_four_view_refuses_images_that_do_not_divide(shape):
    with pytest.raises(ValueError, match=r"shape \(n, h, w\)|do not divide into zones of 7 x 7"):
        FourView()(torch.zeros(shape))


@pytest.mark.parametrize("arguments", [(0, 7, 3), (7, 0, 3), (7, 7, -1)])
def test_four_view_refuses_impossible_attributes(arguments):
    with pytest.raises(ValueError, match="at least"):
        FourView(*arguments)


def test_torch_export_keeps_four_view_as_one_node():
    images = torch.randint(0, 256, (3, 28, 28), dtype=torch.uint8)
    program = torch.export.export(
        nn.Sequential(FourView(), nn.Linear(64, 10)).eval(), (images,), dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert targets == ["mcucompile.four_view.default", "aten.linear.default"]
    torch.library.opcheck(torch.ops.mcucompile.four_view.default, (images, 7, 7, 3))


@pytest.mark.parametrize("per_feature", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_folded_layer_computes_on_raw_inputs_what_was_trained(per_feature, bias):
    torch.manual_seed(7)
    inputs = torch.randint(0, 224, (200, 64)).float()
    inputs[:, 5] = 9  # a feature that never varies must not divide by zero
    standardize = Standardize.fitted(inputs, per_feature=per_feature)
    standardized = standardize(inputs)
    if per_feature:
        assert standardized[:, 5].abs().max() == 0
    assert abs(float(standardized.mean())) < 1e-5
    linear = nn.Linear(64, 16, bias=bias)
    folded = fold_standardize(standardize, linear)
    torch.testing.assert_close(folded(inputs), linear(standardized), rtol=0, atol=1e-4)


def trained_like(*, four_view: bool) -> nn.Sequential:
    """A module with every layer that can be exported and no statistic left at its initial value."""
    torch.manual_seed(11)
    features = 64 if four_view else 784
    first = ("view", FourView()) if four_view else ("flatten", nn.Flatten())
    norm = nn.BatchNorm1d(12)
    bare_norm = nn.BatchNorm1d(8, affine=False, eps=1e-3)
    for layer in (norm, bare_norm):
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    block = nn.Sequential(OrderedDict(norm=norm, relu=nn.ReLU(), drop=nn.Dropout(), fc=nn.Linear(12, 8, bias=False)))
    scale = Standardize(torch.tensor(40.0), torch.tensor(60.0))
    layers = [first, ("scale", scale), ("fc", nn.Linear(features, 12)), ("block", block), ("last", bare_norm)]
    return nn.Sequential(OrderedDict([*layers, ("end", nn.Identity())])).eval()


@pytest.mark.parametrize("four_view", [True, False])
@pytest.mark.parametrize("batch", [1, 5])
def test_exported_file_computes_what_the_module_computes(tmp_path, four_view, batch):
    module = trained_like(four_view=four_view)
    path = tmp_path / "network.onnx"
    export_onnx(module, path, (28, 28), "network")
    model = onnx.load(path)
    assert (model.ir_version, model.opset_import[0].version) == (10, 21)
    images = np.random.default_rng(13).integers(0, 256, (batch, 28, 28), dtype=np.uint8)
    with torch.no_grad():
        expected = module(torch.from_numpy(images).float()).numpy()
    np.testing.assert_allclose(run_onnx(model, images), expected, rtol=0, atol=1e-4)


def test_exported_nodes_keep_the_names_of_the_layers():
    model = to_onnx(trained_like(four_view=True), (28, 28), "network")
    nodes = [(node.op_type, node.name) for node in model.graph.node]
    assert nodes == [
        ("Cast", "to_float"),
        ("FourView", "view"),
        ("Gemm", "fc"),
        ("BatchNormalization", "block.norm"),
        ("Relu", "block.relu"),
        ("Gemm", "block.fc"),
        ("BatchNormalization", "last"),
    ]


def test_export_lists_every_layer_it_does_not_know():
    module = nn.Sequential(
        OrderedDict(
            image=nn.Unflatten(2, (1, 28)),
            conv=nn.Conv2d(1, 2, 3, padding="same"),
            reflected=nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"),
            pool=nn.MaxPool2d(2, ceil_mode=True),
            shrunk=nn.AdaptiveAvgPool2d(2),
            mean=nn.AvgPool2d(2, divisor_override=3),
            flat=nn.Flatten(2),
            norm=nn.BatchNorm1d(4, track_running_stats=False),
            soft=nn.Softplus(),
            act=nn.ReLU(),
        )
    )
    with pytest.raises(UnsupportedError) as caught:
        to_onnx(module.eval(), (28, 28), "network")
    layers = (
        "image' (Unflatten",
        "conv' (Conv2d",
        "reflected' (Conv2d",
        "pool' (MaxPool2d",
        "shrunk' (AdaptiveAvgPool2d",
        "mean' (AvgPool2d",
    )
    for part in (*layers, "'flat' (Flatten", "'norm' (BatchNorm1d", "'soft' (Softplus"):
        assert part in caught.value.problem
    assert "'act'" not in caught.value.problem
    assert "FourView" in caught.value.fix


def test_exported_convolutions_compute_what_the_module_computes(tmp_path):
    torch.manual_seed(3)
    module = nn.Sequential(
        OrderedDict(
            image=nn.Unflatten(1, (1, 8)),
            conv=nn.Conv2d(1, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
            norm=nn.BatchNorm2d(4),
            act=nn.ReLU(),
            pool=nn.MaxPool2d(2, stride=1, padding=1),
            deep=nn.Conv2d(4, 8, 3, groups=4, bias=False),
            flat=nn.Flatten(),
            fc=nn.Linear(144, 3),
        )
    )
    module(torch.rand(64, 8, 9))
    path = tmp_path / "network.onnx"
    export_onnx(module.eval(), path, (8, 9), "network")
    images = np.random.default_rng(5).integers(0, 256, (7, 8, 9), dtype=np.uint8)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = module(torch.from_numpy(images).float()).numpy()
    np.testing.assert_allclose(session.run(None, {"input": images})[0], expected, rtol=1e-4, atol=1e-3)


def test_export_refuses_a_module_that_is_not_sequential():
    with pytest.raises(UnsupportedError, match="LSTM"):
        to_onnx(nn.LSTM(4, 4).eval(), (4,), "network")


def test_export_refuses_training_mode():
    module = trained_like(four_view=False)
    module.block.drop.train()
    with pytest.raises(UnsupportedError, match="training mode"):
        to_onnx(module, (28, 28), "network")


@pytest.mark.parametrize(
    ("layers", "shape", "where"),
    [
        ([nn.Flatten(), nn.Linear(783, 10)], (28, 28), "layer '1' (Linear)"),
        ([FourView(), nn.Linear(64, 10)], (28, 27), "layer '0' (FourView)"),
        ([nn.Linear(28, 10)], (28, 28), "network"),
    ],
)
def test_export_names_the_layer_whose_shapes_do_not_fit(layers, shape, where):
    with pytest.raises(ModelError) as caught:
        to_onnx(nn.Sequential(*layers).eval(), shape, "network")
    assert where in caught.value.where


def test_export_says_when_it_cannot_write(tmp_path):
    with pytest.raises(ProjectError, match="cannot be written"):
        export_onnx(trained_like(four_view=True), tmp_path / "none" / "network.onnx", (28, 28), "network")
