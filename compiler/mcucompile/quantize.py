"""Turns the graph of reals into the graph of integers, operator by operator in execution order."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from mcucompile.calibrate import Calibration
from mcucompile.encodings import ENCODINGS, Encoding
from mcucompile.errors import QuantizationError, UserError
from mcucompile.ir import Format, Graph, Op
from mcucompile.lowering import Lowering, RealOp, ScaleRule
from mcucompile.ops import (
    ACTIVATION_METHODS,
    CORDIC_FUNCTIONS,
    WEIGHTED_OPERATORS,
    ArgMax,
    FakeQuantize,
    LogSoftmax,
    Lookup,
    Softmax,
    activation_method,
)
from mcucompile.passes import check_accumulators, wanted_scales

T = TypeVar("T")
# Bits of a stored activation by its name on the command line.
ACTIVATIONS: Mapping[str, int] = {"int8": 8, "int16": 16}
_RANKING = (ArgMax, LogSoftmax, Softmax)


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """What each layer gets.

    Attributes:
        default: for layers that are not named.
        layers: by layer name.
    """

    default: T
    layers: Mapping[str, T]

    def of(self, layer: str) -> T:
        """Return what a layer gets."""
        return self.layers.get(layer, self.default)


def parse_weights(text: str, graph: Graph) -> Choice[Encoding]:
    """Parse "dlq4" or "int8,fc1=dlq4,fc2=log4" for a graph.

    Raises:
        UserError: an unknown encoding or a layer that has no weights.
    """
    weighted = [op.name for op in graph.ops if isinstance(op, WEIGHTED_OPERATORS)]
    return _parse("--weights", text, ENCODINGS, weighted, ("an encoding", "layer with weights"))


def parse_activations(text: str, graph: Graph) -> Choice[int]:
    """Parse "int16" or "int8,fc3=int16": the bits of each layer's output.

    Raises:
        UserError: an unknown format or an unknown layer.
    """
    layers = [op.name for op in graph.layers]
    return _parse("--activations", text, ACTIVATIONS, layers, ("an activation format", "layer"))


def parse_activation_methods(text: str, graph: Graph) -> Choice[bool]:
    """Parse "cordic" or "table,act1=cordic": whether CORDIC computes each layer's function.

    Raises:
        UserError: an unknown method or a layer that has no function, or one that only a table gives.
    """
    layers = [op.name for op in graph.ops if isinstance(op, Lookup | Softmax | LogSoftmax)]
    nouns = ("an activation method", "layer with a function")
    return _parse("--activation-method", text, ACTIVATION_METHODS, layers, nouns)


def _parse(option: str, text: str, table: Mapping[str, T], known: list[str], nouns: tuple[str, str]) -> Choice[T]:
    """Parse what all layers get and what some do; the table's first entry is the default."""
    default = next(iter(table.values()))
    layers: dict[str, T] = {}
    for part in text.split(","):
        layer, _, name = part.strip().rpartition("=")
        if name not in table:
            raise UserError(f"{option} {text}", f"'{name}' is not {nouns[0]}", f"choose from {', '.join(table)}")
        if layer and layer not in known:
            listed = ", ".join(known) or "none"
            raise UserError(f"{option} {text}", f"no {nouns[1]} is called '{layer}'", f"layers: {listed}")
        if layer:
            layers[layer] = table[name]
        else:
            default = table[name]
    return Choice(default, layers)


