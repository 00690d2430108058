"""Collects everything that cannot be compiled, so that a user hears of all of it at once."""

from collections.abc import Iterable
from dataclasses import dataclass

from mcucompile.errors import UnsupportedError
from mcucompile.ir import Source

# A hostile file can hold any number of nodes; a person reads a few dozen lines.
_MAX_LISTED = 100


class RefusalError(Exception):
    """One node cannot be compiled. Caught by the front-end that walks the nodes.

    Args:
        reason: what about the node is not supported, without its name.
        fix: one thing the user can do.
    """

    def __init__(self, reason: str, fix: str) -> None:
        self.reason = reason
        self.fix = fix
        super().__init__(f"{reason}; {fix}")


def constants_only() -> RefusalError:
    """Return what is said of a node none of whose inputs depends on the graph's input."""
    return RefusalError(
        "computes on constants only", "simplify the exported model (onnx-simplifier), or export it in eval mode"
    )


@dataclass(frozen=True, slots=True)
class Refusal:
    """A node that cannot be compiled, why, and what to do."""

    source: Source
    reason: str
    fix: str


def unsupported(file: str, refusals: Iterable[Refusal]) -> UnsupportedError:
    """Return the one error that lists all refused nodes; nodes with the same fix share it."""
    listed = list(refusals)
    shown = listed[:_MAX_LISTED]
    nodes = "; ".join(f"'{r.source.node}' ({r.source.op_type}): {r.reason}" for r in shown)
    fixes: dict[str, list[str]] = {}
    for refusal in shown:
        fixes.setdefault(refusal.fix, []).append(f"'{refusal.source.node}'")
    count = "1 node" if len(listed) == 1 else f"{len(listed)} nodes"
    more = "" if len(listed) == len(shown) else f"; and {len(listed) - len(shown)} more"
    todo = "; ".join(f"{', '.join(names)}: {fix}" for fix, names in fixes.items())
    return UnsupportedError(
        file, f"{count} cannot be compiled: {nodes}{more}", shown[0].fix if len(fixes) == 1 else todo
    )
