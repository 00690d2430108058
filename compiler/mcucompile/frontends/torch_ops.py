"""The table from ATen operators to the IR, before and after torch's decompositions.

A converter gets the call and the builder and returns the call's (first) output, or raises RefusalError.
Source of every rule: the operator's documentation at pytorch.org/docs.
"""

import math

from mcucompile.frontends import (
    arithmetic,
    torch_convolution,
    torch_elementwise,
    torch_movement,
    torch_normalization,
    torch_recurrent,
    torch_similarities,
    torch_windows,
)
from mcucompile.frontends.builder import Builder, Kind, Value
from mcucompile.frontends.refusals import RefusalError
from mcucompile.frontends.torch_call import Call, Converter


def _linear(call: Call, builder: Builder) -> Value:
    bias = None if call.arguments["bias"] is None else call.constant("bias")
    weight = call.constant("weight")
    return builder.dense(call.activation("input"), weight if weight.ndim == 2 else weight[None, :], bias)


def _addmm(call: Call, builder: Builder) -> Value:
    alpha, beta = float(call.arguments["alpha"]), float(call.arguments["beta"])
    return arithmetic.gemm(builder, call.value("mat1"), call.value("mat2"), call.value("self"), alpha, beta)


def _matmul(call: Call, builder: Builder) -> Value:
    other = "mat2" if "mat2" in call.arguments else "other"
    return arithmetic.matmul(builder, call.value("self"), call.value(other))


def _add(call: Call, builder: Builder) -> Value:
    other = arithmetic.scaled(builder, call.value("other"), float(call.arguments["alpha"]))
    return arithmetic.add(builder, call.value("self"), other)


def _subtract(call: Call, builder: Builder) -> Value:
    other = arithmetic.scaled(builder, call.value("other"), float(call.arguments["alpha"]))
    return arithmetic.subtract(builder, call.value("self"), other)


def _reverse_subtract(call: Call, builder: Builder) -> Value:
    own = arithmetic.scaled(builder, call.value("self"), float(call.arguments["alpha"]))
    return arithmetic.subtract(builder, call.value("other"), own)


def _multiply(call: Call, builder: Builder) -> Value:
    return arithmetic.multiply(builder, call.value("self"), call.value("other"))


def _divide(call: Call, builder: Builder) -> Value:
    if call.arguments.get("rounding_mode") is not None:
        raise RefusalError("rounds its quotient", "divide without a rounding_mode")
    return arithmetic.divide(builder, call.value("self"), call.value("other"))


def _negate(call: Call, builder: Builder) -> Value:
    return arithmetic.scaled(builder, call.activation(), -1.0)


def _relu(call: Call, builder: Builder) -> Value:
    return builder.relu(call.activation())


def _view(call: Call, builder: Builder) -> Value:
    x = call.activation()
    wanted = call.integers("size" if "size" in call.arguments else "shape")
    return builder.reshape(x, arithmetic.inferred_shape(call.source, x.shape, wanted))