def quantize(
    graph: Graph,
    calibration: Calibration,
    weights: Choice[Encoding],
    terms: int,
    *,
    activations: Choice[int] = Choice(8, {}),
    by_cordic: Choice[bool] = Choice(False, {}),
    corrects_rounding: bool = True,
) -> Graph:
    """Return the graph of integers: formats on every tensor, encoded weights, proven accumulators.

    Args:
        graph: a simplified graph of reals.
        calibration: of the same graph.
        weights: encodings.
        terms: signed powers of two in a requantization multiplier, 1..3.
        activations: bits of each layer's stored output, 8 or 16; by default 16 where values are only compared.
        by_cordic: layers whose function is computed by CORDIC where it covers it.
        corrects_rounding: biases, and weights not yet rounded, take back what rounding weights does to a sum;
            never with guessed ranges.

    Raises:
        QuantizationError: an operator cannot be expressed, an accumulator could overflow, or CORDIC does not cover
            a layer that is named for it.
    """
    formats: dict[str, Format] = {graph.inputs[0]: calibration.input_format}
    scales = wanted_scales(graph)
    ops: list[Op] = []
    for op in graph.ops:
        if not isinstance(op, RealOp):
            raise TypeError(f"{type(op).__name__} is not a real operator")
        given = graph.tensors[op.output].format if op.takes_format else None
        lowered = op.lower(
            Lowering(
                formats=tuple(formats[name] for name in op.inputs),
                inputs=tuple(calibration.values[name] for name in op.inputs),
                output=calibration.values[op.output],
                is_result=_is_result(graph, op.output),
                encoding=weights.of(op.name),
                activation_bits=_activation_bits(graph, op, activations, is_shared=_is_shared(scales.get(op.output))),
                terms=terms,
                corrects_rounding=corrects_rounding and not calibration.guessed,
                by_cordic=by_cordic.of(op.name),
                given=given,
                scale=scales.get(op.output, ScaleRule()),
            )
        )
        if by_cordic.layers.get(op.name) and activation_method(lowered.op) != "cordic":
            raise QuantizationError(
                op.source,
                f"CORDIC covers {', '.join(CORDIC_FUNCTIONS)}, of values whose scale fits int32, but not this function",
                f"leave it to a table: --activation-method {op.name}=table",
            )
        ops.append(lowered.op)
        formats[op.output] = lowered.format
    tensors = {
        name: replace(graph.tensors[name], format=format_, zeros=_zeros(calibration, name, format_))
        for name, format_ in formats.items()
    }
    return check_accumulators(graph.replaced(ops=tuple(ops), tensors=tensors))


def _zeros(calibration: Calibration, name: str, format_: Format) -> float:
    """Return the share of a tensor's values that become the code 0, in hundredths."""
    if calibration.guessed:
        return 0.0
    values = calibration.values[name]
    are_zero = values < (0.5 - format_.zero_point) * format_.scale
    if format_.minimum < 0:
        are_zero &= values > (-0.5 - format_.zero_point) * format_.scale
    return round(float(are_zero.mean()), 2)


def _is_shared(rule: ScaleRule | None) -> bool:
    return rule is not None and not rule.only_signs


def _activation_bits(graph: Graph, op: Op, activations: Choice[int], *, is_shared: bool) -> int:
    """Return the bits of an operator's stored output: the user's choice, but 16 where values are only compared.

    is_shared: 8-bit weights share the output's scale, so that it has 8 bits unless a user insists.
    """
    if is_shared and op.name not in activations.layers:
        return 8
    is_compared = _is_only_compared(graph, op.output) or _is_snapped(graph, op.output)
    return (
        max(activations.default, 16) if is_compared and op.name not in activations.layers else activations.of(op.name)
    )


def _is_only_compared(graph: Graph, tensor: str) -> bool:
    """Return whether a tensor, possibly through views, is read by nothing but operators that rank its values.

    8 bits let classes tie, and what ranks them takes 16 as easily.
    """
    readers = graph.consumers(tensor)
    return tensor not in graph.outputs and all(
        isinstance(reader, _RANKING) or (reader.is_view and _is_only_compared(graph, reader.output))
        for reader in readers
    )


def _is_snapped(graph: Graph, tensor: str) -> bool:
    """Return whether a tensor is read only to be rounded to a format that the model gives: 16 bits round it once."""
    readers = graph.consumers(tensor)
    return bool(readers) and all(isinstance(reader, FakeQuantize) for reader in readers)


def _is_result(graph: Graph, tensor: str) -> bool:
    """Return whether a tensor leaves the model, possibly through views, and is read by nothing else."""
    readers = graph.consumers(tensor)
    if tensor in graph.outputs:
        return not readers
    return len(readers) == 1 and readers[0].is_view and _is_result(graph, readers[0].output)
