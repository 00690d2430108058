"""Compares what a device answers with the reference: every output, and every layer by its digest."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
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
        device: where.
        input: index of the input.
        layer: name of the first layer whose digest differs, "" if only the result does.
        index: of the first element of the result that differs, None if the result is equal.
        expected, found: that element, None if the result is equal.
    """

    device: str
    input: int
    layer: str
    index: int | None
    expected: int | None
    found: int | None


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of a verification.

    Attributes:
        devices: what was run.
        inputs: how many inputs each device ran.
        layers: how many layers were compared for each input.
        mismatches: inputs, over all devices, of which any layer or the result differs.
        first: the first difference.
        accuracy: share of inputs whose class the devices got right, None without labels.
    """

    devices: tuple[str, ...]
    inputs: int
    layers: int
    mismatches: int
    first: Difference | None
    accuracy: float | None

    @property
    def ok(self) -> bool:
        """Whether everything was equal."""
        return self.mismatches == 0

    def facts(self) -> dict[str, Any]:
        """Return everything as plain values."""
        first = self.first
        return {
            "devices": list(self.devices),
            "inputs": self.inputs,
            "layers": self.layers,
            "mismatches": self.mismatches,
            "first": None if first is None else {name: getattr(first, name) for name in first.__slots__},
            "accuracy": self.accuracy,
        }


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
    mismatches = 0
    correct = 0
    first: Difference | None = None
    for device, open_link in devices:
        with open_link() as link:
            _check_model(link, graph, model_hash)
            for i, expected in enumerate(_expectations(graph, codes)):
                answer = link.infer(expected.code_bytes)
                difference = _difference(device, i, expected, answer, graph)
                mismatches += difference is not None
                first = first or difference
                if labels is not None:
                    correct += _class(_result(answer, graph)) == int(labels[i])
                progress(device, i + 1)
    accuracy = None if labels is None else correct / (len(codes) * len(devices))
    return Verification(tuple(name for name, _ in devices), len(codes), len(graph.layers), mismatches, first, accuracy)


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


def _difference(device: str, i: int, expected: _Expected, answer: Inference, graph: Graph) -> Difference | None:
    found = _result(answer, graph)
    names = [op.name for op in graph.layers]
    wanted = expected.result.ravel()
    unequal = np.flatnonzero(found != wanted)
    layer = next(
        (name for name, a, b in zip(names, expected.digests, answer.digests, strict=True) if a != b),
        "",
    )
    if not len(unequal):
        return Difference(device, i, layer, None, None, None) if layer else None
    index = int(unequal[0])
    return Difference(device, i, layer, index, int(wanted[index]), int(found[index]))
