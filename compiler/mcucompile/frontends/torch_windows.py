"""Pooling and reductions of torch."""

from mcucompile.errors import ModelError
from mcucompile.frontends import windows
from mcucompile.frontends.builder import Activation, Builder, Value
from mcucompile.frontends.convolution import Slide
from mcucompile.frontends.refusals import RefusalError
from mcucompile.frontends.torch_call import Call, Converter


def _window(call: Call, spatial: int) -> tuple[Activation, tuple[int, ...], Slide]:
    x = call.activation()
    if len(x.shape) != spatial + 2:
        raise ModelError(call.source, f"pools {x.shape}", "give it a batch of images: (n, channels, *spatial)")
    kernel = _each(call, "kernel_size", spatial)
    strides = _each(call, "stride", spatial) or kernel
    padding = _each(call, "padding", spatial)
    dilations = _each(call, "dilation", spatial) if "dilation" in call.arguments else (1,) * spatial
    return x, kernel, Slide(strides, dilations, padding, padding)


def _each(call: Call, name: str, count: int) -> tuple[int, ...]:
    """Return a list of one number for each spatial axis; torch lets one stand for all."""
    values = call.integers(name) if call.arguments[name] is not None else ()
    return values * count if len(values) == 1 else values


def _max_pool(spatial: int) -> Converter:
    def convert(call: Call, builder: Builder) -> Value:
        x, kernel, slide = _window(call, spatial)
        return windows.max_pool(builder, x, kernel, slide, ceil=bool(call.arguments["ceil_mode"]))

    return convert


def _average_pool(spatial: int) -> Converter:
    def convert(call: Call, builder: Builder) -> Value:
        if call.arguments.get("divisor_override") is not None:
            raise RefusalError("has a divisor of its own", "scale its output instead")
        x, kernel, slide = _window(call, spatial)
        counts, ceil = bool(call.arguments["count_include_pad"]), bool(call.arguments["ceil_mode"])
        return windows.average_pool(builder, x, kernel, slide, ceil=ceil, count_padding=counts)

    return convert


def _adaptive_average_pool(spatial: int) -> Converter:
    def convert(call: Call, builder: Builder) -> Value:
        x, wanted = call.activation(), _each(call, "output_size", spatial)
        if len(x.shape) != spatial + 2:
            raise ModelError(call.source, f"pools {x.shape}", "give it a batch of images: (n, channels, *spatial)")
        if set(wanted) == {1}:
            return windows.global_pool(builder, x, "mean")
        extents = x.shape[2:]
        if any(n < 1 or extent % n for extent, n in zip(extents, wanted, strict=True)):
            raise RefusalError(f"pools {extents} to {wanted} by windows of different sizes", "use sizes that divide")
        kernel = tuple(extent // n for extent, n in zip(extents, wanted, strict=True))
        zero, one = (0,) * spatial, (1,) * spatial
        return windows.average_pool(builder, x, kernel, Slide(kernel, one, zero, zero), ceil=False, count_padding=False)

    return convert


def _reduce(function: str) -> Converter:
    def convert(call: Call, builder: Builder) -> Value:
        x = call.activation()
        given = call.integers("dim") if call.arguments.get("dim") is not None else ()
        axes = [call.normalised(axis, len(x.shape)) for axis in given] or range(len(x.shape))
        return windows.reduce(builder, x, axes, function, keep=bool(call.arguments.get("keepdim", False)))

    return convert


CONVERTERS: dict[str, Converter] = {
    "aten::_adaptive_avg_pool2d": _adaptive_average_pool(2),
    "aten::adaptive_avg_pool1d": _adaptive_average_pool(1),
    "aten::adaptive_avg_pool2d": _adaptive_average_pool(2),
    "aten::amax": _reduce("max"),
    "aten::amin": _reduce("min"),
    "aten::avg_pool1d": _average_pool(1),
    "aten::avg_pool2d": _average_pool(2),
    "aten::max_pool1d": _max_pool(1),
    "aten::max_pool2d": _max_pool(2),
    "aten::max_pool2d_with_indices": _max_pool(2),
    "aten::mean": _reduce("mean"),
    "aten::sum": _reduce("sum"),
}
