"""The encoded weights that an operator holds, whatever its kind."""

from dataclasses import fields

from mcucompile.encodings import Weights
from mcucompile.ir import Op


def weights_of(op: Op) -> tuple[Weights, ...]:
    """Return the encoded weights among an operator's fields."""
    values = (getattr(op, field.name) for field in fields(op))
    return tuple(value for value in values if isinstance(value, Weights))
