"""Element-wise functions as both front-ends' operators mean them."""

import math

from mcucompile.frontends.builder import Activation, Builder
from mcucompile.frontends.refusals import RefusalError
from mcucompile.ops import Clip, Lookup
from mcucompile.ops.formula import Formula, applied


def function(builder: Builder, x: Activation, name: str, *parameters: float) -> Activation:
    """Return a function of FUNCTIONS, element by element."""
    return formula(builder, x, applied(name, *parameters))


def formula(builder: Builder, x: Activation, steps: Formula) -> Activation:
    """Return a formula of one activation, element by element."""
    builder.require_real(x)
    if not all(math.isfinite(parameter) for step in steps for parameter in step.parameters):
        raise RefusalError("has a parameter that is no finite number", "export the model again")
    return builder.emit(Lookup, (x,), formula=steps)


def clip(builder: Builder, x: Activation, low: float, high: float) -> Activation:
    """min(max(x, low), high); infinite limits limit nothing."""
    builder.require_real(x)
    if math.isnan(low) or math.isnan(high):
        raise RefusalError(f"clamps to {low}..{high}", "clamp to numbers")
    if (low, high) == (0.0, math.inf):
        return builder.relu(x)
    return x if (low, high) == (-math.inf, math.inf) else builder.emit(Clip, (x,), low=low, high=high)


def power(builder: Builder, x: Activation, exponent: float) -> Activation:
    """X to a constant power; whole and half ones by functions that are exact where pow is not."""
    if exponent == 1:
        return x
    if exponent in (0.5, -1):
        return function(builder, x, "sqrt" if exponent == 0.5 else "reciprocal")
    return function(builder, x, "power", exponent)
