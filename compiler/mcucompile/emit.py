"""Turns a planned model into the text of its C files; writes nothing itself. The only importer of jinja2."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import jinja2

from mcucompile import __version__
from mcucompile.emit_stream import row_form, stream_context
from mcucompile.encodings import ENCODINGS
from mcucompile.ir import Graph, Tensor
from mcucompile.ops import (
    ArgMax,
    IntegerConv,
    IntegerDense,
    IntegerNormalize,
    IntegerRecurrent,
    activation_method,
    weights_of,
)
from mcucompile.plan import Arena, PlannedLayer
from mcucompile.resources import resource_dir
from mcucompile.similarities import SIMILARITIES


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Everything the C files of a model are made from.

    Attributes:
        graph: of integers.
        layers: in execution order, a kernel for each.
        arena: where intermediate tensors live.
        digest: 16 bytes that identify the model to the link.
        no_multiply: the compiler, too, must be kept from multiplying.
    """

    graph: Graph
    layers: tuple[PlannedLayer, ...]
    arena: Arena
    digest: bytes
    no_multiply: bool


@cache
def environment() -> jinja2.Environment:
    """Return the one Jinja environment: undefined names are errors, blocks leave no blank lines, HTML is escaped."""
    created = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resource_dir("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
    )
    created.filters["printable"] = printable
    # Tables can hold millions of values: loops over them are Python's, not the template's.
    created.filters["flat"] = lambda rows: tuple(chain.from_iterable(rows))
    created.filters["signed_bytes"] = lambda codes: tuple(code - 256 if code > 127 else code for code in codes)
    created.filters["lines"] = _lines
    return created


def emit_model(model: Model) -> dict[str, str]:
    """Return the model's C files by path relative to the project."""
    graph = model.graph
    names = layer_names(graph)
    layers = [_layer(model, i, names[i]) for i in range(len(model.layers))]
    streams = [stream_context(graph, model.arena, s, model.layers, layers) for s in model.arena.streams]
    reach = max((layer.get("reach", 0) for layer in layers), default=0)
    shared = {table.suffix: table for layer in layers for table in layer.get("shared_tables", ())}
    routines = {routine.suffix: routine for layer in layers for routine in layer.get("routines", ())}
    context = {
        "version": __version__,
        "model": graph.name,
        "no_multiply": model.no_multiply,
        "input": _interface(graph.input),
        "output": _interface(graph.result) | {"meaning": _meaning(graph)},
        "arena_bytes": model.arena.bytes,
        "layers": layers,
        "streams": streams,
        "steps": _steps(model, layers, streams),
        "hash_bytes": [f"0x{byte:02x}" for byte in model.digest],
        "headers": headers(model),
        "quarter_square_reach": reach,
        "shared_tables": tuple(shared.values()),
        "routines": tuple(routines.values()),
        "quarter_squares": tuple(n * n // 4 for n in range(-reach, reach + 1)) if reach else (),
    }
    files = {
        "include/model.h": "project/model.h.j2",
        "include/model_data.h": "project/model_data.h.j2",
        "src/model.c": "project/model.c.j2",
    }
    return {path: render(template, context) for path, template in files.items()}


def render(template: str, context: Mapping[str, object]) -> str:
    """Return a rendered template, without trailing spaces and with single blank lines."""
    text = environment().get_template(template).render(context)
    lines: list[str] = []
    for line in (raw.rstrip() for raw in text.splitlines()):
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).strip("\n") + "\n"


def printable(text: str) -> str:
    """Return text with whatever cannot be seen, or turns what follows around, written as an escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def layer_names(graph: Graph) -> tuple[str, ...]:
    """Return the C function of each layer: <model>_<layer>, unique."""
    names: dict[str, None] = {}
    for op in graph.layers:
        stem = name = f"{graph.name}_{c_identifier(op.name)}"
        number = len(names)
        while name in names or name == f"{graph.name}_run":
            name = f"{stem}_{number}"
            number += 1
        names[name] = None
    return tuple(names)


def c_identifier(text: str) -> str:
    """Return text with everything that a C identifier cannot hold replaced by one underscore."""
    kept = "".join(c if c.isascii() and c.isalnum() else " " for c in text.lower())
    return "_".join(kept.split()) or "layer"


def headers(model: Model) -> tuple[str, ...]:
    """Return the runtime headers the model includes, relative to runtime_c/, in the order of inclusion."""
    found = {"mcu_numerics.h"}
    for planned in model.layers:
        op = planned.layer.op
        found.update(planned.kernel.included)
        if activation_method(op) == "cordic":
            found.add("mcu_cordic.h")
        if isinstance(op, IntegerNormalize):
            found.add("mcu_normalize.h")
        if isinstance(op, IntegerRecurrent):
            found.add("mcu_recurrent.h")
        if isinstance(op, IntegerDense | IntegerConv | IntegerRecurrent):
            similarity = SIMILARITIES[op.similarity]
            found |= {similarity.header, *similarity.needs}
            if weights_of(op)[0].bits == 4:
                found.add("encoding/nibble.h")
            if planned.kernel.name == "shift":
                found.add("encoding/log.h")
    return tuple(sorted(found, key=lambda name: ("/" in name, name)))


def _lines(values: Sequence[int], per_line: int) -> str:
    """Return the lines between the braces of a table."""
    texts = [str(value) for value in values]
    return "\n".join(f"    {', '.join(texts[i : i + per_line])}," for i in range(0, len(texts), per_line))


def _steps(
    model: Model, layers: Sequence[Mapping[str, Any]], streams: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return the calls of one inference in their order: a layer, or a stream of layers."""
    steps: list[Mapping[str, Any]] = []
    begun = {stream.first: streams[k] for k, stream in enumerate(model.arena.streams)}
    for i, layer in enumerate(layers):
        if i in begun:
            steps.append({"stream": begun[i], "layer": None, "index": i})
        elif model.arena.stream_of(i) is None:
            steps.append({"stream": None, "layer": layer, "index": i})
    return steps


