"""Row streaming: layers run interleaved, row by row, and keep rings of a few rows instead of whole tensors.

A layer makes its next row as soon as the rows that it needs are there and its own ring has room. Such a
network of queues with fixed capacities either always finishes or never does, whatever is run first (Kahn,
"The semantics of a simple language for parallel programming", IFIP 1974; Lee and Messerschmitt,
"Synchronous data flow", Proc. IEEE 75, 1987): so only the capacities have to be searched, and the order of
execution, found once here, becomes a table in the C code. Every row is computed exactly once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcucompile.ir import Graph, Op, RowAccess


@dataclass(frozen=True, slots=True)
class Ring:
    """The rows of a tensor that are kept.

    Attributes:
        rows: how many: row r is in slot r % rows.
        row_bytes: of one row.
    """

    rows: int
    row_bytes: int

    @property
    def bytes(self) -> int:
        """Size of the ring."""
        return self.rows * self.row_bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """Consecutive layers that run row by row.

    Attributes:
        first, last: indices of the layers.
        order: the layer that makes a row, or takes one in, at each step, counted from `first`.
        rings: of every tensor that only these layers use, and what layers sum up rows in (`sums_of`).
        shared: tensor -> the tensor in whose ring it lies: an element-wise layer overwrites its input.
    """

    first: int
    last: int
    order: tuple[int, ...]
    rings: Mapping[str, Ring]
    shared: Mapping[str, str]

    @property
    def bytes(self) -> int:
        """All rings together."""
        return sum(ring.bytes for ring in self.rings.values())


@dataclass(frozen=True, slots=True)
class _Node:
    """A layer of a stream; `inputs` are those made in the stream.

    A step makes one row, or, of a layer that sums rows up, takes one row in.
    """

    op: Op
    access: RowAccess
    inputs: tuple[str, ...]

    @property
    def steps(self) -> int:
        return self.access.rows * self._steps_of_a_row

    @property
    def _steps_of_a_row(self) -> int:
        return self.access.stride if self.access.state_bytes else 1

    def first(self, step: int) -> int:
        """Return the first input row that a step needs."""
        return step if self.access.state_bytes else self.access.first(step)

    def last(self, step: int) -> int:
        """Return the last input row that a step needs."""
        return step if self.access.state_bytes else self.access.last(step)

    def rows_made(self, steps: int) -> int:
        """Return the rows of the output after so many steps."""
        return steps // self._steps_of_a_row


@dataclass(frozen=True, slots=True)
class _Network:
    """The layers of a stream and what their rings depend on."""

    nodes: tuple[_Node, ...]
    readers: Mapping[str, tuple[int, ...]]
    row_bytes: Mapping[str, int]
    shared: Mapping[str, str]


def can_stream(graph: Graph, first: int, last: int) -> bool:
    """Return whether layers first..last can run row by row: images through images, without views between."""
    ops = graph.layers[first : last + 1]
    made = {op.output for op in ops}
    for op in ops:
        access = op.row_access(*graph.shapes_of(op))
        if access is None or (access.is_scattered and not made.isdisjoint(op.inputs)):
            return False
    views = {op.output: op.inputs[0] for op in graph.ops if op.is_view}
    return not any(views.get(name) in made for op in ops for name in op.inputs)


def plan_stream(graph: Graph, first: int, last: int) -> Stream | None:
    """Return the stream of layers first..last with small rings, None if they cannot run row by row."""
    if not can_stream(graph, first, last):
        return None
    network = _network(graph, first, last)
    rows = {name: _widest(network, name) for name in network.row_bytes if name not in network.shared}
    order = _enlarge(network, rows)
    for name in sorted(rows, key=lambda key: (-network.row_bytes[key], key)):
        while rows[name] > 1:
            fewer, full = _run(network, {**rows, name: rows[name] - 1})
            if full:
                break
            rows[name] -= 1
            order = fewer
    rings = {name: Ring(count, network.row_bytes[name]) for name, count in rows.items()}
    for node in network.nodes:
        if node.access.state_bytes:
            rings[sums_of(node.op.output)] = Ring(1, node.access.state_bytes)
    return Stream(first, last, tuple(order), rings, network.shared)


def sums_of(tensor: str) -> str:
    """Return the name of the buffer in which a layer sums up its rows."""
    return f"{tensor}.sums"


def _network(graph: Graph, first: int, last: int) -> _Network:
    ops = graph.layers[first : last + 1]
    views = {op.inputs[0] for op in graph.ops if op.is_view}
    later = {name for op in graph.layers[last + 1 :] for name in op.inputs} | set(graph.outputs) | views
    inner = [op.output for op in ops if op.output not in later]
    nodes = tuple(
        _Node(op, _access(graph, op), tuple(name for name in op.inputs if any(name == o.output for o in ops)))
        for op in ops
    )
    readers = {name: tuple(i for i, node in enumerate(nodes) if name in node.inputs) for name in inner}
    row_bytes = {name: graph.tensors[name].bytes // graph.tensors[name].shape[1] for name in inner}
    return _Network(nodes, readers, row_bytes, _shared(graph, nodes, readers, row_bytes))


def _shared(
    graph: Graph, nodes: Sequence[_Node], readers: Mapping[str, tuple[int, ...]], row_bytes: Mapping[str, int]
) -> dict[str, str]:
    """Let each element-wise layer overwrite the first input that nothing else reads and that is as large."""
    shared: dict[str, str] = {}
    for i, node in enumerate(nodes):
        output = node.op.output
        if not node.op.is_elementwise or output not in row_bytes:
            continue
        for name in node.inputs:
            is_alone = readers.get(name) == (i,) and node.op.inputs.count(name) == 1
            same = name in row_bytes and row_bytes[name] == row_bytes[output]
            if is_alone and same and graph.tensors[name].stored.bits == graph.tensors[output].stored.bits:
                shared[name] = output
                break
    return shared


def _access(graph: Graph, op: Op) -> RowAccess:
    access = op.row_access(*graph.shapes_of(op))
    if access is None:
        raise TypeError(f"{op.kind} cannot run row by row")
    return access


def _widest(network: _Network, name: str) -> int:
    """Return how many rows of a tensor one step needs at a time."""
    readers = [network.nodes[reader] for reader in network.readers[name]]
    return max(1, *(node.last(step) - node.first(step) + 1 for node in readers for step in range(node.steps)))


def _enlarge(network: _Network, rows: dict[str, int]) -> list[int]:
    """Add rows where layers wait for room, where a byte brings the execution farthest, until all rows are made."""
    while True:
        order, full = _run(network, rows)
        if not full:
            return order
        progress = {name: len(_run(network, {**rows, name: rows[name] + 1})[0]) - len(order) for name in sorted(full)}
        rows[max(progress, key=lambda name: progress[name] / network.row_bytes[name])] += 1


def _run(network: _Network, rows: Mapping[str, int]) -> tuple[list[int], set[str]]:
    """Run all layers, the last one that can first.

    Returns:
        The layer of each step; and, if all wait before the end, the tensors without room that layers wait for.
    """
    nodes = network.nodes
    done = [0] * len(nodes)
    maker = {node.op.output: node for node in nodes}
    index = {node.op.output: i for i, node in enumerate(nodes)}
    total = sum(node.steps for node in nodes)
    order: list[int] = []
    while len(order) < total:
        full: set[str] = set()
        for i in reversed(range(len(nodes))):
            node, step = nodes[i], done[i]
            if step == node.steps or any(
                maker[name].rows_made(done[index[name]]) <= node.last(step) for name in node.inputs
            ):
                continue
            ring = _ring(network, node.op.output)
            overwrites = any(network.shared.get(name) == node.op.output for name in node.inputs)
            if ring in rows and not overwrites and node.rows_made(step) - _oldest(network, ring, done) >= rows[ring]:
                full.add(ring)
                continue
            order.append(i)
            done[i] += 1
            break
        else:
            return order, full
    return order, set()


def _ring(network: _Network, name: str) -> str:
    """Return the tensor in whose ring a tensor lies."""
    while name in network.shared:
        name = network.shared[name]
    return name


def _oldest(network: _Network, name: str, done: Sequence[int]) -> int:
    """Return the first row of a tensor that some layer still needs."""
    readers = [(network.nodes[reader], done[reader]) for reader in network.readers[name]]
    return min(node.first(step) if step < node.steps else node.access.input_rows for node, step in readers)
