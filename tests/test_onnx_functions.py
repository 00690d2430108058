"""The ONNX functions of the similarities, run by onnxruntime, against loops over every single term."""

import itertools
import math

import numpy as np
import onnx
import onnxruntime
import pytest
from mcucompile.similarities.onnx_functions import ONNX_FACES, function_of, node_type, parse_node_type
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def sign(value):
    return (value > 0) - (value < 0)


TERMS = {
    "adder": lambda x, w: -abs(x - w),
    "binary": lambda x, w: (1 if x >= 0 else -1) * (1 if w >= 0 else -1),
    "euclid": lambda x, w: -((x - w) ** 2) / 2,
    "mfo": lambda x, w: sign(x) * sign(w) * (abs(x) + abs(w)),
    "minconv": lambda x, w: sign(x) * sign(w) * min(abs(x), abs(w)),
    "ternary": lambda x, w: x * sign(w),
    "trig": lambda x, w: math.sin(x) * math.sin(w),
}


def model_of(op_type, weights, inputs, output_rank, **attributes):
    """One node on constant weights; the batch is symbolic, the function serves every shape."""
    output = ["N", *(f"y{axis}" for axis in range(1, output_rank))]
    graph = helper.make_graph(
        [helper.make_node(op_type, ["x", "w"], ["y"], domain="mcucompile", **attributes)],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *inputs.shape[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(weights, "w")],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("mcucompile", 1)]
    model = helper.make_model(graph, functions=[function_of(op_type)], opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def run_onnx(model, inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": inputs})[0]


def values(rng, shape):
    """Reals with zeros, ties and opposites between activations and weights."""
    halves = rng.integers(-3, 4, shape) / 2
    return np.where(rng.random(shape) < 0.5, halves, rng.normal(size=shape)).astype(np.float32)


def looped_conv(term, x, w, strides, pads, dilations, group):
    """Add up every term of every output, one at a time, in double precision."""
    rank = len(strides)
    padded = np.pad(x.astype(float), [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    kernel = w.shape[2:]
    out = [
        (size - dilation * (taps - 1) - 1) // stride + 1
        for size, taps, stride, dilation in zip(padded.shape[2:], kernel, strides, dilations, strict=True)
    ]
    y = np.zeros((len(x), len(w), *out))
    for image, o in itertools.product(range(len(x)), range(len(w))):
        first = o // (len(w) // group) * w.shape[1]
        for position in np.ndindex(*out):
            for c, tap in itertools.product(range(w.shape[1]), np.ndindex(*kernel)):
                at = [p * s + t * d for p, s, t, d in zip(position, strides, tap, dilations, strict=True)]
                y[image, o, *position] += term(float(padded[image, first + c, *at]), float(w[o, c, *tap]))
    return y


GEOMETRIES = [  # strides, pads, dilations, kernel
    ([1], [0, 0], [1], [3]),
    ([2], [1, 2], [1], [4]),
    ([3], [0, 3], [2], [2]),
    ([1, 1], [0, 0, 0, 0], [1, 1], [3, 3]),
    ([2, 1], [1, 0, 0, 2], [1, 1], [2, 3]),
    ([1, 3], [2, 1, 1, 0], [1, 2], [3, 2]),
    ([2, 2], [1, 1, 1, 1], [2, 1], [2, 1]),
    ([1, 1], [0, 0, 0, 0], [1, 1], [1, 1]),
]
CHANNELS = [(1, 2, 1), (4, 2, 1), (4, 4, 2), (3, 3, 3), (2, 4, 2)]  # inputs, outputs, groups; the last two depthwise


@pytest.mark.parametrize("similarity", ONNX_FACES)
def test_convolution_equals_loops_over_every_term(similarity):
    rng = np.random.default_rng(17)
    cases = list(itertools.product(GEOMETRIES, CHANNELS))
    assert len(cases) == 40
    for number, ((strides, pads, dilations, kernel), (inputs, outputs, group)) in enumerate(cases):
        x = values(rng, (1 + number % 2, inputs, *[6, 5][: len(strides)]))
        w = values(rng, (outputs, inputs // group, *kernel))
        geometry = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
        y = run_onnx(model_of(node_type(similarity, "Conv"), w, x, x.ndim, **geometry), x)
        expected = looped_conv(TERMS[similarity], x, w, **geometry)
        assert y.shape == expected.shape
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5, err_msg=f"{geometry}")


@pytest.mark.parametrize("similarity", ONNX_FACES)
def test_linear_equals_loops_over_every_term(similarity):
    rng = np.random.default_rng(19)
    cases = list(itertools.product([(1,), (5,), (2, 3), (2, 1, 3)], [1, 4, 9], [1, 6]))
    assert len(cases) == 24
    for leading, inputs, outputs in cases:
        x, w = values(rng, (*leading, inputs)), values(rng, (outputs, inputs))
        y = run_onnx(model_of(node_type(similarity, "Linear"), w, x, x.ndim), x)
        expected = np.zeros((*leading, outputs))
        for place, o, i in itertools.product(np.ndindex(*leading), range(outputs), range(inputs)):
            expected[*place, o] += TERMS[similarity](float(x[*place, i]), float(w[o, i]))
        assert y.shape == expected.shape
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("similarity", ONNX_FACES)
def test_functions_mean_the_same_to_the_onnx_reference(similarity):
    rng = np.random.default_rng(23)
    x, w = values(rng, (2, 4, 6, 5)), values(rng, (6, 2, 3, 2))
    geometry = {"strides": [2, 1], "pads": [1, 0, 0, 2], "dilations": [1, 2], "group": 2}
    convolution = model_of(node_type(similarity, "Conv"), w, x, 4, **geometry)
    rows, matrix = values(rng, (2, 3, 7)), values(rng, (4, 7))
    linear = model_of(node_type(similarity, "Linear"), matrix, rows, 3)
    for model, inputs in ((convolution, x), (linear, rows)):
        expected = ReferenceEvaluator(model).run(None, {"x": inputs})[0]
        np.testing.assert_allclose(run_onnx(model, inputs), expected, rtol=1e-5, atol=1e-5)


def test_two_geometries_share_one_function():
    rng = np.random.default_rng(29)
    x, w = values(rng, (2, 2, 6, 6)), values(rng, (4, 2, 3, 3))
    shared = {"dilations": [1, 1], "group": 1, "domain": "mcucompile"}
    graph = helper.make_graph(
        [
            helper.make_node("AdderConv", ["x", "w"], ["a"], strides=[1, 1], pads=[0, 0, 0, 0], **shared),
            helper.make_node("AdderConv", ["a", "v"], ["y"], strides=[2, 1], pads=[1, 1, 0, 0], **shared),
        ],
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1, 2, 4])],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(w[:1, :1].repeat(4, 1)[:, :, :2, :2].copy(), "v")],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("mcucompile", 1)]
    model = helper.make_model(graph, functions=[function_of("AdderConv")], opset_imports=opsets, ir_version=10)
    first = looped_conv(TERMS["adder"], x, w, [1, 1], [0, 0, 0, 0], [1, 1], 1)
    v = numpy_helper.to_array(model.graph.initializer[1])
    expected = looped_conv(TERMS["adder"], first, v, [2, 1], [1, 1, 0, 0], [1, 1], 1)
    np.testing.assert_allclose(run_onnx(model, x), expected, rtol=1e-5)


def test_names_of_operators():
    pairs = [(similarity, kind) for similarity in ONNX_FACES for kind in ("Conv", "Linear")]
    assert len(pairs) == 14
    assert [parse_node_type(node_type(*pair)) for pair in pairs] == pairs
    assert node_type("minconv", "Conv") == "MinconvConv"
    assert [parse_node_type(name) for name in ("Conv", "DotConv", "adderConv", "FourView", "")] == [None] * 5
    for unknown in ("dot", "synapse", "cosine"):
        with pytest.raises(KeyError, match=unknown):
            node_type(unknown, "Conv")


def test_functions_name_their_domain_opset_and_attributes():
    function = function_of("TrigLinear")
    assert (function.domain, function.opset_import[0].version, list(function.attribute)) == ("mcucompile", 21, [])
    assert list(function_of("TrigConv").attribute) == ["strides", "pads", "dilations", "group"]
    assert function_of("TrigLinear") is function
