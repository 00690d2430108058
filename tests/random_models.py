"""Random valid ONNX models of 1 to 8 layers for property-based tests: images, then perhaps rows of features."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
from hypothesis import strategies as st
from models_factory import Array, make_model, node

Draw = st.DrawFn
# Opsets in which every operator here has the form it is written in.
OPSETS = (13, 17, 21)
_RANGE = 6.0


@dataclass(frozen=True, slots=True)
class RandomModel:
    """A model with its input's shape and some inputs, (n, *shape)."""

    proto: onnx.ModelProto
    shape: tuple[int, ...]
    samples: Array


@dataclass(slots=True)
class _Network:
    """What is made so far: nodes, constants, and every tensor's shape in the order they were made."""

    draw: Draw
    random: np.random.Generator
    shapes: dict[str, tuple[int, ...]]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    @property
    def last(self) -> str:
        return next(reversed(self.shapes))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.shapes[self.last]

    def whole(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def one_of(self, *values: object) -> object:
        return self.draw(st.sampled_from(values))

    def constant(self, *shape: int, spread: float = 1.0) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = self.random.normal(0, spread, shape).astype(np.float32)
        return name

    def add(self, op_type: str, inputs: str, shape: tuple[int, ...], **attributes: object) -> None:
        output = f"t{len(self.nodes)}"
        self.nodes.append(node(op_type, inputs, output, **attributes))
        self.shapes[output] = shape


def _window(network: _Network, largest: int = 3) -> tuple[dict[str, list[int]], tuple[int, int]]:
    """Draw a window's attributes; return them and the output's rows and columns."""
    sizes = network.shape[2:]
    kernel = [network.whole(1, min(largest, size)) for size in sizes]
    strides = [network.whole(1, 2) for _ in sizes]
    pads = [network.whole(0, min(1, kernel[axis % 2] - 1)) for axis in range(4)]
    rows, columns = (
        (size + pads[axis] + pads[axis + 2] - kernel[axis]) // strides[axis] + 1 for axis, size in enumerate(sizes)
    )
    return {"kernel_shape": kernel, "strides": strides, "pads": pads}, (rows, columns)


def _conv(network: _Network) -> None:
    channels = network.shape[1]
    attributes, size = _window(network)
    groups = int(network.one_of(*(n for n in (1, 2, channels) if channels % n == 0)))
    outputs = groups * network.whole(1, max(1, 6 // groups))
    if network.draw(st.booleans()):
        reach = [2 * (n - 1) + 1 for n in attributes["kernel_shape"]]
        pads = attributes["pads"]
        if all(n + pads[axis] + pads[axis + 2] >= reach[axis] for axis, n in enumerate(network.shape[2:])):
            attributes["dilations"] = [2, 2]
            size = tuple(
                (n + pads[axis] + pads[axis + 2] - reach[axis]) // attributes["strides"][axis] + 1
                for axis, n in enumerate(network.shape[2:])
            )
    inputs = channels // groups
    taps = math.prod(attributes["kernel_shape"])
    weight = network.constant(outputs, inputs, *attributes["kernel_shape"], spread=1 / math.sqrt(inputs * taps))
    bias = f" {network.constant(outputs)}" if network.draw(st.booleans()) else ""
    network.add("Conv", f"{network.last} {weight}{bias}", (1, outputs, *size), group=groups, **attributes)


def _max_pool(network: _Network) -> None:
    attributes, size = _window(network)
    network.add("MaxPool", network.last, (*network.shape[:2], *size), **attributes)


def _average_pool(network: _Network) -> None:
    attributes, size = _window(network)
    counted = network.whole(0, 1)
    network.add("AveragePool", network.last, (*network.shape[:2], *size), count_include_pad=counted, **attributes)


def _global_pool(network: _Network) -> None:
    kind = str(network.one_of("GlobalAveragePool", "GlobalMaxPool"))
    network.add(kind, network.last, (*network.shape[:2], 1, 1))


def _batch_norm(network: _Network) -> None:
    channels = network.shape[1]
    names = [network.constant(channels) for _ in range(3)]
    variance = network.constant(channels)
    network.constants[variance] = np.abs(network.constants[variance]) + np.float32(0.5)
    network.add("BatchNormalization", " ".join([network.last, *names, variance]), network.shape)


def _flatten(network: _Network) -> None:
    network.add("Flatten", network.last, (1, math.prod(network.shape)), axis=1)


def _gemm(network: _Network) -> None:
    inputs, outputs = network.shape[1], network.whole(1, 9)
    transposed = network.whole(0, 1)
    shape = (outputs, inputs) if transposed else (inputs, outputs)
    weight = network.constant(*shape, spread=1 / math.sqrt(inputs))
    network.add("Gemm", f"{network.last} {weight} {network.constant(outputs)}", (1, outputs), transB=transposed)


def _softmax(network: _Network) -> None:
    network.add(str(network.one_of("Softmax", "LogSoftmax")), network.last, network.shape, axis=-1)


def _activation(network: _Network) -> None:
    kind = str(network.one_of("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "Elu", "Abs", "Neg", "Clip"))
    bounds = ""
    if kind == "Clip":
        low, high = network.constant(), network.constant()
        network.constants |= {low: np.float32(network.whole(-2, 0)), high: np.float32(network.whole(1, 6))}
        bounds = f" {low} {high}"
    network.add(kind, network.last + bounds, network.shape)


def _with_constant(network: _Network) -> None:
    channels = network.shape[1]
    shape = (channels, *[1] * (len(network.shape) - 2))
    network.add(str(network.one_of("Add", "Mul", "Sub")), f"{network.last} {network.constant(*shape)}", network.shape)


def _two(network: _Network) -> None:
    same = [name for name, shape in network.shapes.items() if shape == network.shape]
    kind = str(network.one_of("Add", "Sub", "Mul", "Max", "Min"))
    network.add(kind, f"{network.last} {network.one_of(*same)}", network.shape)


def _concat(network: _Network) -> None:
    rest = [name for name, shape in network.shapes.items() if shape[2:] == network.shape[2:]]
    other = str(network.one_of(*(name for name in rest if len(network.shapes[name]) == len(network.shape))))
    channels = network.shape[1] + network.shapes[other][1]
    network.add("Concat", f"{network.last} {other}", (1, channels, *network.shape[2:]), axis=1)


_ANY = (_activation, _activation, _with_constant, _two, _concat)
_OF_IMAGES: tuple[Callable[[_Network], None], ...] = (
    *_ANY, _conv, _conv, _conv, _max_pool, _average_pool, _global_pool, _batch_norm, _flatten,
)  # fmt: skip
_OF_ROWS: tuple[Callable[[_Network], None], ...] = (*_ANY, _gemm, _gemm, _softmax)


@st.composite
def random_models(draw: Draw) -> RandomModel:
    """Draw a model from float32 (1, c, h, w) or (1, n) and eight inputs for it."""
    is_image = draw(st.booleans()) or draw(st.booleans())
    shape = (1, *(draw(st.integers(1, limit)) for limit in ((4, 7, 7) if is_image else (12,))))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    network = _Network(draw, random, {"x": shape})
    for _ in range(draw(st.integers(1, 8))):
        layer = draw(st.sampled_from(_OF_IMAGES if len(network.shape) == 4 else _OF_ROWS))
        layer(network)
    proto = make_model(network.nodes, shape, network.constants, opset=draw(st.sampled_from(OPSETS)))
    samples = np.clip(random.normal(0, 2, (8, *shape)), -_RANGE, _RANGE).astype(np.float32)
    return RandomModel(proto, shape, samples)
