"""How a function of activations is computed: by a table, or by CORDIC."""

from mcucompile.ir import Op
from mcucompile.ops.cordic_function import CordicExponentials, IntegerCordic
from mcucompile.ops.log_softmax import IntegerLogSoftmax
from mcucompile.ops.lookup import IntegerInterpolation, IntegerLookup
from mcucompile.ops.recurrent import IntegerRecurrent
from mcucompile.ops.softmax import IntegerSoftmax

# By its name on the command line: whether it is CORDIC.
ACTIVATION_METHODS = {"table": False, "cordic": True}


def activation_method(op: Op) -> str | None:
    """Return "table" or "cordic" for an integer operator that computes a function, None for others."""
    match op:
        case IntegerCordic():
            return "cordic"
        case IntegerSoftmax() | IntegerLogSoftmax():
            return "cordic" if isinstance(op.exponentials, CordicExponentials) else "table"
        case IntegerLookup() | IntegerInterpolation() | IntegerRecurrent():
            return "table"
    return None
