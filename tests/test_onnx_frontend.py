"""The ONNX front-end against onnxruntime and the ONNX project's own node tests."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcucompile.errors import UnsupportedError, UserError
from mcucompile.frontends.names import c_name
from mcucompile.frontends.onnx import graph_from_model, load_onnx
from mcucompile.frontends.onnx_ops import CONVERTERS
from mcucompile.frontends.onnx_quantized import CONVERTERS as QUANTIZED
from mcucompile.ir import Format
from mcucompile.ops import Dense
from models_factory import Array, make_model, newest_opset, node, run_onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx_cases import CASES

OPSETS = (7, 9, 11, 13, 17, 21, newest_opset())


def _check(model: onnx.ModelProto, samples: Array, tolerance: float = 2e-6) -> None:
    graph = graph_from_model(model)
    expected = run_onnxruntime(model, samples)
    actual = graph.run(samples)
    assert graph.input.shape == samples.shape[1:]
    assert (1, *actual.shape[1:]) == (1, *expected.shape[1:])
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "opset"),
    [(name, opset) for name, case in CASES.items() for opset in OPSETS if case.oldest <= opset <= case.newest],
)
def test_graph_equals_onnxruntime(name: str, opset: int) -> None:
    random = np.random.default_rng(opset)
    case = CASES[name]
    _check(case.model(opset, random), case.samples(random), case.tolerance)


def test_every_converter_has_a_case() -> None:
    random = np.random.default_rng(0)
    models = [case.model(min(max(case.oldest, 17), case.newest), random) for case in CASES.values()]
    used = {(n.domain, n.op_type) for model in models for n in model.graph.node}
    # Younger than onnxruntime; ONNX's own tests have them.
    others = set(CONVERTERS) - set(QUANTIZED)  # tests/test_quantized_models.py has those
    assert others - used == {("", name) for name in ("Size", "Swish", "RMSNormalization", "TensorScatter")}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_onnx_node_tests() -> None:
    """Every node test of the ONNX project is refused clearly or gives the expected output.

    Each of a test's inputs in turn becomes the graph's input, the others become constants.
    """
    operators = {op_type for domain, op_type in CONVERTERS if not domain}
    converted = 0
    covered: set[str] = set()
    for case in load_model_tests(kind="node"):
        model = case.model
        used = set() if model is None else {n.op_type for n in model.graph.node}
        if not used & operators or len(model.graph.output) != 1 or not case.data_sets:
            continue
        inputs, (expected, *_) = case.data_sets[0]
        inputs = [np.asarray(values) if isinstance(values, np.generic) else values for values in inputs]
        # What the tests compute with 8 bits of mantissa differs by more than the last one.
        if not all(isinstance(x, np.ndarray) and x.dtype.name != "bfloat16" for x in (*inputs, expected)):
            continue
        for index, values in enumerate(inputs):
            variant = onnx.ModelProto()
            variant.CopyFrom(model)
            others = [(v.name, x) for i, (v, x) in enumerate(zip(model.graph.input, inputs, strict=True)) if i != index]
            variant.graph.initializer.extend(numpy_helper.from_array(x, name) for name, x in others)
            try:
                graph = graph_from_model(variant)
            except UserError:
                continue
            source, result = graph.input.format, graph.result.format
            (actual,) = graph.run(values[None] if source is None else source.dequantize(values[None]))
            actual = actual if result is None or expected.dtype.kind == "f" else result.quantize(actual)
            rtol = max(case.rtol, 2.0**-7) if expected.dtype.itemsize == 2 else case.rtol
            np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-6, err_msg=case.name, strict=False)
            assert actual.shape == expected.shape, case.name
            converted += 1
            covered |= used
    assert converted >= 1000
    assert covered >= operators - {
        "Cast",
        "DynamicQuantizeLinear",
        "GlobalLpPool",
        "LayerNormalization",
        "Shape",
        "Size",
        "Xor",
    }


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=5),
    layers=st.lists(st.sampled_from(["gemm", "matmul", "norm", "relu", "view", "skip"]), min_size=1, max_size=8),
    seed=st.integers(0, 2**31),
)
def test_random_networks_equal_onnxruntime(sizes: list[int], layers: list[str], seed: int) -> None:
    random = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Array] = {}
    last, width, widths = "x", sizes[0], iter([*sizes[1:], *[5] * 8])
    for i, layer in enumerate(layers):
        out = f"t{i}"
        if layer in ("gemm", "matmul"):
            n = next(widths)
            constants |= {f"w{i}": random.normal(size=(width, n)).astype(np.float32) / np.float32(np.sqrt(width))}
            constants |= {f"b{i}": random.normal(size=n).astype(np.float32)} if layer == "gemm" else {}
            is_gemm = layer == "gemm"
            nodes.append(node("Gemm" if is_gemm else "MatMul", f"{last} w{i}{f' b{i}' * is_gemm}", out))
            width = n
        elif layer == "norm":
            constants |= {f"{p}{i}": random.uniform(0.5, 2, width).astype(np.float32) for p in "somv"}
            nodes.append(node("BatchNormalization", f"{last} s{i} o{i} m{i} v{i}", out))
        elif layer == "relu":
            nodes.append(node("Relu", last, out))
        elif layer == "view":
            constants |= {f"r{i}": np.array([1, 1, width]), f"q{i}": np.array([0, -1])}
            nodes += [node("Reshape", f"{last} r{i}", f"v{i}"), node("Reshape", f"v{i} q{i}", out)]
        else:
            nodes += [node("Relu", last, f"h{i}"), node("Add", f"{last} h{i}", out)]
        last = out
    _check(make_model(nodes, ("N", sizes[0]), constants), random.normal(size=(4, 1, sizes[0])).astype(np.float32))


def test_all_refused_nodes_are_listed_at_once() -> None:
    nodes = [
        node("NonZero", "x", "z"),
        node("Flatten", "z", "f"),
        node("Nonsense", "f", "n"),
        node("ArgMax", "n", "i", axis=9),
        node("Other", "n", "o", domain="com.example"),
        node("Relu", "o", "y"),
    ]
    with pytest.raises(UnsupportedError) as caught:
        graph_from_model(make_model(nodes, ("N", 1, 5, 5), {}), "net.onnx")
    error = caught.value
    assert error.where == "net.onnx"
    assert error.problem.startswith("3 nodes cannot be compiled: 'z_node' (NonZero): is not supported; ")
    for part in (
        "'n_node' (Nonsense): is not supported",
        "'o_node' (Other): of domain 'com.example' is not supported",
    ):
        assert part in error.problem
    assert error.fix.startswith("replace it by ")


def test_softmax_mask_output_and_older_batch_norm_are_refused() -> None:
    dropout = helper.make_node("Dropout", ["x"], ["d", "mask"])
    model = make_model([dropout, node("Cast", "mask", "m", to=1), node("Mul", "d m")], (1, 4))
    with pytest.raises(UnsupportedError, match="further output 'mask'"):
        graph_from_model(model)
    norm = [node("BatchNormalization", "x s s s s", spatial=0)]
    with pytest.raises(UnsupportedError, match="spatial=0"):
        graph_from_model(make_model(norm, (1, 4), {"s": np.ones(4, np.float32)}, opset=7))


def test_raw_integers_are_refused_where_reals_are_meant() -> None:
    model = make_model([node("Relu", "x")], (1, 4), element_type=TensorProto.INT8, output_type=TensorProto.INT8)
    with pytest.raises(UnsupportedError, match="computes with integers; cast the input to float"):
        graph_from_model(model)


def test_input_format_is_the_element_type() -> None:
    weights = {"w": np.eye(4, dtype=np.float32)}
    for element_type, expected in (
        (TensorProto.UINT8, Format(8, False)),
        (TensorProto.INT8, Format(8, True)),
        (TensorProto.FLOAT, None),
        (TensorProto.DOUBLE, None),
    ):
        nodes = [node("Cast", "x", "f", to=1), node("MatMul", "f w")]
        graph = graph_from_model(make_model(nodes, ("N", 4), weights, element_type=element_type))
        assert graph.input.format == expected
        assert graph.result.format is None
        assert graph.input.shape == (1, 4)


def test_dead_nodes_are_dropped_and_names_kept() -> None:
    dead = node("Nonsense", "x", "unused")
    unnamed = helper.make_node("MatMul", ["x", "w"], ["h"])
    twins = [helper.make_node("Relu", [a], [b], name="twin") for a, b in (("h", "i"), ("i", "y"))]
    model = make_model([dead, unnamed, *twins], ("N", 4), {"w": np.eye(4, dtype=np.float32)})
    graph = graph_from_model(model, "My-Net 2.onnx")
    assert graph.name == "my_net_2"
    assert [(op.name, op.output) for op in graph.ops] == [("matmul_1", "h"), ("twin", "i"), ("twin_2", "y")]
    assert str(graph.ops[0].source) == "My-Net 2.onnx: node 'matmul_1' (MatMul)"


def test_aliases_keep_their_tensors() -> None:
    nodes = [node("Relu", "x", "a"), node("Identity", "a", "b"), node("Add", "a b", "c"), node("Dropout", "c", "y")]
    graph = graph_from_model(make_model(nodes, (1, 4)))
    assert [(op.inputs, op.output) for op in graph.ops] == [(("x",), "a"), (("a", "a"), "c")]
    assert graph.result.name == "c"


def test_nodes_in_any_order() -> None:
    model = make_model([node("Relu", "x", "a"), node("Flatten", "a", "y")], (1, 4))
    model.graph.node.reverse()
    assert [op.kind for op in graph_from_model(model).ops] == ["relu"]


def test_real_types_become_float32() -> None:
    weight = np.array([[0.5, -1.25], [2.0, 4.0]])
    bfloat16 = helper.make_tensor("w", TensorProto.BFLOAT16, (2, 2), weight.reshape(-1))
    for tensor in (
        bfloat16,
        *(numpy_helper.from_array(weight.astype(dtype), "w") for dtype in ("float16", "float32", "float64")),
    ):
        model = make_model([node("MatMul", "x w")], (1, 2))
        model.graph.initializer.append(tensor)
        (dense,) = graph_from_model(model).ops
        assert isinstance(dense, Dense)
        assert dense.weight.dtype == np.float32
        assert dense.weight.tolist() == weight.T.tolist()


def test_graph_names_are_c_identifiers() -> None:
    names = {"784-16-10": "model_784_16_10", "int": "model_int", "": "model", "ä": "model", "A b.c": "a_b_c"}
    assert {stem: c_name(stem) for stem in names} == names


def test_committed_examples_equal_onnxruntime() -> None:
    folder = Path(__file__).parents[1] / "examples" / "digits"
    images = np.load(folder / "test_images.npy")[:50]
    paths = sorted((folder / "models").glob("*.onnx"))
    assert paths
    for path in paths:
        graph = load_onnx(path)
        samples = images.reshape(len(images), *graph.input.shape)
        expected = run_onnxruntime(onnx.load(path), samples)
        np.testing.assert_allclose(graph.run(samples), expected, rtol=1e-5, atol=2e-5)


def test_compiling_onnx_never_imports_torch() -> None:
    path = Path(__file__).parents[1] / "examples" / "digits" / "models" / "four_view_64_16_10.onnx"
    code = f"""
import sys
from pathlib import Path
import mcucompile.driver
from mcucompile.frontends.onnx import load_onnx
load_onnx(Path({str(path)!r}))
print(sorted(name for name in sys.modules if name.split(".")[0] == "torch"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
