"""Small ONNX models for tests, and their outputs in onnxruntime."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
Shape = tuple[int | str | None, ...]


def make_model(
    nodes: Sequence[onnx.NodeProto],
    shape: Shape,
    constants: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
    element_type: int = TensorProto.FLOAT,
    output_type: int = TensorProto.FLOAT,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """Return a model from input `x` to the last node's first output."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", element_type, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], output_type, None)],
        [numpy_helper.from_array(np.array(array, order="C"), name) for name, array in (constants or {}).items()],
    )
    domains = {"", *(node.domain for node in nodes), *(node.domain for f in functions for node in f.node)}
    opsets = [helper.make_opsetid(domain, 1 if domain else opset) for domain in sorted(domains)]
    # IR 10 is read by every onnxruntime the tests allow.
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=10)


def node(op_type: str, inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    """Return a node named after its output; inputs are separated by spaces, "-" is an absent one."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op_type, names, [output], name=f"{output}_node", **attributes)


def run_onnxruntime(model: onnx.ModelProto, samples: Array) -> Array:
    """Return the outputs of onnxruntime for samples (n, *input shape), computed one by one."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Fused kernels may reorder sums: the tests compare with the plain ones.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    name = session.get_inputs()[0].name
    return np.stack([session.run(None, {name: sample})[0] for sample in samples])


def newest_opset() -> int:
    """Return the newest opset that both onnx and onnxruntime read."""
    for opset in range(onnx.defs.onnx_opset_version(), 0, -1):
        try:
            run_onnxruntime(make_model([node("Relu", "x")], (1,), opset=opset), np.zeros((1, 1), np.float32))
        except Exception:
            # onnxruntime's own exception types are private.
            continue
        return opset
    raise AssertionError("onnxruntime runs no model at all")


@dataclass(frozen=True, slots=True)
class Case:
    """One use of an operator.

    Attributes:
        model: returns the model for an opset and a random generator.
        shape: of one sample, as the IR has it.
        oldest, newest: opsets it exists in.
        dtype: of the samples.
        tolerance: of values around 1.
    """

    model: Callable[[int, np.random.Generator], onnx.ModelProto]
    shape: tuple[int, ...]
    oldest: int = 7
    newest: int = 1000
    dtype: type = np.float32
    tolerance: float = 2e-6

    def samples(self, random: np.random.Generator, count: int = 3) -> Array:
        """Return random samples, (count, *shape)."""
        if self.dtype is np.float32:
            return random.normal(size=(count, *self.shape)).astype(np.float32)
        limits = np.iinfo(self.dtype)
        return random.integers(limits.min, limits.max + 1, (count, *self.shape)).astype(self.dtype)
