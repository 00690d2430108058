"""Models that onnxruntime's tools quantize, and what onnxruntime computes in every one of their tensors."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from mcucompile.calibrate import Calibration, as_codes, calibrate
from mcucompile.frontends.onnx import load_onnx
from mcucompile.ir import Array, Graph, Tensor
from mcucompile.passes import simplify
from mcucompile.quantize import parse_weights, quantize
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

SAMPLES = 12


class Residual(torch.nn.Module):
    """Convolutions of all kinds, a residual sum, pools, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise = torch.nn.Conv2d(8, 8, 1)
        self.largest = torch.nn.MaxPool2d(2)
        self.strided = torch.nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.mean = torch.nn.AdaptiveAvgPool2d(1)
        self.classes = torch.nn.Linear(12, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (n, 3, 12, 12)."""
        x = torch.relu(self.first(x))
        y = self.pointwise(torch.relu(self.depthwise(x)))
        x = self.largest(torch.relu(x + y))
        x = torch.nn.functional.relu6(self.strided(x))
        return self.classes(self.mean(x).flatten(1))


class Branches(torch.nn.Module):
    """Branches that are joined, padded means, functions, a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.left = torch.nn.Conv2d(2, 4, 3, padding=1)
        self.right = torch.nn.Conv2d(2, 4, 5, padding=2)
        self.mean = torch.nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)
        self.last = torch.nn.Conv2d(8, 6, 1)
        self.classes = torch.nn.Linear(6 * 4 * 4, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (n, 2, 8, 8)."""
        joined = torch.cat([torch.sigmoid(self.left(x)), torch.nn.functional.leaky_relu(self.right(x))], 1)
        gated = self.last(self.mean(joined))
        gated = gated * torch.tanh(gated)
        return torch.softmax(self.classes(gated.flatten(1)), -1)


class Rows(torch.nn.Module):
    """Linear layers with an offset that is not 0 on average."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(40, 24)
        self.second = torch.nn.Linear(24, 24, bias=False)
        self.third = torch.nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (n, 40)."""
        return self.third(torch.relu(self.second(torch.relu(self.first(x)))))


NETWORKS: dict[str, tuple[type[torch.nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (3, 12, 12)),
    "branches": (Branches, (2, 8, 8)),
    "rows": (Rows, (40,)),
}


@dataclass(frozen=True)
class Way:
    """How onnxruntime quantizes."""

    format: QuantFormat
    per_channel: bool
    activations: QuantType
    weights: QuantType
    asymmetric: bool = False


WAYS = {
    "qdq_u8_s8": Way(QuantFormat.QDQ, False, QuantType.QUInt8, QuantType.QInt8),
    "qdq_s8_s8_channels": Way(QuantFormat.QDQ, True, QuantType.QInt8, QuantType.QInt8),
    "qdq_u8_u8": Way(QuantFormat.QDQ, False, QuantType.QUInt8, QuantType.QUInt8),
    "qdq_u8_s8_asymmetric": Way(QuantFormat.QDQ, False, QuantType.QUInt8, QuantType.QInt8, asymmetric=True),
    "qoperator_u8_u8": Way(QuantFormat.QOperator, False, QuantType.QUInt8, QuantType.QUInt8),
    "qoperator_s8_s8_channels": Way(QuantFormat.QOperator, True, QuantType.QInt8, QuantType.QInt8),
}


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, samples: Array) -> None:
        self._rows = iter([{name: sample[None]} for sample in samples])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._rows, None)


def float_model(network: str, folder: Path) -> tuple[Path, Array]:
    """Export a network and return it with samples."""
    kind, shape = NETWORKS[network]
    torch.manual_seed(5)
    module = kind().eval()
    samples = np.random.default_rng(5).normal(0.2, 1, (SAMPLES, *shape)).astype(np.float32)
    path = folder / f"{network}.onnx"
    torch.onnx.export(
        module, torch.zeros(1, *shape), path, input_names=["input"], output_names=["output"], dynamo=False
    )
    return path, samples


def quantized_model(network: str, way: str, folder: Path) -> tuple[Path, Array]:
    """Quantize a network with onnxruntime and return it with samples."""
    path, samples = float_model(network, folder)
    how = WAYS[way]
    quantized = folder / f"{network}_{way}.onnx"
    quantize_static(
        path,
        quantized,
        _Reader("input", samples),
        quant_format=how.format,
        per_channel=how.per_channel,
        activation_type=how.activations,
        weight_type=how.weights,
        extra_options={"WeightSymmetric": not how.asymmetric},
    )
    return quantized, samples


def computed(path: Path, samples: Array, *, optimized: bool) -> dict[str, Array]:
    """Run onnxruntime and return every tensor, (samples, *shape)."""
    model = onnx.load(path)
    known = {output.name for output in model.graph.output}
    for node in model.graph.node:
        for name in node.output:
            if name not in known:
                model.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name
    rows = [session.run(None, {source: sample[None]}) for sample in samples]
    names = [output.name for output in session.get_outputs()]
    return {name: np.stack([row[i] for row in rows]) for i, name in enumerate(names)}


def taken(path: Path, samples: Array | None = None) -> tuple[Graph, Graph, Calibration]:
    """Return a quantized model's graph of reals and of integers."""
    real = simplify(load_onnx(path))
    calibration = calibrate(real, samples)
    return real, quantize(real, calibration, parse_weights("int8", real), 2), calibration


def differences(graph: Graph, samples: Array, expected: dict[str, Array], *, each_alone: bool) -> dict[str, Array]:
    """Return by how many codes each tensor that both have differs, for all samples.

    A tensor `name@...` is one of the model's with its channels last.

    Args:
        graph: of integers.
        samples: reals.
        expected: of `computed`.
        each_alone: every operator gets what onnxruntime computed before it, as far as that is known.
    """
    found: dict[str, Array] = {}
    source = graph.input.stored
    values: dict[str, Array] = {graph.input.name: as_codes(samples.reshape(-1, *graph.input.shape), source)}
    for op in graph.ops:
        codes = values[op.output] = op.run(*(values[name] for name in op.inputs))
        wanted = _expected_codes(graph.tensors[op.output], codes.shape, expected)
        # Flattening has another order where channels are last; the layer after it makes up for that.
        if wanted is None or op.is_view:
            continue
        found[op.output] = np.abs(wanted - codes)
        if each_alone:
            values[op.output] = wanted
    return found


def _expected_codes(tensor: Tensor, shape: tuple[int, ...], expected: dict[str, Array]) -> Array | None:
    wanted = expected.get(tensor.name.split("@")[0])
    if wanted is None or wanted.dtype.kind == "f":
        return None
    if wanted.ndim == 5 and wanted.shape != shape:
        wanted = wanted.transpose(0, 1, 3, 4, 2)
    return wanted.reshape(shape).astype(np.int64)
