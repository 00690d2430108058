"""Stores an integer graph beside its firmware and reads it back: what `verify` compares with.

One JSON file holds every field of every operator; arrays are in one npz file and named in the JSON.
Both are the same bytes for the same graph.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcucompile.encodings import Weights
from mcucompile.errors import ProjectError
from mcucompile.ir import Array, Format, Graph, Op, Source, Tensor, verify
from mcucompile.numerics import Requantization
from mcucompile.ops import INTEGER_OPERATORS
from mcucompile.ops.cordic_function import CordicExponentials
from mcucompile.ops.softmax import Exponentials
from mcucompile.ops.window import Window

FOLDER = "reference"
GRAPH_FILE = f"{FOLDER}/graph.json"
ARRAYS_FILE = f"{FOLDER}/arrays.npz"
SAMPLES_FILE = f"{FOLDER}/samples.npy"
FILES = (GRAPH_FILE, ARRAYS_FILE, SAMPLES_FILE)
_VERSION = 1
_PARTS: Mapping[str, type[Any]] = {
    part.__name__: part
    for part in (
        *(Format, Source, Tensor, Weights, Requantization, Window, Exponentials, CordicExponentials),
        *INTEGER_OPERATORS.values(),
    )
}


def store(graph: Graph) -> dict[str, bytes]:
    """Return the files of a graph, by path relative to the project."""
    text, arrays = _content(graph)
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]  # the stub takes the names for options
    return {GRAPH_FILE: text, ARRAYS_FILE: packed.getvalue()}


def fingerprint(graph: Graph) -> bytes:
    """Return a SHA-256 over everything that the graph computes with; it does not depend on how files are packed."""
    text, arrays = _content(graph)
    digest = hashlib.sha256(text)
    for array in arrays.values():
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()


def _content(graph: Graph) -> tuple[bytes, dict[str, Array]]:
    """Return a graph as JSON, and the arrays that it names."""
    arrays: dict[str, Array] = {}
    content = {
        "version": _VERSION,
        "name": graph.name,
        "inputs": graph.inputs,
        "outputs": graph.outputs,
        "source": _plain(graph.source, arrays),
        "tensors": [_plain(tensor, arrays) for tensor in graph.tensors.values()],
        "ops": [_plain(op, arrays) for op in graph.ops],
    }
    return (json.dumps(content, indent=1) + "\n").encode(), arrays


def store_samples(codes: Array, format_: Format) -> bytes:
    """Return a few inputs, as input codes, in the form `load_samples` reads."""
    packed = io.BytesIO()
    np.save(packed, codes.astype(format_.dtype))
    return packed.getvalue()


def load_samples(directory: Path) -> Array:
    """Return the inputs that were stored with a project, as input codes (n, *input shape)."""
    try:
        samples: Array = np.load(directory / SAMPLES_FILE, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ProjectError(directory, f"has no readable samples: {error}", "compile the model again") from error
    return samples.astype(np.int64)


def load(directory: Path) -> Graph:
    """Read the graph of a compiled project.

    Raises:
        ProjectError: the directory holds no project, or a damaged one.
    """
    try:
        content = json.loads((directory / GRAPH_FILE).read_text())
        with np.load(directory / ARRAYS_FILE, allow_pickle=False) as stored:
            arrays = {name: _widened(array) for name, array in stored.items()}
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']}, this program reads {_VERSION}")
        tensors: dict[str, Tensor] = {t["name"]: _object(t, arrays) for t in content["tensors"]}
        ops: tuple[Op, ...] = tuple(_object(op, arrays) for op in content["ops"])
        graph = Graph(
            content["name"],
            tuple(content["inputs"]),
            tuple(content["outputs"]),
            tensors,
            ops,
            _object(content["source"], arrays),
        )
        return verify(graph)
    except FileNotFoundError as error:
        raise ProjectError(
            directory, f"holds no compiled project ({error.filename} is missing)", "run `mcucompile MODEL -o DIR` first"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProjectError(directory, f"is damaged: {error}", "compile the model again") from error


def _plain(value: Any, arrays: dict[str, Array]) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: _plain(getattr(value, field.name), arrays) for field in fields(value)}
        return {"type": type(value).__name__, **parts}
    if isinstance(value, np.ndarray):
        name = f"a{len(arrays)}"
        arrays[name] = _narrowed(value)
        return {"array": name}
    if isinstance(value, tuple):
        return [_plain(item, arrays) for item in value]
    return value


def _narrowed(array: Array) -> Array:
    """Return integers in the smallest type that holds them: codes of weights are int64 while they are used."""
    if array.dtype != np.int64 or not array.size:
        return array
    type_ = np.result_type(np.min_scalar_type(array.min()), np.min_scalar_type(array.max()))
    # Negative numbers beside numbers above 2**32 would get a real type.
    return array if type_.kind == "f" else array.astype(type_)


def _widened(array: Array) -> Array:
    return array.astype(np.int64) if array.dtype.kind in "iu" else array


def _object(value: Any, arrays: Mapping[str, Array]) -> Any:
    if isinstance(value, dict) and "array" in value:
        return arrays[value["array"]]
    if isinstance(value, dict):
        part = _PARTS[value["type"]]
        return part(**{key: _object(item, arrays) for key, item in value.items() if key != "type"})
    if isinstance(value, list):
        return tuple(_object(item, arrays) for item in value)
    return value