def _flatten(call: Call, builder: Builder) -> Value:
    x = call.activation()
    rank = len(x.shape)
    start, end = call.axis("start_dim", rank), call.axis("end_dim", rank)
    return builder.reshape(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def _unflatten(call: Call, builder: Builder) -> Value:
    x = call.activation()
    axis = call.axis("dim", len(x.shape))
    sizes = arithmetic.inferred_shape(call.source, x.shape[axis : axis + 1], call.integers("sizes"))
    return builder.reshape(x, (*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))


def _permute(call: Call, builder: Builder) -> Value:
    x = call.activation()
    return builder.transpose(x, [call.normalised(axis, len(x.shape)) for axis in call.integers("dims")])


def _reverse_axes(call: Call, builder: Builder) -> Value:
    x = call.activation()
    return builder.transpose(x, range(len(x.shape))[::-1])


def _swap_axes(call: Call, builder: Builder) -> Value:
    x = call.activation()
    order = list(range(len(x.shape)))
    first, second = call.axis("dim0", len(order)), call.axis("dim1", len(order))
    order[first], order[second] = order[second], order[first]
    return builder.transpose(x, order)


def _squeeze(call: Call, builder: Builder) -> Value:
    x = call.activation()
    rank = len(x.shape)
    given = call.integers("dim") if "dim" in call.arguments else range(rank)
    dropped = {axis for axis in (call.normalised(axis, rank) for axis in given) if x.shape[axis] == 1}
    return builder.reshape(x, tuple(n for axis, n in enumerate(x.shape) if axis not in dropped))


def _unsqueeze(call: Call, builder: Builder) -> Value:
    x = call.activation()
    axis = call.axis("dim", len(x.shape) + 1)
    return builder.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def _batch_norm(call: Call, builder: Builder) -> Value:
    if call.arguments.get("training") or call.arguments.get("running_mean") is None:
        raise RefusalError("normalises with the batch's own statistics", "call module.eval() and track statistics")
    x = call.activation("input")
    mean, variance = call.constant("running_mean"), call.constant("running_var")
    scale = call.optional_constant("weight", 1.0, mean.size)
    bias = call.optional_constant("bias", 0.0, mean.size)
    return arithmetic.batch_norm(builder, x, scale, bias, mean, variance, float(call.arguments["eps"]))


def _arg_extreme(*, smallest: bool) -> Converter:
    def convert(call: Call, builder: Builder) -> Value:
        x = call.activation()
        keep = bool(call.arguments["keepdim"])
        if call.arguments["dim"] is not None:
            return builder.arg_max(x, call.axis("dim", len(x.shape)), keep=keep, smallest=smallest)
        flat = builder.reshape(x, (math.prod(x.shape),))
        index = builder.arg_max(flat, 0, keep=False, smallest=smallest)
        return builder.reshape(index, (1,) * len(x.shape)) if keep else index

    return convert


def _dropout(call: Call, _builder: Builder) -> Value:
    if call.arguments["train"]:
        raise RefusalError("is in training mode", "call module.eval()")
    return call.activation("input")


def _to_type(call: Call, _builder: Builder) -> Value:
    x = call.activation()
    if not (call.keeps_type or (call.is_real and x.kind is not Kind.INDEX)):
        raise RefusalError(f"changes the type of {x.kind.value}", "convert only the module's input, to float")
    return x


def _nothing(call: Call, _builder: Builder) -> Value:
    return call.activation()


def _four_view(call: Call, builder: Builder) -> Value:
    (zone_height,), (zone_width,) = call.integers("zone_height"), call.integers("zone_width")
    (shift,) = call.integers("shift")
    return builder.four_view(call.activation("images"), zone_height, zone_width, shift)


CONVERTERS: dict[str, Converter] = {
    "aten::_native_batch_norm_legit": _batch_norm,
    "aten::_native_batch_norm_legit_no_training": _batch_norm,
    "aten::_to_copy": _to_type,
    "aten::_unsafe_view": _view,
    "aten::add": _add,
    "aten::addmm": _addmm,
    "aten::alias": _nothing,
    "aten::argmax": _arg_extreme(smallest=False),
    "aten::argmin": _arg_extreme(smallest=True),
    "aten::batch_norm": _batch_norm,
    "aten::clone": _nothing,
    "aten::contiguous": _nothing,
    "aten::detach": _nothing,
    "aten::detach_": _nothing,
    "aten::div": _divide,
    "aten::dropout": _dropout,
    "aten::flatten": _flatten,
    "aten::linear": _linear,
    "aten::matmul": _matmul,
    "aten::bmm": _matmul,
    "aten::mm": _matmul,
    "aten::mul": _multiply,
    "aten::native_batch_norm": _batch_norm,
    "aten::neg": _negate,
    "aten::numpy_T": _reverse_axes,
    "aten::permute": _permute,
    "aten::relu": _relu,
    "aten::reshape": _view,
    "aten::rsub": _reverse_subtract,
    "aten::squeeze": _squeeze,
    "aten::sub": _subtract,
    "aten::t": _reverse_axes,
    "aten::to": _to_type,
    "aten::transpose": _swap_axes,
    "aten::unflatten": _unflatten,
    "aten::unsqueeze": _unsqueeze,
    "aten::view": _view,
    "mcucompile::four_view": _four_view,
    **torch_convolution.CONVERTERS,
    **torch_similarities.CONVERTERS,
    **torch_movement.CONVERTERS,
    **torch_windows.CONVERTERS,
    **torch_elementwise.CONVERTERS,
    **torch_normalization.CONVERTERS,
    **torch_recurrent.CONVERTERS,
}
_ADVICE = {
    **dict.fromkeys(("aten::log_softmax", "aten::_log_softmax"), "leave it out: it does not change the largest output"),
}


ADVICE = "build the module from Linear, convolutions, pooling, normalisations, element-wise functions and reshapes"
