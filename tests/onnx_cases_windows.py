"""Uses of the ONNX operators that pool and reduce."""

from typing import Any

import numpy as np
import onnx
from models_factory import Case, make_model, node

_IMAGE = (2, 3, 8, 7)


def _plain(op_type: str, shape: tuple[int, ...], oldest: int = 7, newest: int = 1000, **attributes: Any) -> Case:
    """An operator with attributes only."""
    return Case(
        lambda opset, _random: make_model([node(op_type, "x", **attributes)], shape, opset=opset),
        shape,
        oldest,
        newest,
    )


def _reduced(op_type: str, shape: tuple[int, ...], axes: list[int] | None, **attributes: Any) -> Case:
    """A reduction: axes are an attribute before opset 18 (ReduceSum: 13), then an input."""

    def model(opset: int, _random: np.random.Generator) -> onnx.ModelProto:
        first = 13 if op_type == "ReduceSum" else 18
        if axes is None:
            return make_model([node(op_type, "x", **attributes)], shape, opset=opset)
        if opset < first:
            return make_model([node(op_type, "x", axes=axes, **attributes)], shape, opset=opset)
        constants = {"a": np.array(axes, dtype=np.int64)}
        return make_model([node(op_type, "x a", **attributes)], shape, constants, opset=opset)

    oldest = 11 if axes and min(axes) < 0 else 18 if "noop_with_empty_axes" in attributes else 7
    return Case(model, shape, oldest)


_REDUCTIONS = (
    "ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare",
    "ReduceLogSumExp",
)  # fmt: skip


def _log_sum(opset: int, _random: np.random.Generator) -> onnx.ModelProto:
    return make_model([node("Abs", "x", "a"), node("ReduceLogSum", "a")], (2, 3, 4), opset=opset)


WINDOW_CASES: dict[str, Case] = {
    "max_pool": _plain("MaxPool", _IMAGE, kernel_shape=[2, 2], strides=[2, 2]),
    "max_pool_1d": _plain("MaxPool", (1, 3, 9), kernel_shape=[3], strides=[2], pads=[1, 1]),
    "max_pool_pads": _plain("MaxPool", _IMAGE, kernel_shape=[3, 2], strides=[1, 2], pads=[1, 0, 2, 1]),
    "max_pool_ceil": _plain("MaxPool", _IMAGE, 10, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "max_pool_ceil_pads": _plain(
        "MaxPool", _IMAGE, 10, kernel_shape=[2, 2], strides=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1
    ),
    "max_pool_dilations": _plain("MaxPool", _IMAGE, 10, kernel_shape=[2, 3], dilations=[3, 2], pads=[1, 1, 0, 1]),
    **{
        f"{op.lower()}_{automatic.lower()}": _plain(
            op, _IMAGE, kernel_shape=[3, 4], strides=[2, 3], auto_pad=automatic
        )
        for op in ("MaxPool", "AveragePool")
        for automatic in ("SAME_UPPER", "SAME_LOWER", "VALID")
    },
    "average_pool": _plain("AveragePool", _IMAGE, kernel_shape=[2, 2], strides=[2, 2]),
    "average_pool_1d": _plain("AveragePool", (1, 3, 9), kernel_shape=[3], pads=[1, 1]),
    "average_pool_pads": _plain("AveragePool", _IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 2, 1, 1]),
    "average_pool_count": _plain(
        "AveragePool", _IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 2, 1, 1], count_include_pad=1
    ),
    "average_pool_ceil": _plain("AveragePool", _IMAGE, 10, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "average_pool_ceil_pads": _plain(
        "AveragePool", _IMAGE, 19, kernel_shape=[3, 3], strides=[3, 2], pads=[1, 1, 1, 1], ceil_mode=1
    ),
    "average_pool_ceil_count": _plain(
        "AveragePool", _IMAGE, 19, kernel_shape=[3, 3], strides=[3, 2], pads=[1, 1, 1, 1], ceil_mode=1,
        count_include_pad=1,
    ),
    "average_pool_dilations": _plain(
        "AveragePool", _IMAGE, 19, kernel_shape=[2, 3], dilations=[3, 2], pads=[1, 1, 0, 1]
    ),
    "global_average_pool": _plain("GlobalAveragePool", _IMAGE),
    "global_average_pool_1d": _plain("GlobalAveragePool", (1, 4, 5)),
    "global_average_pool_3d": _plain("GlobalAveragePool", (1, 4, 3, 2, 3)),
    "global_max_pool": _plain("GlobalMaxPool", _IMAGE),
    **{f"{op.lower()}_all": _reduced(op, (2, 3, 4), None) for op in _REDUCTIONS},
    **{f"{op.lower()}_middle": _reduced(op, (2, 3, 4), [1], keepdims=0) for op in _REDUCTIONS},
    "reduce_log_sum": Case(_log_sum, (2, 3, 4)),
    "reduce_log_sum_exp_apart": _reduced("ReduceLogSumExp", (2, 3, 4), [0, 2]),
    "reduce_product_odd": _reduced("ReduceProd", (2, 7), [1], keepdims=0),
    "lp_pool": _plain("LpPool", _IMAGE, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]),
    "lp_pool_1": _plain("LpPool", (1, 3, 9), kernel_shape=[3], p=1),
    "lp_pool_3": _plain("LpPool", (1, 3, 9), kernel_shape=[3], p=3),
    "global_lp_pool": _plain("GlobalLpPool", _IMAGE, newest=21),
    "global_lp_pool_3": _plain("GlobalLpPool", _IMAGE, newest=21, p=3),
    "reduce_mean_last": _reduced("ReduceMean", (2, 3, 4), [-1]),
    "reduce_mean_image": _reduced("ReduceMean", _IMAGE, [2, 3], keepdims=0),
    "reduce_mean_apart": _reduced("ReduceMean", _IMAGE, [1, 3]),
    "reduce_max_apart": _reduced("ReduceMax", _IMAGE, [2, 0], keepdims=0),
    "reduce_sum_ones": _reduced("ReduceSum", (1, 3, 1), [0, 2], keepdims=0),
    "reduce_l1_ones": _reduced("ReduceL1", (1, 3, 1), [0, 2]),
    "reduce_sum_nothing": _reduced("ReduceSum", (2, 3), None, noop_with_empty_axes=1),
}  # fmt: skip
