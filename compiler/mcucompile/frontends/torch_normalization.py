"""Normalisations of torch."""

import numpy as np

from mcucompile.frontends import normalization
from mcucompile.frontends.builder import Builder, Constant, Value
from mcucompile.frontends.refusals import RefusalError
from mcucompile.frontends.torch_call import Call, Converter


def _constant(call: Call, name: str, default: float) -> Constant:
    return np.array(default) if call.arguments.get(name) is None else call.constant(name)


def _layer(call: Call, builder: Builder) -> Value:
    x = call.activation("input")
    first = len(x.shape) - len(call.integers("normalized_shape"))
    scale, bias = _constant(call, "weight", 1.0), _constant(call, "bias", 0.0)
    return normalization.layer_norm(builder, x, first, scale, bias, float(call.arguments["eps"]))


def _rms(call: Call, builder: Builder) -> Value:
    x = call.activation("input")
    first = len(x.shape) - len(call.integers("normalized_shape"))
    epsilon = call.arguments["eps"]
    # Torch's default is float32's own precision.
    epsilon = float(np.finfo(np.float32).eps) if epsilon is None else float(epsilon)
    return normalization.rms_norm(builder, x, first, _constant(call, "weight", 1.0), epsilon)


def _group(call: Call, builder: Builder) -> Value:
    x = call.activation("input")
    channels = x.shape[1] if len(x.shape) > 1 else 1
    scale, bias = (np.broadcast_to(_constant(call, *part), channels) for part in (("weight", 1.0), ("bias", 0.0)))
    (groups,) = call.integers("num_groups" if "num_groups" in call.arguments else "group")
    return normalization.group_norm(builder, x, groups, scale, bias, float(call.arguments["eps"]))


def _instance(call: Call, builder: Builder) -> Value:
    if not call.arguments["use_input_stats"]:
        raise RefusalError("normalises with stored statistics", "use BatchNorm, or do not track statistics")
    x = call.activation("input")
    channels = x.shape[1] if len(x.shape) > 1 else 1
    scale, bias = (np.broadcast_to(_constant(call, *part), channels) for part in (("weight", 1.0), ("bias", 0.0)))
    return normalization.instance_norm(builder, x, scale, bias, float(call.arguments["eps"]))


def _softmax(call: Call, builder: Builder) -> Value:
    x = call.activation()
    return builder.softmax(x, call.axis("dim", len(x.shape)))


def _log_softmax(call: Call, builder: Builder) -> Value:
    x = call.activation()
    return builder.softmax(x, call.axis("dim", len(x.shape)), logarithm=True)


CONVERTERS: dict[str, Converter] = {
    "aten::_log_softmax": _log_softmax,
    "aten::_softmax": _softmax,
    "aten::group_norm": _group,
    "aten::instance_norm": _instance,
    "aten::layer_norm": _layer,
    "aten::log_softmax": _log_softmax,
    "aten::native_group_norm": _group,
    "aten::native_layer_norm": _layer,
    "aten::rms_norm": _rms,
    "aten::softmax": _softmax,
}
