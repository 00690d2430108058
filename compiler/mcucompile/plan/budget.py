"""Adds up what a firmware needs and holds it against the board's memories: fits, or short by how much."""

from dataclasses import dataclass

from mcucompile.ir import Graph
from mcucompile.plan.memory import Arena
from mcucompile.plan.select import PlannedLayer


@dataclass(frozen=True, slots=True)
class Limits:
    """A board's memories in bytes; 0 means no limit."""

    flash_bytes: int
    ram_bytes: int


@dataclass(frozen=True, slots=True)
class Budget:
    """What a firmware takes of the board.

    Attributes:
        flash_bytes: code, weights, tables and the initial values of variables.
        ram_bytes: variables (arena, the model's input and output, the link) and the stack.
        arena_bytes: of ram_bytes, the arena of intermediate results.
        stack_bytes: of ram_bytes, the worst case of the stack.
        limits: the board's memories.
        shortfalls: one sentence for each memory that is too small, empty if everything fits.
    """

    flash_bytes: int
    ram_bytes: int
    arena_bytes: int
    stack_bytes: int
    limits: Limits
    shortfalls: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the firmware fits the board."""
        return not self.shortfalls

    @property
    def is_short_of_ram(self) -> bool:
        """Whether the RAM is too small."""
        return bool(self.limits.ram_bytes) and self.ram_bytes > self.limits.ram_bytes


def budget(
    graph: Graph, layers: tuple[PlannedLayer, ...], arena: Arena, limits: Limits, sizes: tuple[int, int, int]
) -> Budget:
    """Hold sizes against limits and name the layer that needs most of a memory that is short.

    Args:
        graph: of integers.
        layers: with their kernels.
        arena: of the same graph.
        limits: of the board.
        sizes: flash, static RAM (without stack) and stack, bytes.
    """
    flash, static_ram, stack = sizes
    ram = static_ram + stack
    shortfalls = []
    if limits.flash_bytes and flash > limits.flash_bytes:
        heaviest = max(layers, key=lambda planned: planned.cost.flash_bytes)
        shortfalls.append(
            f"short by {flash - limits.flash_bytes:,} bytes of flash (needs {flash:,} of {limits.flash_bytes:,}) "
            f"because layer '{heaviest.layer.op.name}' needs {heaviest.cost.flash_bytes:,} for weights and tables"
        )
    if limits.ram_bytes and ram > limits.ram_bytes:
        shortfalls.append(
            f"short by {ram - limits.ram_bytes:,} bytes of RAM (needs {ram:,} of {limits.ram_bytes:,}) "
            f"because {_largest_need(graph, layers, arena, stack)}"
        )
    return Budget(flash, ram, arena.bytes, stack, limits, tuple(shortfalls))


def _largest_need(graph: Graph, layers: tuple[PlannedLayer, ...], arena: Arena, stack: int) -> str:
    deepest = max(layers, key=lambda planned: planned.cost.stack_bytes)
    needs = {
        f"the model's input '{graph.input.name}' takes {graph.input.bytes:,}": graph.input.bytes,
        f"the model's output '{graph.result.name}' takes {graph.result.bytes:,}": graph.result.bytes,
        f"layer '{arena.peak}' needs {arena.bytes:,} in the arena": arena.bytes,
        f"layer '{deepest.layer.op.name}' takes the stack to {stack:,}": stack,
    }
    return max(needs, key=lambda text: needs[text])
