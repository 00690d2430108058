"""Reads an ONNX file that may be damaged or hostile: bytes to a checked ModelProto, tensors to arrays.

Everything here ends in a ModelError or a value; the two limits below bound the memory.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from onnx import TensorProto, numpy_helper

from mcucompile.errors import ModelError, UnsupportedError
from mcucompile.frontends.builder import MAX_ELEMENTS, Constant
from mcucompile.frontends.files import MAX_FILE_BYTES, read_file
from mcucompile.frontends.names import label

# Deep networks for servers have some thousand nodes; this bounds time, not ambition.
MAX_NODES = 10_000
OLDEST_OPSET = 7

_REAL_TYPES = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
_INTEGER_TYPES = {
    TensorProto.BOOL,
    TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64,
    TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64,
}  # fmt: skip
_UNSUPPORTED_TYPE_FIXES: dict[int, str] = {
    TensorProto.STRING: "export a model that computes on numbers",
    TensorProto.COMPLEX64: "export a model of real numbers",
    TensorProto.COMPLEX128: "export a model of real numbers",
}


def read_model(path: Path) -> onnx.ModelProto:
    """Read and parse a file, or raise ModelError: not readable, too large, not ONNX."""
    return parse_model(read_file(path), str(path))


def parse_model(data: bytes, where: str) -> onnx.ModelProto:
    """Parse the bytes of an ONNX file, or raise ModelError."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
        _check_text(model)
    except (DecodeError, UnicodeDecodeError) as error:
        raise ModelError(
            where, "is not an ONNX file, or is truncated or damaged", "export or copy the model again"
        ) from error
    return model


def check_model(model: onnx.ModelProto, file: str) -> int:
    """Check what does not depend on single nodes; return the opset of the standard operators.

    Raises:
        ModelError: no graph, no nodes, too many, no or contradictory opset.
        UnsupportedError: an opset that is too old or too new, sparse initializers.
    """
    if not model.HasField("graph"):
        raise ModelError(file, "is not an ONNX model: it holds no graph", "export the model again")
    if not model.graph.node:
        raise ModelError(file, "is an empty graph: it has no nodes", "export a model with at least one layer")
    count = len(model.graph.node) + sum(len(function.node) for function in model.functions)
    if count > MAX_NODES:
        raise ModelError(file, f"has {count:,} nodes, the limit is {MAX_NODES:,}", "compile a smaller network")
    if model.graph.sparse_initializer:
        name = label(model.graph.sparse_initializer[0].values.name)
        raise UnsupportedError(file, f"initializer '{name}' is sparse", "export the model with dense initializers")
    opset = opset_versions(model, file).get("")
    newest = onnx.defs.onnx_opset_version()
    if opset is None:
        raise ModelError(file, "does not say which opset of ONNX it uses", "export the model again")
    if opset < OLDEST_OPSET:
        raise UnsupportedError(
            file,
            f"uses opset {opset}, the oldest one supported is {OLDEST_OPSET}",
            f"export the model with an opset of {OLDEST_OPSET} to {newest}",
        )
    if opset > newest:
        raise UnsupportedError(
            file,
            f"uses opset {opset}, the installed onnx {onnx.__version__} reads up to {newest}",
            f"upgrade onnx, or export the model with an opset of {OLDEST_OPSET} to {newest}",
        )
    return opset


def opset_versions(model: onnx.ModelProto, file: str) -> dict[str, int]:
    """Return the opset version of each domain; the standard domain is ""."""
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        domain = canonical_domain(entry.domain)
        if versions.setdefault(domain, entry.version) != entry.version:
            raise ModelError(file, f"uses two opsets of domain '{label(domain)}'", "export the model again")
    return versions


def canonical_domain(domain: str) -> str:
    """Return "" for both names of the standard domain."""
    return "" if domain == "ai.onnx" else domain


@dataclass(slots=True)
class Budget:
    """How many constants the model may still read or compute."""

    left: float = MAX_ELEMENTS

    def spend(self, count: float) -> bool:
        """Take a number of constants; return whether there were enough."""
        self.left -= count
        return self.left >= 0


