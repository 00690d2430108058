"""The torch front-end: modules and saved programs against torch itself and against their ONNX exports."""

import io
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch_modules_elementwise
from mcucompile.frontends.onnx import graph_from_model
from mcucompile.frontends.torch import graph_from_program, load_exported, load_module
from mcucompile.frontends.torch_ops import CONVERTERS
from mcucompile.ir import Format, Graph
from mcucompile.nn.export import to_onnx
from mcucompile.ops import Affine, Dense
from mcucompile.passes import simplify
from torch import Tensor, nn
from torch.export import Dim
from torch_modules import MODULES, Network, built, images, saved_digits
from torch_modules_movement import MOVEMENT_DECOMPOSED
from torch_modules_similarities import SIMILARITY_MODULES
from torch_modules_windows import WINDOW_DECOMPOSED

# What torch's own exporter turns into operators that the ONNX front-end does not read, or does not know itself.
WITHOUT_ONNX = {"negated", "no_operation", "norm_function", "pad_circular", "pixel_unshuffle"}
WITHOUT_ONNX |= torch_modules_elementwise.WITHOUT_ONNX


def samples_like(example: Tensor, count: int = 5) -> Tensor:
    """Return random inputs, (count, *shape of the example)."""
    random = torch.Generator().manual_seed(2)
    return torch.randn((count, *example.shape), generator=random)


def check(graph: Graph, module: nn.Module, samples: Tensor) -> None:
    """Compare a graph's real execution with the module, sample by sample."""
    with torch.no_grad():
        expected = torch.stack([module(sample) for sample in samples]).numpy()
    actual = graph.run(samples.numpy())
    assert graph.result.shape == expected.shape[1:]
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def exported_to_onnx(module: nn.Module, example: Tensor) -> onnx.ModelProto:
    """Return torch's own ONNX export of a module."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (example,), stream, dynamo=False)
    return onnx.load_from_string(stream.getvalue())


def constants(graph: Graph) -> list[np.ndarray]:
    """Return the constants of a graph's layers, in order."""
    found: list[np.ndarray] = []
    for op in graph.layers:
        if isinstance(op, Dense):
            found += [op.weight, op.bias]
        elif isinstance(op, Affine):
            found += [op.scale, op.offset]
    return found


def sizes(graph: Graph) -> list[tuple[int, ...]]:
    """Return the shapes of the layers' outputs without axes of length 1."""
    return [tuple(n for n in graph.tensors[op.output].shape if n != 1) for op in graph.layers]


