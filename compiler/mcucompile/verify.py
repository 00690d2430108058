"""Compares what a device answers with the reference: every output, and every layer by its digest."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mcucompile.errors import LinkError, SamplesError
from mcucompile.ir import Array, Graph
from mcucompile.targets.link import Inference, Link

_BATCH = 200

OpenLink = Callable[[], AbstractContextManager[Link]]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first value that differs.

    Attributes:
        on: the name of the device.
        input: index of the input.
        layer: name of the first layer whose output differs, "" if only the result that was read back does.
        index: of the first element of it that differs, in memory order; None if the device did not repeat it.
        reference, device: that element's code, in Python and on the device; None with `index`.
    """

    on: str
    input: int
    layer: str
    index: int | None
    reference: int | None
    device: int | None


@dataclass(frozen=True, slots=True)
class LayerOutcome:
    """How one layer came out, over all inputs and devices.

    Attributes:
        name, op: as in the facts of `compile`.
        elements: of its output.
        mismatches: outputs whose digest differs from the reference's.
    """

    name: str
    op: str
    elements: int
    mismatches: int


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of a verification.

    Attributes:
        devices: what was run.
        inputs: how many inputs each device ran.
        layers: every layer that was compared, in order.
        mismatches: inputs, over all devices, of which any layer or the result differs.
        first: the first difference.
        accuracy: share of inputs whose class the devices got right, None without labels.
    """

    devices: tuple[str, ...]
    inputs: int
    layers: tuple[LayerOutcome, ...]
    mismatches: int
    first: Difference | None
    accuracy: float | None

    @property
    def ok(self) -> bool:
        """Whether everything was equal."""
        return self.mismatches == 0

    def facts(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class _Expected:
    """The reference's answer to one input."""

    code_bytes: bytes
    result: Array
    digests: tuple[int, ...]


def verify_devices(
    graph: Graph,
    codes: Array,
    devices: Sequence[tuple[str, OpenLink]],
    *,
    model_hash: bytes,
    labels: Array | None = None,
    progress: Callable[[str, int], None] = lambda _device, _done: None,
) -> Verification:
    """Run inputs on devices and compare with the reference.

    Args:
        graph: of integers, the reference.
        codes: (n, *input shape) input codes.
        devices: a name and a way to open the link of each.
        model_hash: what a device must answer to hello.
        labels: (n,) classes.
        progress: told the device and how many inputs it has done.

    Raises:
        LinkError: a device does not answer, or runs another model.
        SamplesError: not as many labels as inputs.
    """
    if labels is not None and labels.shape != (len(codes),):
        raise SamplesError("labels", f"have shape {labels.shape} for {len(codes)} inputs", "save one class per input")
    layers = graph.layers
    differing = np.zeros(len(layers), dtype=np.int64)
    mismatches = 0
    correct = 0
    first: Difference | None = None
    for device, open_link in devices:
        with open_link() as link:
            _check_model(link, graph, model_hash)
            for i, expected in enumerate(_expectations(graph, codes)):
                answer = link.infer(expected.code_bytes)
                unequal = np.array(expected.digests) != np.array(answer.digests)
                differing += unequal
                if unequal.any() or (_result(answer, graph) != expected.result.ravel()).any():
                    mismatches += 1
                    first = first or _locate(link, device, i, graph, codes[i], answer, np.flatnonzero(unequal))
                if labels is not None:
                    correct += _class(_result(answer, graph)) == int(labels[i])
                progress(device, i + 1)
    accuracy = None if labels is None else correct / (len(codes) * len(devices))
    outcomes = tuple(
        LayerOutcome(op.name, op.kind, graph.tensors[op.output].size, int(count))
        for op, count in zip(layers, differing, strict=True)
    )
    return Verification(tuple(name for name, _ in devices), len(codes), outcomes, mismatches, first, accuracy)


def classes(results: Array) -> Array:
    """Return the class that each result (n, ...) names: its largest element's index, or its only element."""
    flat = results.reshape(len(results), -1)
    return np.asarray(flat[:, 0] if flat.shape[1] == 1 else flat.argmax(axis=1))


def _class(result: Array) -> int:
    return int(classes(result[None])[0])


def _check_model(link: Link, graph: Graph, model_hash: bytes) -> None:
    hello = link.hello()
    if hello.model_hash != model_hash:
        raise LinkError(
            link.name,
            f"runs the model '{hello.model_name}' ({hello.model_hash.hex()[:8]}), "
            f"the project holds '{graph.name}' ({model_hash.hex()[:8]})",
            "flash this project first: mcucompile flash DIR",
        )


def _expectations(graph: Graph, codes: Array) -> Iterator[_Expected]:
    """Yield the reference's answers, computed a batch at a time."""
    source = graph.input.stored
    for start in range(0, len(codes), _BATCH):
        batch = codes[start : start + _BATCH]
        digests: list[list[int]] = [[] for _ in batch]
        result = batch
        for op, value in graph.execute(batch):
            if op.output == graph.outputs[0]:
                result = value
            if not op.is_view:
                stored = np.ascontiguousarray(value.astype(graph.tensors[op.output].stored.dtype))
                for sample, row in zip(digests, stored, strict=True):
                    sample.append(zlib.crc32(row.tobytes()))
        for code, value, sample in zip(batch, result, digests, strict=True):
            yield _Expected(code.astype(source.dtype).tobytes(), value, tuple(sample))


def _result(answer: Inference, graph: Graph) -> Array:
    return np.frombuffer(answer.output, dtype=graph.result.stored.dtype).astype(np.int64)


def _locate(
    link: Link, device: str, i: int, graph: Graph, code: Array, answer: Inference, differing: Array
) -> Difference:
    """Return the first difference for input i, of which the layers with the indices `differing` differ."""
    if not len(differing):
        wanted, found = graph.run(code[None]).ravel(), _result(answer, graph)
        index = int(np.flatnonzero(wanted != found)[0])
        return Difference(device, i, "", index, int(wanted[index]), int(found[index]))
    layer = int(differing[0])
    op = graph.layers[layer]
    dtype = graph.tensors[op.output].stored.dtype
    wanted = next(value for other, value in graph.execute(code[None]) if other is op).ravel().astype(dtype)
    data = code.astype(graph.input.stored.dtype).tobytes()
    start, found = _first_unequal(link, data, layer, wanted)
    unequal = np.flatnonzero(wanted[start : start + len(found)] != found)
    if not len(unequal):
        return Difference(device, i, op.name, None, None, None)
    index = start + int(unequal[0])
    return Difference(device, i, op.name, index, int(wanted[index]), int(found[unequal[0]]))


def _first_unequal(link: Link, data: bytes, layer: int, wanted: Array) -> tuple[int, Array]:
    """Return where a few elements of a layer's output begin, and those elements on the device.

    The first element that differs is among them: the range that holds it is halved, by its digest, until one
    packet of the link holds the rest. None are left if the device does not repeat its answer.
    """
    item = wanted.dtype.itemsize
    start, size = 0, len(wanted)
    while size:
        half = (size + 1) // 2
        observed = link.observe(data, layer, start * item, half * item)
        if observed.crc == zlib.crc32(wanted[start : start + half].tobytes()):
            start, size = start + half, size - half
        elif len(observed.data) == half * item:
            return start, np.frombuffer(observed.data, dtype=wanted.dtype)
        else:
            size = half
    return start, wanted[start:]
