"""A network with QONNX's Quant nodes of 2 to 8 bits, and the same one in operators that onnxruntime knows."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from models_factory import Array, make_model, node
from onnxruntime_models import computed

SHAPE = (3, 8, 8)
_CODES = "_codes"
_ROUNDING = {"ROUND": "Round", "FLOOR": "Floor", "CEIL": "Ceil"}


class _Network:
    """Nodes and constants of a model; Quant nodes are expanded or not."""

    def __init__(self, *, expanded: bool) -> None:
        self.expanded = expanded
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}

    def add(self, op_type: str, inputs: str, output: str, **attributes: Any) -> None:
        self.nodes.append(node(op_type, inputs, output, **attributes))

    def quant(
        self,
        source: str,
        y: str,
        bits: int,
        scale: float | Array,
        *,
        zero_point: int = 0,
        signed: int = 1,
        narrow: int = 0,
        mode: str = "ROUND",
    ) -> None:
        """Add y = (round(clamp(x / scale + zero_point)) - zero_point) * scale.

        Source: qonnx, docs/qonnx-custom-ops/quant_op.md.
        """
        self.constants[f"{y}_scale"] = np.float32(scale)
        self.constants[f"{y}_zero"] = np.float32(zero_point)
        if not self.expanded:
            self.constants[f"{y}_bits"] = np.float32(bits)
            attributes = {"signed": signed, "narrow": narrow, "rounding_mode": mode}
            inputs = f"{source} {y}_scale {y}_zero {y}_bits"
            self.add("Quant", inputs, y, domain="qonnx.custom_op.general", **attributes)
            return
        self.constants[f"{y}_low"] = np.float32(-(2 ** (bits - 1)) + narrow if signed else 0)
        self.constants[f"{y}_high"] = np.float32(2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow)
        self.add("Div", f"{source} {y}_scale", f"{y}_steps")
        self.add("Add", f"{y}_steps {y}_zero", f"{y}_shifted")
        self.add("Clip", f"{y}_shifted {y}_low {y}_high", f"{y}_clamped")
        self.add(_ROUNDING[mode], f"{y}_clamped", f"{y}_rounded")
        self.add("Cast", f"{y}_rounded", f"{y}{_CODES}", to=onnx.TensorProto.INT32)
        self.add("Sub", f"{y}_rounded {y}_zero", f"{y}_whole")
        self.add("Mul", f"{y}_whole {y}_scale", y)


def qonnx_model(rounding_mode: str, *, expanded: bool) -> onnx.ModelProto:
    """Return a model (1, 3, 8, 8) -> (1, 5); all scales are powers of two, so that float32 is exact."""
    random = np.random.default_rng(3)
    network = _Network(expanded=expanded)
    network.constants |= {
        "first_real": random.normal(0, 0.3, (6, 3, 3, 3)).astype(np.float32),
        "second_real": random.normal(0, 0.3, (6, 1, 3, 3)).astype(np.float32),
        "classes_real": random.normal(0, 0.3, (6 * 4 * 4, 5)).astype(np.float32),
    }
    network.quant("x", "input_codes", 8, 2.0**-5, zero_point=3)
    network.quant("first_real", "first", 3, 2.0 ** random.integers(-4, -1, (6, 1, 1, 1)), narrow=1)
    network.add("Conv", "input_codes first", "sums", pads=[1, 1, 1, 1])
    network.add("Relu", "sums", "positive")
    network.quant("positive", "four_bits", 4, 2.0**-2, signed=0, mode=rounding_mode)
    network.quant("second_real", "second", 4, 2.0**-4)
    network.add("Conv", "four_bits second", "other_sums", pads=[1, 1, 1, 1], group=6)
    network.quant("other_sums", "five_bits", 5, 2.0**-3, narrow=1, mode=rounding_mode)
    network.add("MaxPool", "five_bits", "largest", kernel_shape=[2, 2], strides=[2, 2])
    network.add("Flatten", "largest", "flat")
    network.quant("classes_real", "classes", 2, 2.0**-2)
    network.add("MatMul", "flat classes", "products")
    network.quant("products", "y", 8, 2.0**-4, mode=rounding_mode)
    return make_model(network.nodes, (1, *SHAPE), network.constants)


def qonnx_codes(rounding_mode: str, samples: Array, folder: Path) -> dict[str, Array]:
    """Return the codes that onnxruntime computes for the tensors that the Quant nodes make, step by step."""
    path = folder / "expanded.onnx"
    onnx.save(qonnx_model(rounding_mode, expanded=True), path)
    tensors = computed(path, samples, optimized=False)
    return {name.removesuffix(_CODES): values for name, values in tensors.items() if name.endswith(_CODES)}
