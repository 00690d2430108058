"""Instructions per inference and per layer, counted while an emulator runs the firmware.

Counting starts at the entry of `mcu_inference_begin` and stops at the entry of `mcu_inference_end`, so that it
includes the call of the model. A layer's count runs from the entry of its function to the entry of the next
layer's function or the end. What the link spends on digests (`mcu_link_observe_layer` and the CRC) is left out.

An emulator executes basic blocks: a block's instructions count when the block is entered.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mcucompile.errors import LinkError
from mcucompile.targets.link import Link, Port
from mcucompile.targets.symbols import Function, Image

# What runs inside an inference only because its layers are being observed.
_DIGEST_FUNCTIONS = ("mcu_link_observe_layer", "mcu_link_crc32", "mcu_port_cycles")


@dataclass(frozen=True, slots=True)
class InstructionCounts:
    """Executed instructions of one inference: in all, and of each layer in the order asked for."""

    total: int
    layers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CountingPlan:
    """Addresses that steer the counting: markers, entries of the layers, and functions to leave out."""

    begin: int
    end: int
    layers: tuple[int, ...]
    excluded: tuple[Function, ...]


def plan_counting(image: Image, layers: tuple[str, ...]) -> CountingPlan:
    """Find the addresses for the named layer functions.

    Raises:
        ProjectError: the firmware has no function of a name.
    """
    return CountingPlan(
        begin=image.function("mcu_inference_begin").start,
        end=image.function("mcu_inference_end").start,
        layers=tuple(image.function(name).start for name in layers),
        excluded=tuple(image.function(name) for name in _DIGEST_FUNCTIONS if image.has_function(name)),
    )


class CountingLink(Link):
    """A link to a firmware in an emulator, which can count instructions.

    Args:
        read_counts: returns the counts of the last inference; None when counting was not asked for.
    """

    def __init__(
        self,
        port: Port,
        *,
        name: str,
        describe_address: Callable[[int], str],
        read_counts: Callable[[], InstructionCounts | None] | None,
    ) -> None:
        super().__init__(port, name=name, describe_address=describe_address)
        self._read_counts = read_counts

    def instruction_counts(self) -> InstructionCounts:
        """Return the counts of the last `infer`.

        Raises:
            LinkError: the session was opened without `layers`, or there was no inference.
        """
        counts = self._read_counts() if self._read_counts is not None else None
        if counts is None:
            raise LinkError(self.name, "no inference was counted", "open the session with layers=(), then infer")
        return counts
