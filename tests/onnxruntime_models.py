"""Models that onnxruntime's tools quantize, and what onnxruntime computes in every one of their tensors."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from mcucompile.calibrate import Calibration, as_codes, calibrate
from mcucompile.frontends.names import label
from mcucompile.frontends.onnx import load_onnx
from mcucompile.ir import Array, Graph, Tensor
from mcucompile.passes import simplify
from mcucompile.quantize import parse_weights, quantize
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static


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


def quantized_by_onnxruntime(path: Path, way: Way, samples: Array, folder: Path) -> Path:
    """Quantize a model of reals, calibrated on samples (n, *input without its batch), and return the new file."""
    quantized = folder / f"{path.stem}_quantized.onnx"
    quantize_static(
        path,
        quantized,
        _Reader(onnx.load(path).graph.input[0].name, samples),
        quant_format=way.format,
        per_channel=way.per_channel,
        activation_type=way.activations,
        weight_type=way.weights,
        extra_options={"WeightSymmetric": not way.asymmetric},
    )
    return quantized


def computed(path: Path, samples: Array, *, optimized: bool) -> dict[str, Array]:
    """Run onnxruntime and return every tensor of codes and the model's outputs, (samples, *shape)."""
    model = onnx.load(path)
    outputs = [output.name for output in model.graph.output]
    every = [name for node in model.graph.node for name in node.output if name]
    types = {output.name: output.type for output in _session(model, every, optimized=False).get_outputs()}
    # Reals between are left alone: a kernel that makes codes of codes is used only where nobody sees them.
    names = [name for name in every if name in outputs or "int" in types[name]]
    session = _session(model, names, optimized=optimized)
    source = session.get_inputs()[0].name
    rows = [session.run(names, {source: sample[None]}) for sample in samples]
    return {name: np.stack([row[i] for row in rows]) for i, name in enumerate(names)}


def _session(model: onnx.ModelProto, outputs: list[str], *, optimized: bool) -> onnxruntime.InferenceSession:
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Integer kernels for signed activations, too, as on ARM; the default on x86 is to compute those in float32.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(exposed.SerializeToString(), options, providers=["CPUExecutionProvider"])


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
    expected = {label(name): values for name, values in expected.items()}
    values: dict[str, Array] = {graph.input.name: as_codes(samples.reshape(-1, *graph.input.shape), source)}
    for op in graph.ops:
        codes = values[op.output] = op.run(*(values[name] for name in op.inputs))
        wanted = _expected_codes(graph.tensors[op.output], codes.shape, expected)
        # Flattening has another order where channels are last; the layer after it makes up for that.
        is_reordered = op.is_view and max(graph.tensors[op.inputs[0]].shape) < graph.tensors[op.output].size
        if wanted is None or is_reordered:
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
