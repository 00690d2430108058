"""One call of a torch operator as its converter sees it: arguments by name, tensors as constants or activations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends.builder import Activation, Builder, Constant, Kind, Value
from mcucompile.frontends.refusals import RefusalError
from mcucompile.ir import Source


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call of an operator whose inputs are known.

    Attributes:
        source: where it is in the user's module.
        arguments: by the name in the operator's schema; tensors are values, numbers are numbers.
        is_real: the output's element type is a floating-point one.
        keeps_type: the output's element type is the first argument's.
    """

    source: Source
    arguments: Mapping[str, Any]
    is_real: bool
    keeps_type: bool

    def value(self, name: str) -> Value:
        """Return a tensor or number; integers become reals where torch promotes them."""
        value = self.arguments[name]
        if isinstance(value, Activation):
            return value.as_real() if self.is_real and value.kind is Kind.BYTES else value
        return np.asarray(value)

    def activation(self, name: str = "self") -> Activation:
        """Return a tensor that depends on the module's input."""
        value = self.value(name)
        if isinstance(value, Activation):
            return value
        raise RefusalError(f"its '{name}' is a constant", "give the module's input there")

    def constant(self, name: str) -> Constant:
        """Return a constant tensor or number."""
        value = self.value(name)
        if isinstance(value, Activation):
            raise RefusalError(f"its '{name}' is computed while the model runs", "make it a parameter or a buffer")
        return value

    def optional_constant(self, name: str, default: float, length: int) -> Constant:
        """Return a constant tensor, or one filled with a default where it is absent."""
        return np.full(length, default) if self.arguments[name] is None else self.constant(name)

    def integers(self, name: str) -> tuple[int, ...]:
        """Return a list of whole numbers."""
        value = self.arguments[name]
        values = value if isinstance(value, Sequence) else [value]
        if not all(isinstance(n, int) for n in values):
            raise RefusalError(f"its '{name}' is computed while the model runs", "use a constant there")
        return tuple(values)

    def axis(self, name: str, rank: int) -> int:
        """Return an axis, counted from the front."""
        (axis,) = self.integers(name)
        return self.normalised(axis, rank)

    def normalised(self, axis: int, rank: int) -> int:
        """Count an axis from the front, or raise ModelError."""
        if not -max(rank, 1) <= axis < max(rank, 1):
            raise ModelError(self.source, f"uses axis {axis} of {rank} axes", "export the module again")
        return axis % max(rank, 1)


# Returns the call's output, or all of them.
Converter = Callable[[Call, Builder], Value | tuple[Value, ...]]
