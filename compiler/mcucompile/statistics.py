"""What quantization did to a model: ranges, noise and weights of every layer, measured on a few samples.

Noise is the signal-to-quantization-noise ratio, 10 log10(sum real^2 / sum (real - dequantized)^2) in dB, over all
elements of a tensor and all samples: 6 dB are about one bit. None stands for no noise at all.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mcucompile.encodings import Weights
from mcucompile.ir import Array, Graph
from mcucompile.numerics import Real
from mcucompile.ops import weights_of

BINS = 16
# Enough for a decibel; more samples cost time and change nothing that people act on.
_SAMPLES = 16
_BYTES = 1 << 26
_OPERATIONS = 1 << 28
_WORST = 3
# Weights are made real this many at a time.
_WEIGHTS_AT_ONCE = 1 << 18


@dataclass(frozen=True, slots=True)
class WeightStatistics:
    """The stored weights of a layer, as the reals they mean.

    Attributes:
        encoding, bits, parameters: as of `Weights`.
        count: how many.
        minimum, maximum: real.
        zeros: how many are 0.
        distinct: how many different integer values there are.
        histogram: counts in BINS bins of equal width from minimum to maximum.
    """

    encoding: str
    bits: int
    parameters: str
    count: int
    minimum: float
    maximum: float
    zeros: int
    distinct: int
    histogram: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LayerStatistics:
    """One layer.

    Attributes:
        name: of the layer.
        minimum, maximum: of its real output.
        sqnr_db: of its output, with the noise of all layers before it.
        own_sqnr_db: of its output, had it been given exactly what its inputs mean: its own noise only.
        drop_db: how much lower sqnr_db is than that of its noisiest input; None after exact inputs.
        weights: of each of its weight tensors.
    """

    name: str
    minimum: float
    maximum: float
    sqnr_db: float | None
    own_sqnr_db: float | None
    drop_db: float | None
    weights: tuple[WeightStatistics, ...]


@dataclass(frozen=True, slots=True)
class Statistics:
    """A model.

    Attributes:
        samples: how many were measured.
        input_minimum, input_maximum: of the real input.
        layers: in order.
    """

    samples: int
    input_minimum: float
    input_maximum: float
    layers: tuple[LayerStatistics, ...]

    @property
    def worst(self) -> tuple[LayerStatistics, ...]:
        """The layers that lose most accuracy: those with the most noise of their own, the worst first."""
        noisy = [layer for layer in self.layers if layer.own_sqnr_db is not None]
        return tuple(sorted(noisy, key=_own_noise)[:_WORST])


def _own_noise(layer: LayerStatistics) -> float:
    return math.inf if layer.own_sqnr_db is None else layer.own_sqnr_db


def follow(statistics: Statistics, before: Graph, after: Graph) -> Statistics:
    """Return the statistics of a graph in which some layers are one: those of the last, with the weights of all.

    Args:
        statistics: of `before`.
        before, after: the layers apart, and joined; tensors keep their names.
    """
    found = {op.output: layer for op, layer in zip(before.layers, statistics.layers, strict=True)}
    layers = []
    for op in after.layers:
        weights: tuple[WeightStatistics, ...] = ()
        part = before.producer(op.output)
        while part is not None:
            weights = found[part.output].weights + weights
            part = None if part.inputs == op.inputs else before.producer(part.inputs[0])
        layers.append(replace(found[op.output], name=op.name, weights=weights))
    return replace(statistics, layers=tuple(layers))


def measure(real: Graph, graph: Graph, codes: Array) -> Statistics:
    """Run both graphs on a few samples and compare every tensor.

    Args:
        real: the graph of reals that `graph` was made from, operator by operator.
        graph: of integers.
        codes: (samples, *input shape) input codes, of which the first few are taken.
    """
    chosen = codes[: _sample_count(real)]
    stored = {name: tensor.stored for name, tensor in graph.tensors.items()}
    source = graph.inputs[0]
    # In float32, as the real operators compute: what only moves values is exact.
    exact: dict[str, Array] = {source: stored[source].dequantize(chosen).astype(np.float32)}
    exact |= {op.output: value for op, value in real.execute(exact[source])}
    computed: dict[str, Array] = {source: chosen.astype(stored[source].dtype)}
    real_ops = {op.output: op for op in real.ops}
    noise: dict[str, float | None] = {source: None}
    layers: list[LayerStatistics] = []
    for op, output in graph.execute(chosen):
        computed[op.output] = output.astype(stored[op.output].dtype)
        meant = stored[op.output].dequantize(output).astype(np.float32)
        noise[op.output] = _decibel(exact[op.output], meant)
        if op.is_view:
            continue
        real_op = real_ops[op.output]
        inputs = [stored[name].dequantize(computed[name]).astype(np.float32) for name in real_op.inputs]
        before = [level for level in (noise[name] for name in real_op.inputs) if level is not None]
        after = noise[op.output]
        layers.append(
            LayerStatistics(
                name=op.name,
                minimum=_short(exact[op.output].min()),
                maximum=_short(exact[op.output].max()),
                sqnr_db=after,
                own_sqnr_db=_decibel(real_op.run(*inputs), meant),
                drop_db=round(min(before) - after, 2) if before and after is not None else None,
                weights=tuple(_weights(weights) for weights in weights_of(op)),
            )
        )
    return Statistics(len(chosen), _short(exact[source].min()), _short(exact[source].max()), tuple(layers))


def _sample_count(real: Graph) -> int:
    sample_bytes = 4 * sum(tensor.size for tensor in real.tensors.values())
    operations = sum(op.operations(*real.shapes_of(op)) for op in real.ops)
    return max(1, min(_SAMPLES, _BYTES // sample_bytes, _OPERATIONS // max(operations, 1)))


def _decibel(exact: Array, approximate: Array) -> float | None:
    reals = exact.astype(np.float64)
    noise = float(np.sum(np.square(reals - approximate)))
    signal = float(np.sum(np.square(reals)))
    if noise == 0:
        return None
    # A signal of zeros only has no ratio; whatever came instead is all noise.
    return round(10 * math.log10(max(signal, noise * 1e-10) / noise), 2)


def _weights(weights: Weights) -> WeightStatistics:
    """Measure weights row by row, so that no real copy of all of them is made."""
    minimum, maximum = math.inf, -math.inf
    for part in _real_rows(weights):
        minimum, maximum = min(minimum, float(part.min())), max(maximum, float(part.max()))
    histogram = np.zeros(BINS, dtype=np.int64)
    for part in _real_rows(weights):
        histogram += np.histogram(part, bins=BINS, range=(minimum, maximum))[0]
    used = np.bincount(weights.codes.reshape(-1), minlength=len(weights.code_values))
    return WeightStatistics(
        encoding=weights.encoding,
        bits=weights.bits,
        parameters=weights.parameters,
        count=int(weights.codes.size),
        minimum=_short(minimum),
        maximum=_short(maximum),
        zeros=int(used[weights.code_values == 0].sum()),
        distinct=len(np.unique(weights.code_values[used > 0])),
        histogram=tuple(int(count) for count in histogram),
    )


def _real_rows(weights: Weights) -> Iterator[Real]:
    rows = max(1, _WEIGHTS_AT_ONCE // weights.codes[0].size)
    scale = np.broadcast_to(weights.scale, len(weights.codes))
    for start in range(0, len(weights.codes), rows):
        part = slice(start, start + rows)
        yield weights.code_values[weights.codes[part]] * scale[part, None]


def _short(value: float) -> float:
    """Return a value as people read it: six digits."""
    return float(f"{value:.6g}")