def assert_same_ir(one: Graph, other: Graph) -> None:
    """Check that two simplified graphs have the same layers, shapes and constants; names may differ."""
    assert [op.kind for op in one.layers] == [op.kind for op in other.layers]
    assert sizes(one) == sizes(other)
    assert one.input.shape == other.input.shape
    assert one.input.format == other.input.format
    assert one.result.shape == other.result.shape
    for mine, theirs in zip(constants(one), constants(other), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", MODULES)
def test_graph_of_a_module_equals_torch(name: str) -> None:
    module, example = built(name)
    graph = load_module(module, (example,), name)
    check(graph, module, samples_like(example))
    check(simplify(graph), module, samples_like(example))


@pytest.mark.parametrize("name", MODULES)
def test_saved_program_equals_torch(name: str, tmp_path: Path) -> None:
    module, example = built(name)
    path = tmp_path / f"{name}.pt2"
    torch.export.save(torch.export.export(module, (example,)), path)
    check(load_exported(path), module, samples_like(example))


@pytest.mark.parametrize("name", [name for name in MODULES if name not in {*WITHOUT_ONNX, *SIMILARITY_MODULES}])
def test_module_and_its_onnx_export_become_the_same_graph(name: str) -> None:
    module, example = built(name)
    mine = simplify(load_module(module, (example,), name))
    assert_same_ir(mine, simplify(graph_from_model(exported_to_onnx(module, example), name)))


DECOMPOSED = (
    "conv2d",
    "conv1d",
    "conv_transpose2d",
    "linear_relu",
    "linear_of_rows",
    "batch_norm",
    "residual",
    "argmax",
    "softmax",
    "matrix",
    "norm_function",
    *WINDOW_DECOMPOSED,
    *torch_modules_elementwise.ELEMENTWISE_DECOMPOSED,
    *MOVEMENT_DECOMPOSED,
)


@pytest.mark.parametrize("name", DECOMPOSED)
def test_decomposed_program_is_the_same_graph(name: str) -> None:
    """torch.export's core ATen form has other operators: addmm and permute instead of linear."""
    module, example = built(name)
    graph = graph_from_program(torch.export.export(module, (example,)).run_decompositions(), name)
    check(graph, module, samples_like(example))
    assert_same_ir(simplify(graph), simplify(load_module(module, (example,), name)))


def test_every_converter_has_a_module() -> None:
    # With tests of their own: bytes, their conversion, statistics that are refused.
    used = {"mcucompile::four_view", "aten::_to_copy", "aten::_native_batch_norm_legit"}
    for name in MODULES:
        module, example = built(name)
        program = torch.export.export(module, (example,))
        forms = [program, program.run_decompositions()] if name in DECOMPOSED else [program]
        for node in (node for form in forms for node in form.graph.nodes):
            used |= {node.target._schema.name} if isinstance(node.target, torch._ops.OpOverload) else set()
    assert set(CONVERTERS) <= used


def test_batch_norm_is_folded_into_the_layer_before_it() -> None:
    module, example = built("batch_norm")
    assert [op.kind for op in simplify(load_module(module, (example,), "net")).layers] == ["dense"]


def test_four_view_of_bytes(tmp_path: Path) -> None:
    module = saved_digits(tmp_path / "digits.pt2")
    example = torch.from_numpy(images(1))
    for graph in (load_module(module, (example,), "digits"), load_exported(tmp_path / "digits.pt2")):
        assert graph.name == "digits"
        assert graph.input.format == Format(8, False)
        assert [op.kind for op in graph.layers][:2] == ["four_view", "dense"]
        check(graph, module, torch.from_numpy(images(8)[:, None]))
        assert_same_ir(simplify(graph), simplify(graph_from_model(to_onnx(module, (14, 14), "digits"))))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.uint8, Format(8, False)),
        (torch.int8, Format(8, True)),
        (torch.float32, None),
        (torch.float64, None),
        (torch.float16, None),
    ],
)
def test_input_format_is_the_type_of_the_example(dtype: torch.dtype, expected: Format | None) -> None:
    module = Network(lambda m, x: m["a"](x.to(torch.float32)), a=nn.Linear(4, 2)).eval()
    example = torch.ones((1, 4), dtype=dtype)
    assert load_module(module, (example,), "net").input.format == expected
    graph = graph_from_program(torch.export.export(module, (example,)).run_decompositions(), "net")
    assert graph.input.format == expected
    check(graph, module, example[None])


def test_layers_keep_their_paths_as_names() -> None:
    block = nn.Sequential()
    block.add_module("fc1", nn.Linear(4, 3))
    block.add_module("act", nn.ReLU())
    graph = load_module(nn.Sequential(block, nn.Linear(3, 2)).eval(), (torch.zeros(1, 4),), "My-Net 2")
    assert graph.name == "my_net_2"
    assert [op.name for op in graph.ops] == ["0.fc1", "0.act", "1"]
    assert str(graph.ops[0].source) == "My-Net 2: node '0.fc1' (aten.linear)"


def test_symbolic_batch_becomes_one(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).eval()
    program = torch.export.export(module, (torch.zeros(2, 3, 4),), dynamic_shapes=({0: Dim("batch")},))
    torch.export.save(program, tmp_path / "net.pt2")
    graph = load_exported(tmp_path / "net.pt2")
    assert graph.input.shape == (1, 3, 4)
    check(graph, module, torch.randn(3, 1, 3, 4))
