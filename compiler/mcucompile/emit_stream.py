"""What the C of layers that run row by row is made from: places, steps and turns of their rings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mcucompile.ir import Graph, RowAccess
from mcucompile.kernels import Layer
from mcucompile.plan import Arena, PlannedLayer
from mcucompile.plan.stream import Stream, sums_of


@dataclass(frozen=True, slots=True)
class Counter:
    """A variable that walks through a tensor or a ring, in elements.

    Attributes:
        name: in C.
        start: its first value.
        step: added for each row.
        turn: where it begins again from 0, 0 for never.
    """

    name: str
    start: int
    step: int
    turn: int

    @property
    def moves(self) -> bool:
        """Whether it is ever anything but 0."""
        return self.start != 0 or self.step != 0

    def after(self, place: str) -> str:
        """Return, in C, the place that is so many elements after another."""
        return f"{place} + {self.name}" if self.moves else place


def row_form(layer: Layer, stream: Stream) -> Layer:
    """Return a layer as its kernel sees it when it runs row by row.

    An element-wise layer becomes the same layer over an image of one row; a window is told of its ring.
    """
    op = layer.op
    ring = stream.rings.get(ring_of(stream, op.inputs[0]))
    if not op.is_elementwise:
        return replace(layer, ring_rows=ring.rows if ring else 0)
    shapes = tuple((1, 1, *shape[2:]) for shape in layer.shapes)
    return replace(layer, shapes=shapes, output_shape=(1, 1, *layer.output_shape[2:]), ring_rows=0)


def ring_of(stream: Stream, tensor: str) -> str:
    """Return the tensor in whose ring a tensor lies: its own, if it has one."""
    while tensor in stream.shared:
        tensor = stream.shared[tensor]
    return tensor


def stream_context(
    graph: Graph,
    arena: Arena,
    stream: Stream,
    planned: Sequence[PlannedLayer],
    layers: Sequence[Mapping[str, Any]],
) -> Mapping[str, Any]:
    """Return what the template of a stream needs.

    Args:
        graph: of integers.
        arena: its plan.
        stream: one of the arena's.
        planned: all layers of the graph.
        layers: the template's view of them: name, arguments, row_arguments, y_type.
    """
    chosen = range(stream.first, stream.last + 1)
    described = [_layer(graph, arena, stream, planned[i].layer, i, layers[i]) for i in chosen]
    texts = " ".join(argument for layer in described for argument in layer["arguments"]).split()
    return {
        "name": f"{graph.name}_rows_{stream.first}",
        "order": stream.order,
        "layers": described,
        "title": f"Layers {layers[stream.first]['short']} to {layers[stream.last]['short']} row by row",
        "reads_input": "in" in texts,
        "writes_output": "out" in texts,
    }


def _layer(
    graph: Graph, arena: Arena, stream: Stream, layer: Layer, index: int, described: Mapping[str, Any]
) -> Mapping[str, Any]:
    op = layer.op
    access = op.row_access(*layer.shapes)
    if access is None:
        raise TypeError(f"{op.kind} cannot run row by row")
    prefix = f"layer_{index}"
    *inputs, output = described["arguments"]
    sums = bool(access.state_bytes)
    moved = _to(graph, stream, op.output, f"{prefix}_to")
    target = moved.after(output)
    counters: list[Counter] = []
    if op.is_elementwise:
        row = math.prod(layer.output_shape[2:])
        counters = [_from(stream, name, f"{prefix}_from_{i}", access, row) for i, name in enumerate(op.inputs)]
        arguments = [*(counter.after(place) for place, counter in zip(inputs, counters, strict=True)), target]
    elif sums:
        by_row = replace(access, stride=1, before=0)
        counters = [_from(stream, op.inputs[0], f"{prefix}_from", by_row, described["input_row"])]
        counters.append(Counter(f"{prefix}_row", 0, 1, access.stride))
        offset = arena.buffers[sums_of(op.output)].offset
        place = f"(int32_t *)(arena + {offset})" if offset else "(int32_t *)arena"
        arguments = [counters[0].after(inputs[0]), target, place, f"(uint32_t){prefix}_row"]
    else:
        walks = {
            "offset": _from(stream, op.inputs[0], f"{prefix}_from", access, described["input_row"]),
            "top": Counter(f"{prefix}_top", -access.before, access.stride, 0),
            "row": Counter(f"{prefix}_row", 0, 1, 0),
        }
        counters = [walks[argument] for argument in described["row_arguments"]]
        texts = {name: counter.name if counter.moves else "0" for name, counter in walks.items()}
        texts["row"] = f"(uint32_t){prefix}_row"
        arguments = [inputs[0], target, *(texts[argument] for argument in described["row_arguments"])]
    return {
        "index": index,
        "name": described["name"],
        "short": described["short"],
        "arguments": arguments,
        "result": target,
        "row_bytes": graph.tensors[op.output].bytes // access.rows,
        "readers": [counter for counter in counters if counter.moves],
        "moved": moved,
        # What a layer sums up is complete, and its output moves on, when this is back at 0.
        "sums": f"{prefix}_row" if sums else "",
    }


def _to(graph: Graph, stream: Stream, tensor: str, name: str) -> Counter:
    row = math.prod(graph.tensors[tensor].shape[2:])
    ring = stream.rings.get(ring_of(stream, tensor))
    if ring is None:
        return Counter(name, 0, row, 0)
    return Counter(name, 0, row if ring.rows > 1 else 0, ring.rows * row)


def _from(stream: Stream, tensor: str, name: str, access: RowAccess, row: int) -> Counter:
    """row: elements from one row of the input to the next."""
    ring = stream.rings.get(ring_of(stream, tensor))
    if ring is None:
        return Counter(name, -access.before * row, access.stride * row, 0)
    return Counter(name, -access.before % ring.rows * row, access.stride % ring.rows * row, ring.rows * row)