def _layer(model: Model, index: int, name: str) -> dict[str, Any]:
    planned, graph = model.layers[index], model.graph
    stream = model.arena.stream_of(index)
    layer = planned.layer if stream is None else row_form(planned.layer, stream)
    op = layer.op
    context: dict[str, Any] = {
        "name": name,
        "model": graph.name,
        "no_multiply": model.no_multiply,
        "x_types": tuple(format_.c_type for format_ in layer.formats),
        "y_type": layer.output_format.c_type,
        "title": _comment(_title(planned)),
        "short": _comment(op.name),
        "bytes": graph.tensors[op.output].bytes,
        "result": _pointer(model, op.output),
        "arguments": [_argument(model, tensor, const=True) for tensor in op.inputs]
        + [_argument(model, op.output, const=False)],
        **planned.kernel.context(layer),
    }
    module: Any = environment().get_template(planned.kernel.template).module
    return context | {"data": str(module.data(context)).strip(), "code": str(module.code(context)).strip() + "\n"}


def _title(planned: PlannedLayer) -> str:
    layer = planned.layer
    op = layer.op
    sizes = f"{_shape(layer.shapes[0])} -> {_shape(layer.output_shape)}"
    formats = f"{layer.formats[0]} -> {layer.output_format}"
    if isinstance(op, IntegerDense | IntegerConv | IntegerRecurrent):
        formula = SIMILARITIES[op.similarity].formula
        weights = weights_of(op)[0]
        summary = ENCODINGS[weights.encoding].summary
        chosen = f" ({weights.parameters})" if weights.parameters else ""
        return f"{op.name}: {op.kind} {sizes}, {formula}; {summary}{chosen}; {formats}; kernel '{planned.kernel.name}'"
    return f"{op.name}: {op.kind.replace('_', ' ')} {sizes}, {formats}"


def _meaning(graph: Graph) -> str:
    result = graph.result
    producer = graph.producer(result.name)
    if isinstance(producer, ArgMax):
        return f"index of the {'smallest' if producer.smallest else 'largest'} value"
    return f"real = {result.stored.scale!r} * {_code_text(result)}"


def _interface(tensor: Tensor) -> dict[str, object]:
    return {
        "c_type": tensor.stored.c_type,
        "count": tensor.size,
        "scale": repr(tensor.stored.scale),
        "shape_text": _shape(tensor.shape),
        "code_text": _code_text(tensor),
    }


def _code_text(tensor: Tensor) -> str:
    zero = tensor.stored.zero_point
    return f"(code - {zero})" if zero else "code"


def _pointer(model: Model, tensor: str) -> str:
    owner = model.arena.owner[tensor]
    if owner == model.graph.inputs[0]:
        return "in"
    if owner == model.arena.owner[model.graph.outputs[0]]:
        return "out"
    offset = model.arena.buffers[owner].offset
    return f"arena + {offset}" if offset else "arena"


def _argument(model: Model, tensor: str, *, const: bool) -> str:
    pointer = _pointer(model, tensor)
    c_type = model.graph.tensors[tensor].stored.c_type
    if pointer in ("in", "out") or c_type == "uint8_t":
        return pointer
    qualifier = "const " if const else ""
    return f"({qualifier}{c_type} *)({pointer})"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(str(n) for n in shape if n > 1) or str(math.prod(shape))


def _comment(text: str) -> str:
    """Return text that can stand in a C comment, whatever a model file called its nodes."""
    return (
        "".join(c if c.isprintable() and c.isascii() else "?" for c in text).replace("*/", "* /").replace("/*", "/ *")
    )
