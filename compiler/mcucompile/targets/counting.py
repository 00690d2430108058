"""Instructions per inference and per layer, counted while an emulator runs the firmware.

Counting starts at the entry of `mcu_inference_begin` and stops at the entry of `mcu_inference_end`, so that it
includes the call of the model. A layer's count runs from the entry of its function to the entry of the next
layer's function or the end. What the link spends on digests (`mcu_link_observe_layer` and the CRC) is left out.

An emulator executes basic blocks: a block's instructions count when the block is entered.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mcucompile.errors import LinkError
from mcucompile.targets.link import Inference, Link, Port
from mcucompile.targets.symbols import Function, Image

# What runs inside an inference only because its layers are being observed.
_DIGEST_FUNCTIONS = ("mcu_link_observe_layer", "mcu_link_crc32", "mcu_port_cycles")


@dataclass(frozen=True, slots=True)
class InstructionCounts:
    """Executed instructions of one inference, and the cycles that they are estimated to take.

    Attributes:
        total: instructions in all.
        layers: instructions of each layer, in the order asked for.
        cycles: of the inference, and of each layer; None from an emulator that does not estimate them.
    """

    total: int
    layers: tuple[int, ...]
    # Only one of the emulators estimates them, and both count the same.
    cycles: tuple[int, tuple[int, ...]] | None = field(default=None, compare=False)


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

    def infer(self, data: bytes, *, digests: bool = True) -> Inference:
        """Run the model once, as `Link.infer`; `cycles` is 0, since an emulator's counter is not the board's."""
        return replace(super().infer(data, digests=digests), cycles=0)

    def counts(self) -> InstructionCounts:
        """Return the counts of the last `infer`.

        Raises:
            LinkError: the session was opened without `layers`, or there was no inference.
        """
        counts = self._read_counts() if self._read_counts is not None else None
        if counts is None:
            raise LinkError(self.name, "no inference was counted", "open the session with layers=(), then infer")
        return counts


class BlockCounter:
    """Counts from block entries, by the rules of its twin `runtime_c/emulator/instruction_count.c`.

    Args:
        plan: where to count.
        image: the firmware, whose code does not change.
        block_cycles: returns the cycles of half words of code at an address, a branch at its end not taken.
        taken_cycles: what a branch takes more if it is taken.

    Attributes:
        finished: the counts of the last complete inference.
    """

    def __init__(
        self, plan: CountingPlan, image: Image, block_cycles: Callable[[tuple[int, ...], int], int], taken_cycles: int
    ) -> None:
        self.finished: InstructionCounts | None = None
        self._plan = plan
        self._image = image
        self._block_cycles = block_cycles
        self._taken_cycles = taken_cycles
        # Instructions and cycles.
        self._blocks: dict[tuple[int, int], tuple[int, int]] = {}
        # Where the last block ends.
        self._end = 0
        self._layers = {address: index for index, address in enumerate(plan.layers)}
        self._marks = {plan.begin, plan.end, *plan.layers}
        self._counting = False
        self._layer = -1  # before the first layer, and where there is none
        self._counts = [0] * (len(plan.layers) + 1)  # the last is what no layer has
        self._cycles = [0] * (len(plan.layers) + 1)

    def on_block(self, _engine: object, address: int, size: int, _data: object) -> None:
        """Be told that the `size` bytes of code at `address` run now."""
        if address in self._marks:
            self._on_mark(address)
        if self._counting:
            block = (address, size)
            counted = self._blocks.get(block)
            if counted is None:
                counted = self._blocks[block] = self._count(address, size)
            self._counts[self._layer] += counted[0]
            self._cycles[self._layer] += counted[1] + (self._taken_cycles if address != self._end else 0)
            self._end = address + size

    def _on_mark(self, address: int) -> None:
        if address == self._plan.begin:
            self._counting = True
            self._layer = -1
            self._counts = [0] * len(self._counts)
            self._cycles = [0] * len(self._counts)
            self._end = address
        elif address == self._plan.end and self._counting:
            self._counting = False
            cycles = (sum(self._cycles), tuple(self._cycles[:-1]))
            self.finished = InstructionCounts(sum(self._counts), tuple(self._counts[:-1]), cycles)
        else:
            self._layer = self._layers.get(address, self._layer)

    def _count(self, address: int, size: int) -> tuple[int, int]:
        """Return the instructions and cycles of a block."""
        if any(function.start <= address < function.end for function in self._plan.excluded):
            return 0, 0
        code = self._image.code(address, size)
        count = offset = 0
        while offset < size:
            offset += self._image.instruction_bytes(code[offset // 2])
            count += 1
        return count, self._block_cycles(code, address)
