"""One ONNX node as its converter sees it: attributes by name, inputs as constants or activations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from mcucompile.errors import ModelError
from mcucompile.frontends.builder import Activation, Builder, Constant, Value
from mcucompile.frontends.refusals import RefusalError
from mcucompile.ir import Source


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A node whose inputs are known.

    Attributes:
        source: where it is in the user's file.
        opset: version of the node's domain.
        attributes: by name, as Python values; tensors are arrays.
        inputs: None for an optional input that is absent.
        outputs: how many outputs the node has.
    """

    source: Source
    opset: int
    attributes: Mapping[str, Any]
    inputs: tuple[Value | None, ...]
    outputs: int = 1

    def activation(self, index: int = 0) -> Activation:
        """Return an input that depends on the graph's input."""
        value = self._input(index)
        if isinstance(value, Activation):
            return value
        raise RefusalError(
            "computes on constants only", "simplify the exported model (onnx-simplifier), or export it in eval mode"
        )

    def value(self, index: int) -> Value:
        """Return an input that must be there."""
        value = self._input(index)
        if value is None:
            raise ModelError(self.source, f"lacks its input {index}", "export the model again")
        return value

    def constant(self, index: int) -> Constant:
        """Return an input that must be a constant."""
        value = self.value(index)
        if isinstance(value, Activation):
            raise RefusalError(
                f"its input {index} is computed while the model runs", "export the model with a constant there"
            )
        return value

    def optional_constant(self, index: int) -> Constant | None:
        """Return an input that may be absent."""
        return None if self._input(index) is None else self.constant(index)

    def integers(self, index: int) -> tuple[int, ...]:
        """Return a constant list of whole numbers: a shape or axes."""
        values = self.constant(index)
        if values.ndim > 1 or values.size > 64 or values.dtype.kind not in "iu":
            raise ModelError(
                self.source, f"its input {index} is no short list of whole numbers", "export the model again"
            )
        return tuple(int(n) for n in np.atleast_1d(values))

    def integer(self, name: str, default: int | None = None) -> int:
        """Return an attribute that is a whole number."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise RefusalError(f"lacks the integer attribute '{name}'", f"set '{name}' on the node")
        return value

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is a string."""
        value = self.attributes.get(name, default)
        if isinstance(value, bytes):
            return value.decode("utf-8", errors="replace")
        if not isinstance(value, str):
            raise RefusalError(f"has an attribute '{name}' that is no string", "export the model again")
        return value

    def axis(self, default: int, rank: int, *, name: str = "axis") -> int:
        """Return an axis attribute, counted from the front."""
        return self.normalised(self.integer(name, default), rank)

    def normalised(self, axis: int, rank: int) -> int:
        """Count an axis from the front, or raise ModelError."""
        if not -rank <= axis < rank:
            raise ModelError(self.source, f"uses axis {axis} of {rank} axes", "export the model again")
        return axis % rank

    def _input(self, index: int) -> Value | None:
        return self.inputs[index] if index < len(self.inputs) else None


# Returns the node's first output, or all of them.
Converter = Callable[[Node, Builder], Value | tuple[Value, ...]]


def read_by(node: onnx.NodeProto) -> list[str]:
    """Return the tensors that a node reads, with those that graphs inside of it read from outside."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        inside = {value.name for value in (*attribute.g.input, *attribute.g.initializer)}
        for inner in attribute.g.node:
            names += [name for name in read_by(inner) if name not in inside]
            inside.update(inner.output)
        names += [value.name for value in attribute.g.output if value.name not in inside]
    return names
