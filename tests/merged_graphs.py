"""Many integer graphs as one model, so that one build and one run in an emulator compare all their layers."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from mcucompile.ir import Array, Format, Graph, Op, Source, Tensor, verify
from mcucompile.numerics import Requantization
from mcucompile.ops import IntegerAffine, IntegerLookup, Reshape, Take

SOURCE = Source("test", "node", "Merged")
# Bytes that all graphs read, and what becomes of them for one that wants more.
INPUT_BYTES = 1024
_BYTES = Format(8, False)
Add = Callable[[Op, Format], str]


def merged(graphs: Sequence[Graph], name: str = "net") -> Graph:
    """Return one graph of uint8 (1, INPUT_BYTES) that runs all of them on these bytes, brought to their formats.

    Layer j of graph i is called g<i>_<its name>. Graphs of inputs alike stand together and share what brings it.
    """
    tensors = {"x": Tensor("x", (1, INPUT_BYTES), _BYTES)}
    ops: list[Op] = []

    def add(op: Op, format_: Format) -> str:
        ops.append(op)
        shapes = (tensors[read].shape for read in op.inputs)
        tensors[op.output] = Tensor(op.output, op.output_shape(*shapes), format_)
        return op.output

    brought: dict[tuple[object, ...], str] = {}
    for number, graph in sorted(enumerate(graphs), key=lambda pair: _key(pair[1])):
        key = _key(graph)
        if key not in brought:
            # What only the graphs before read needs no memory from here on.
            brought = {key: _bring(graph.input, number, tensors, add)}
        view = f"g{number}_in"
        fields = {"name": view, "output": view, "source": SOURCE}
        add(Reshape(inputs=(brought[key],), shape=graph.input.shape, **fields), graph.input.stored)  # type: ignore[arg-type]
        names = {graph.inputs[0]: view}
        for op in graph.ops:
            names[op.output] = f"g{number}_{op.output}"
            inputs = tuple(names[read] for read in op.inputs)
            new = replace(op, name=f"g{number}_{op.name}", inputs=inputs, output=names[op.output])
            add(new, graph.tensors[op.output].stored)
    return verify(Graph(name, ("x",), (ops[-1].output,), tensors, tuple(ops), SOURCE))


def merged_inputs(random_inputs: int) -> Array:
    """Return inputs of a merged graph: every byte in turn, the ends by turns, each edge alone, and random ones."""
    turn = np.arange(INPUT_BYTES) * 37 % 256
    ends = np.where(np.arange(INPUT_BYTES) % 2, 0, 255)
    edges = [np.full(INPUT_BYTES, code) for code in (0, 127, 128, 255)]
    random = np.random.default_rng(9).integers(0, 256, (random_inputs, INPUT_BYTES))
    return np.concatenate([np.stack([turn, ends, *edges]), random])[:, None, :]


def _key(graph: Graph) -> tuple[object, ...]:
    stored = graph.input.stored
    return (graph.input.size, stored.bits, stored.minimum, stored.maximum)


def _bring(wanted: Tensor, number: int, tensors: dict[str, Tensor], add: Add) -> str:
    """Return the tensor of all bytes brought to a format, of which as many are taken as are wanted.

    If there are too few, they are taken again from the start.
    """
    format_ = wanted.stored
    name = f"in_{format_.bits}_{format_.minimum}_{format_.maximum}".replace("-", "m")
    if name not in tensors:
        add(_convert(name, format_), format_)
    places = tuple(i % INPUT_BYTES for i in range(wanted.size))
    take = f"in{number}"
    return add(Take(name=take, inputs=(name,), output=take, source=SOURCE, indices=((0,), places)), format_)


def _convert(name: str, format_: Format) -> Op:
    low, high = format_.minimum, format_.maximum
    if format_.bits == 8:
        # What is beyond the ends becomes them.
        table = np.clip(np.arange(256) - (128 if format_.signed else 0), low, high)
        return IntegerLookup(name=name, inputs=("x",), output=name, source=SOURCE, table=table, first=0)
    # Neighbours get other low bytes.
    offset = low + np.arange(INPUT_BYTES) * 29 % 256 - 128
    ones = np.ones(INPUT_BYTES, np.int64)
    requantize = Requantization(257 * ones[:1], offset, 0 * ones[:1], low, high)
    return IntegerAffine(name=name, inputs=("x",), output=name, source=SOURCE, sign=ones, requantize=requantize, axis=1)
