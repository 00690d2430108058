"""Elements of one tensor written into another at constant places."""

import math

import numpy as np

from mcucompile.errors import ModelError
from mcucompile.frontends import movement
from mcucompile.frontends.builder import Activation, Builder, Constant, Value
from mcucompile.frontends.refusals import RefusalError, constants_only
from mcucompile.ir import Shape

Places = tuple[Constant, ...]


def scatter(builder: Builder, data: Value, places: Places, updates: Value, reduction: str = "none") -> Activation:
    """Write updates into data, the later of two at one place.

    Args:
        builder: gets the operators.
        data: any shape.
        places: numpy's advanced index, one array for each leading axis of data, negative ones from the end.
        updates: of the shape that data[places] has.
        reduction: "none" replaces; "add" and "mul" combine with what is there, updates then being constant.
    """
    count, extra = math.prod(data.shape), math.prod(updates.shape)
    movement.require_lengths((count + extra,))
    try:
        chosen = np.arange(count).reshape(data.shape)
        if chosen[places].shape != updates.shape:
            raise IndexError
        chosen[places] = count + np.arange(extra).reshape(updates.shape)
    except IndexError as error:
        raise ModelError(
            builder.source,
            f"writes {updates.shape} to places that {data.shape} does not have",
            "export the model again",
        ) from error
    if reduction == "none":
        parts = [_flat(builder, value) for value in (data, updates)]
        return movement.rearranged(builder, movement.concat(builder, parts, 0), chosen)
    if reduction not in ("add", "mul") or isinstance(updates, Activation):
        raise RefusalError(f"combines by '{reduction}' with what is there", "use none, or add or mul with constants")
    if not isinstance(data, Activation):
        raise constants_only()
    factor, offset = np.ones(data.shape), np.zeros(data.shape)
    if reduction == "add":
        np.add.at(offset, places, updates)
    else:
        np.multiply.at(factor, places, updates)
    return builder.affine(data, factor, offset)


def places_along(indices: Constant, axis: int) -> Places:
    """Return the places that indices name along one axis, each at its own position on the others."""
    grid = [np.asarray(positions) for positions in np.indices(indices.shape)]
    return (*grid[:axis], indices, *grid[axis + 1 :])


def cache_places(shape: Shape, updates: Shape, starts: Constant, axis: int, *, circular: bool) -> Places:
    """Return where updates go in a cache, each sample's (axis 0) from its own start along an axis."""
    positions = [np.asarray(place) for place in np.indices(updates)]
    along = positions[axis] + starts.reshape(-1, *(1,) * (len(updates) - 1))
    return (*positions[:axis], along % shape[axis] if circular else along, *positions[axis + 1 :])


def _flat(builder: Builder, value: Value) -> Value:
    if isinstance(value, Activation):
        return builder.reshape(value, (math.prod(value.shape),))
    return value.reshape(-1)
