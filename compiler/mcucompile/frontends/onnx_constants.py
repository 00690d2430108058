"""Evaluates nodes whose inputs are all constants: the shape arithmetic that exporters put around Reshape."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from mcucompile.frontends.builder import MAX_ELEMENTS, Constant
from mcucompile.frontends.onnx_reader import Budget
from mcucompile.frontends.refusals import RefusalError

_Bound = Callable[[Sequence[Constant]], float]


def _total(inputs: Sequence[Constant]) -> float:
    return float(sum(values.size for values in inputs))


def _broadcast(inputs: Sequence[Constant]) -> float:
    rank = max((values.ndim for values in inputs), default=0)
    shapes = [(1,) * (rank - values.ndim) + values.shape for values in inputs]
    return float(math.prod(max(sizes) for sizes in zip(*shapes, strict=True)))


def _gathered(inputs: Sequence[Constant]) -> float:
    return float(inputs[0].size) * float(inputs[1].size)


def _of_shape(inputs: Sequence[Constant]) -> float:
    return math.prod(float(abs(n)) for n in inputs[0].reshape(-1))


def _expanded(inputs: Sequence[Constant]) -> float:
    return float(inputs[0].size) * max(math.prod(float(abs(n)) for n in inputs[1].reshape(-1)), 1.0)


def _tiled(inputs: Sequence[Constant]) -> float:
    return float(inputs[0].size) * math.prod(float(abs(n)) for n in inputs[1].reshape(-1))


def _padded(inputs: Sequence[Constant]) -> float:
    shape = inputs[0].shape
    pads = [float(abs(n)) for n in inputs[1].reshape(-1)]
    return math.prod((n + sum(pads) for n in shape), start=1.0)


def _ranged(inputs: Sequence[Constant]) -> float:
    start, limit, step = (float(values.reshape(-1)[0]) for values in inputs[:3])
    return abs((limit - start) / step) + 1 if step else math.inf


# Operators that may be evaluated, each with an upper bound of its output's size: a few bytes of a hostile
# file can ask for terabytes.
_BOUNDS: dict[str, _Bound] = {
    **dict.fromkeys(
        (
            "Abs", "Cast", "Ceil", "Concat", "Cos", "CumSum", "Exp", "Flatten", "Floor", "Identity", "IsInf", "IsNaN",
            "Log", "Neg", "Not", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
            "Reshape", "Round", "Shape", "Sign", "Sin", "Size", "Slice", "Sqrt", "Squeeze", "Transpose", "Trilu",
            "Softmax", "Tanh", "Unsqueeze",
        ),
        _total,
    ),
    **dict.fromkeys(
        (
            "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mod",
            "Mul", "Or", "Pow", "Sub", "Where", "Xor",
        ),
        _broadcast,
    ),
    "Gather": _gathered,
    "GatherElements": _total,
    "MatMul": lambda inputs: float(inputs[0].size) * float(inputs[1].size),
    "Pad": _padded,
    "ConstantOfShape": _of_shape,
    "Expand": _expanded,
    "Tile": _tiled,
    "Range": _ranged,
}  # fmt: skip


def can_evaluate(op_type: str) -> bool:
    """Return whether a standard operator is evaluated on constants."""
    return op_type in _BOUNDS


def evaluate(node: onnx.NodeProto, opset: int, inputs: Sequence[Constant | None], budget: Budget) -> Constant:
    """Return the first output of a standard operator on constants (onnx's reference implementation).

    Args:
        node: its operator is one of those that `can_evaluate`.
        budget: what is left to the model.
        opset: version of the standard domain.
        inputs: as in the node; None where an optional input is absent.

    Returns:
        Integers as the operator defines them, float32 for every real type.
    Raises:
        RefusalError: the output would be too large, or the inputs are not what the operator takes.
    """
    given = [values for values in inputs if values is not None]
    try:
        size = _BOUNDS[node.op_type](given)
        if not budget.spend(size):
            raise RefusalError(
                f"makes up to {size:.3g} constants, the model may have {MAX_ELEMENTS:,}", "use smaller constants"
            )
        single = onnx.NodeProto()
        single.CopyFrom(node)
        names = ["" if values is None else f"x{i}" for i, values in enumerate(inputs)]
        single.ClearField("input")
        single.input.extend(names)
        single.ClearField("output")
        single.output.append("y")
        graph = helper.make_graph(
            [single],
            "constant",
            [helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None) for name in names if name],
            [helper.make_tensor_value_info("y", onnx.TensorProto.UNDEFINED, None)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        with np.errstate(all="ignore"):
            feeds = dict(zip(filter(None, names), given, strict=True))
            (output,) = ReferenceEvaluator(model).run(None, feeds)
            values = np.asarray(output)
            # Every real constant is float32, as those that are read: the reference forbids mixed operands.
            return values if values.dtype.kind in "biu" else values.astype(np.float32)
    except RefusalError:
        raise
    except Exception as error:
        # The reference implementation raises whatever numpy raises on operands that do not fit.
        raise RefusalError(
            f"cannot be computed from its constants ({type(error).__name__})", "export the model again"
        ) from error
