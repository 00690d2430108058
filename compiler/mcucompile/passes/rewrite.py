"""Local changes to a graph, each at the cost of what it touches: a pass stays linear in the number of operators."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from mcucompile.ir import Graph, Op, Shape, Tensor


@dataclass(frozen=True, slots=True)
class Change:
    """What a rule wants done.

    Attributes:
        replaced: operators, each with those that take its place in the order of execution; none removes it.
        renamed: tensors that nothing may read any more, each with the one to read instead.
        shapes: of tensors that are new or change theirs.
    """

    replaced: Mapping[Op, tuple[Op, ...]]
    renamed: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)


class Draft:
    """A graph that is being changed; it knows who writes and who reads each tensor.

    Attributes:
        outputs: of the graph.
        tensors: every tensor by name.
    """

    def __init__(self, graph: Graph) -> None:
        self.outputs = graph.outputs
        self.tensors: dict[str, Tensor] = dict(graph.tensors)
        self._graph = graph
        # An operator keeps the slot of the one it replaces, so that slots stay in the order of execution.
        self._slots: list[list[Op]] = [[op] for op in graph.ops]
        self._slot_of: dict[Op, int] = {}
        self._producers: dict[str, Op] = {}
        self._readers: dict[str, dict[Op, None]] = {}
        for slot, op in enumerate(graph.ops):
            self._enter(op, slot)

    @property
    def ops(self) -> tuple[Op, ...]:
        """The operators in the order of execution."""
        return tuple(op for slot in self._slots for op in slot)

    def __contains__(self, op: Op) -> bool:
        return op in self._slot_of

    def producer(self, tensor: str) -> Op | None:
        """Return the operator that writes a tensor, None for an input."""
        return self._producers.get(tensor)

    def consumers(self, tensor: str) -> tuple[Op, ...]:
        """Return the operators that read a tensor, in the order of execution."""
        readers = self._readers.get(tensor, {})
        return tuple(sorted(readers, key=self._place)) if len(readers) > 1 else tuple(readers)

    def apply(self, change: Change) -> list[Op]:
        """Make a change, remove what nothing reads because of it, and return the operators that are new."""
        self.tensors |= {name: Tensor(name, shape) for name, shape in change.shapes.items()}
        new: list[Op] = []
        for old, ops in change.replaced.items():
            new += self._replace(old, [self._renamed(op, change.renamed) for op in ops])
        for tensor in change.renamed:
            for reader in self.consumers(tensor):
                new += self._replace(reader, [self._renamed(reader, change.renamed)])
        unread = [name for op in change.replaced for name in op.inputs]
        while unread:
            op = self._producers.get(unread.pop())
            if op is not None and not self._readers.get(op.output) and op.output not in self.outputs:
                self._replace(op, [])
                unread += op.inputs
        return [op for op in new if op in self]

    def graph(self) -> Graph:
        """Return the graph as it is now, verified, with the tensors it still has."""
        ops = self.ops
        used = {*self._graph.inputs, *(op.output for op in ops)}
        tensors = {name: tensor for name, tensor in self.tensors.items() if name in used}
        return self._graph.replaced(ops=ops, tensors=tensors)

    def _place(self, op: Op) -> tuple[int, int]:
        slot = self._slot_of[op]
        return slot, self._slots[slot].index(op)

    def _enter(self, op: Op, slot: int) -> None:
        self._slot_of[op] = slot
        self._producers[op.output] = op
        for name in op.inputs:
            self._readers.setdefault(name, {})[op] = None

    def _replace(self, old: Op, new: list[Op]) -> list[Op]:
        slot = self._slot_of.pop(old)
        at = self._slots[slot].index(old)
        self._slots[slot][at : at + 1] = new
        if self._producers.get(old.output) is old:
            del self._producers[old.output]
        for name in old.inputs:
            self._readers[name].pop(old, None)
        for op in new:
            self._enter(op, slot)
        return new

    @staticmethod
    def _renamed(op: Op, names: Mapping[str, str]) -> Op:
        inputs = tuple(names.get(name, name) for name in op.inputs)
        return op if inputs == op.inputs else replace(op, inputs=inputs)


Rule = Callable[[Draft, Op], Change | None]


def rewrite(graph: Graph, rule: Rule) -> Graph:
    """Ask a rule about every operator and make its changes, until it wants none.

    An operator that a change makes is asked about at once, so that what moves goes all its way in one sweep;
    another sweep follows for what a change made possible elsewhere.
    """
    draft = Draft(graph)
    changes = -1
    while changes:
        changes = 0
        pending = list(reversed(draft.ops))
        while pending:
            op = pending.pop()
            change = rule(draft, op) if op in draft else None
            if change is not None:
                pending += reversed(draft.apply(change))
                changes += 1
    return draft.graph()
