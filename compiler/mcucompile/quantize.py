"""Turns the graph of reals into the graph of integers, operator by operator in execution order."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mcucompile.calibrate import Calibration
from mcucompile.encodings import ENCODINGS, Encoding
from mcucompile.errors import UserError
from mcucompile.ir import Format, Graph, Op
from mcucompile.lowering import Lowering, RealOp
from mcucompile.ops import Dense
from mcucompile.passes import check_accumulators


@dataclass(frozen=True, slots=True)
class WeightChoice:
    """Which encoding each layer's weights get.

    Attributes:
        default: for layers that are not named.
        layers: encoding by layer name.
    """

    default: Encoding
    layers: Mapping[str, Encoding]


def parse_weights(text: str, graph: Graph) -> WeightChoice:
    """Parse "dlq4" or "int8,fc1=dlq4,fc2=log4" for a graph.

    Raises:
        UserError: an unknown encoding or a layer that has no weights.
    """
    default = ENCODINGS["int8"]
    layers: dict[str, Encoding] = {}
    weighted = [op.name for op in graph.ops if isinstance(op, Dense)]
    for part in text.split(","):
        layer, _, name = part.strip().rpartition("=")
        if name not in ENCODINGS:
            raise UserError(f"--weights {text}", f"'{name}' is not an encoding", f"choose from {', '.join(ENCODINGS)}")
        if layer and layer not in weighted:
            known = ", ".join(weighted) or "none"
            raise UserError(f"--weights {text}", f"no layer with weights is called '{layer}'", f"layers: {known}")
        if layer:
            layers[layer] = ENCODINGS[name]
        else:
            default = ENCODINGS[name]
    return WeightChoice(default, layers)


def quantize(
    graph: Graph, calibration: Calibration, weights: WeightChoice, terms: int, *, corrects_bias: bool = True
) -> Graph:
    """Return the graph of integers: formats on every tensor, encoded weights, proven accumulators.

    Args:
        graph: a simplified graph of reals.
        calibration: of the same graph.
        weights: encodings.
        terms: signed powers of two in a requantization multiplier, 1..3.
        corrects_bias: biases take back what rounding the weights moves the mean by; never with guessed ranges.

    Raises:
        QuantizationError: an operator cannot be expressed, or an accumulator could overflow.
    """
    formats: dict[str, Format] = {graph.inputs[0]: calibration.input_format}
    ops: list[Op] = []
    for op in graph.ops:
        if not isinstance(op, RealOp):
            raise TypeError(f"{type(op).__name__} is not a real operator")
        lowered = op.lower(
            Lowering(
                formats=tuple(formats[name] for name in op.inputs),
                inputs=tuple(calibration.values[name] for name in op.inputs),
                output=calibration.values[op.output],
                is_result=_is_result(graph, op.output),
                encoding=weights.layers.get(op.name, weights.default),
                terms=terms,
                corrects_bias=corrects_bias and not calibration.guessed,
            )
        )
        ops.append(lowered.op)
        formats[op.output] = lowered.format
    tensors = {name: replace(graph.tensors[name], format=format_) for name, format_ in formats.items()}
    return check_accumulators(graph.replaced(ops=tuple(ops), tensors=tensors))


def _is_result(graph: Graph, tensor: str) -> bool:
    """Return whether a tensor leaves the model, possibly through views, and is read by nothing else."""
    readers = graph.consumers(tensor)
    if tensor in graph.outputs:
        return not readers
    return len(readers) == 1 and readers[0].is_view and _is_result(graph, readers[0].output)
