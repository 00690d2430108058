"""Runs the graph of reals on the user's samples and keeps what every tensor was."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mcucompile.errors import SamplesError
from mcucompile.ir import Array, Format, Graph, Tensor
from mcucompile.lowering import best_format, chooses_formats
from mcucompile.ops import Softmax

MAX_SAMPLES = 256
_MAX_BYTES = 1 << 28
_GUESSED_SAMPLES = 64


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What the samples showed.

    Attributes:
        input_format: of the graph's input.
        values: (samples, *shape) of every tensor.
        guessed: no samples were given, and the model does not give all formats; ranges come from random input.
        codes: (samples, *shape) the samples as input codes.
    """

    input_format: Format
    values: Mapping[str, Array]
    guessed: bool
    codes: Array


def calibrate(graph: Graph, samples: Array | None) -> Calibration:
    """Run the graph on samples, (n, *input shape) as of `as_samples`; None guesses."""
    guessed = samples is None and chooses_formats(graph)
    given = _guess(graph.input) if samples is None else samples
    format_ = input_format(graph.input, given)
    per_sample = 4 * sum(tensor.size for tensor in graph.tensors.values())
    count = max(1, min(len(given), MAX_SAMPLES, _MAX_BYTES // per_sample))
    codes = as_codes(given[:count], format_)
    real = format_.dequantize(codes).astype(np.float32)
    # What overflows is not finite, and named below.
    with np.errstate(over="ignore", invalid="ignore"):
        values = {graph.inputs[0]: real} | {op.output: value for op, value in graph.execute(real)}
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise SamplesError(
                f"tensor '{name}'",
                "overflows float32 on the samples",
                "check that samples and weights have the sizes that the network was trained with",
            )
    for op in graph.ops:
        if isinstance(op, Softmax):
            _unmask(graph, values, op)
    return Calibration(format_, values, guessed, codes)


def _unmask(graph: Graph, values: dict[str, Array], softmax: Softmax) -> None:
    """Bring masked values of a Softmax's input near to the others, so that its format has steps for those."""
    (name,) = softmax.inputs
    seen = softmax.seen(values[name])
    while len(graph.consumers(name)) == 1 and name not in graph.outputs:
        values[name] = seen.reshape(values[name].shape)
        producer = graph.producer(name)
        if producer is None or not producer.is_view:
            break
        (name,) = producer.inputs


def input_format(tensor: Tensor, samples: Array) -> Format:
    """Return the format of the graph's input.

    A model that declares an integer input has it. Otherwise 8-bit integer samples, and real samples that
    are all whole numbers 0..255 beyond 1, are raw bytes; other real samples get the clip that measures best.
    """
    if tensor.format is not None:
        return tensor.format
    if samples.dtype in (np.uint8, np.int8):
        return Format(8, samples.dtype == np.int8)
    whole = bool(np.all(samples == np.floor(samples)))
    if whole and samples.min() >= 0 and 1 < samples.max() <= 255:
        return Format(8, False)
    return best_format(samples, signed=bool(samples.min() < 0))


def as_codes(samples: Array, format_: Format) -> Array:
    """Return samples as codes: integers of the format's own type are codes, reals are quantized."""
    if samples.dtype == format_.dtype and samples.dtype.kind in "iu":
        return samples.astype(np.int64)
    return format_.quantize(samples)


def as_samples(array: Array, tensor: Tensor, where: str) -> Array:
    """Check user data against the input and return it as (n, *shape).

    Args:
        array: (n, *shape); axes of length 1 may be missing or extra, other axes must match.
        tensor: the graph's input.
        where: what to call the data in an error.

    Raises:
        SamplesError: wrong type or shape, empty, NaN.
    """
    if array.dtype.kind not in "iufb" or array.dtype.itemsize > 8:
        raise SamplesError(where, f"holds {array.dtype} values", "save numbers: uint8 or float32")
    if array.ndim == 0 or array.shape[0] == 0:
        raise SamplesError(where, f"holds no samples (shape {array.shape})", "save an array of shape (samples, ...)")
    if _without_ones(array.shape[1:]) != _without_ones(tensor.shape):
        raise SamplesError(
            where,
            f"has samples of shape {array.shape[1:]}, the model's input '{tensor.name}' is {tensor.shape}",
            f"save an array of shape (samples, {', '.join(map(str, _without_ones(tensor.shape)))})",
        )
    if array.dtype.kind == "f" and not (np.abs(array) <= np.finfo(np.float32).max).all():
        raise SamplesError(where, "holds NaN, infinity or what float32 cannot hold", "remove those samples")
    if tensor.format is not None:
        _check_whole(array, tensor.format, where)
    return array.reshape(len(array), *tensor.shape)


def _check_whole(array: Array, format_: Format, where: str) -> None:
    """Refuse what an input of raw integers cannot take; reals are quantized into a calibrated format."""
    if format_.scale != 1.0 or format_.zero_point != 0:
        return
    if array.min() < format_.minimum or array.max() > format_.maximum:
        problem = f"ranges over {array.min()}..{array.max()}, the model's input takes {format_.c_type}"
    elif array.dtype.kind == "f" and (array != np.floor(array)).any():
        problem = f"holds fractions, the model's input takes raw {format_.c_type}"
    else:
        return
    raise SamplesError(where, problem, f"save whole numbers {format_.minimum}..{format_.maximum}")


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def _guess(tensor: Tensor) -> Array:
    random = np.random.default_rng(0)
    shape = (_GUESSED_SAMPLES, *tensor.shape)
    if tensor.format is None:
        return random.random(shape, dtype=np.float32)
    return random.integers(tensor.format.minimum, tensor.format.maximum + 1, shape).astype(tensor.format.dtype)