@dataclass(frozen=True, slots=True)
class TensorReader:
    """Turns TensorProtos into arrays.

    Attributes:
        file: for errors.
        folder: of the model file, where external data lies; None for a model in memory.
        budget: shared by all constants of the model.
    """

    file: str
    folder: Path | None
    budget: Budget

    def read(self, tensor: TensorProto, name: str, *, allow_infinite: bool = False) -> Constant:
        """Return a tensor's values: float32 for every real type, integers as they are.

        Args:
            tensor: as it is in the file.
            name: for errors.
            allow_infinite: accept infinities, which constant arithmetic may use; NaN never.

        Raises:
            ModelError: damaged, too large, NaN or infinite, external data missing.
            UnsupportedError: strings, complex numbers, quantized element types.
        """
        where = f"{self.file}: tensor '{label(name)}'"
        type_ = tensor.data_type
        if type_ not in _REAL_TYPES | _INTEGER_TYPES:
            raise self._unsupported(where, type_)
        shape = tuple(tensor.dims)
        size = math.prod(shape)
        if any(n < 0 for n in shape):
            raise ModelError(where, f"has the negative shape {shape}", "export the model again")
        if not self.budget.spend(size):
            raise ModelError(
                where,
                f"has the shape {shape}; a model may have {MAX_ELEMENTS:,} constants in all",
                "compile a smaller network: no board has the flash for this one",
            )
        if tensor.data_location == TensorProto.EXTERNAL:
            local = TensorProto(data_type=type_, dims=shape, raw_data=self._external(tensor, where))
        else:
            local = tensor
        try:
            values = numpy_helper.to_array(local)
            values = values.astype(np.float32) if type_ in _REAL_TYPES else values
        except (ValueError, TypeError, OverflowError) as error:
            raise ModelError(
                where, f"does not hold the {size:,} values of its shape {shape}", "export or copy the model again"
            ) from error
        bad = np.isnan(values) if allow_infinite else ~np.isfinite(values)
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ModelError(
                where, f"holds {values[index]} at {list(index)} (as float32)", "re-train or repair the model"
            )
        return values

    def _unsupported(self, where: str, type_: int) -> ModelError | UnsupportedError:
        names = {number: name for name, number in TensorProto.DataType.items()}
        if type_ not in names or type_ == TensorProto.UNDEFINED:
            return ModelError(where, f"has no known element type ({type_})", "export or copy the model again")
        fix = _UNSUPPORTED_TYPE_FIXES.get(type_, "export the model in float: mcucompile quantizes it itself")
        return UnsupportedError(where, f"holds {names[type_].lower()} values", fix)

    def _external(self, tensor: TensorProto, where: str) -> bytes:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if self.folder is None:
            raise ModelError(where, "lies in another file, but the model has no folder", "load the model from a path")
        try:
            offset, length = int(entries.get("offset", "0")), int(entries.get("length", "-1"))
            folder = self.folder.resolve()
            path = (folder / location).resolve()
            if not location or not path.is_relative_to(folder):
                raise ModelError(
                    where,
                    f"points outside of the model's folder ('{label(location)}')",
                    "keep external data beside the model file",
                )
            if not path.is_file():
                raise ModelError(
                    where,
                    f"lies in '{label(location)}', which does not exist beside the model",
                    "copy the external data file together with the model",
                )
            with path.open("rb") as stream:
                stream.seek(offset)
                # Without a length, the rest of the file; never more than any tensor may have.
                data: bytes = stream.read(length if 0 <= length <= MAX_FILE_BYTES else MAX_FILE_BYTES)
                return data
        except (OSError, ValueError, OverflowError) as error:
            raise ModelError(
                where, f"lies in '{label(location)}', which cannot be read", "copy the external data file again"
            ) from error


def _check_text(message: Message) -> None:
    """Raise DecodeError for a string that is no UTF-8: protobuf itself only hands it out as bytes."""
    for descriptor, value in message.ListFields():
        values = (value,) if isinstance(value, str | bytes | Message) else value
        if descriptor.type == FieldDescriptor.TYPE_MESSAGE:
            for child in values:
                _check_text(child)
        elif descriptor.type == FieldDescriptor.TYPE_STRING and not all(isinstance(text, str) for text in values):
            raise DecodeError(f"{descriptor.name} is not UTF-8")
