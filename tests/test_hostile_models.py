"""Damaged and hostile ONNX files: each is refused clearly or compiled; nothing crashes, hangs or takes the memory.

Every case runs the front half of the line in this process, with a limit on its time and on its memory.
"""

import contextlib
import itertools
import resource
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command_line import refuse, unchanged
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcucompile.driver import Options, quantize_model
from mcucompile.errors import UserError
from models_factory import node
from onnx_attacks import ATTACKS, VALID, VALID_BYTES, constants_from
from random_models import RandomModel, random_models

# The largest case that is compiled takes a twentieth of a second and some megabytes.
SECONDS = 5
BYTES = 2 << 30


class TooSlowError(Exception):
    """A case took more than its time."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Give the body a few seconds and two gigabytes more than the process has now."""

    def late(_signal: int, _frame: Any) -> None:
        raise TooSlowError(f"more than {SECONDS} seconds")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    previous = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file in a folder of its own."""
    return tmp_path_factory.mktemp("hostile") / "model.onnx"


def compiled(path: Path, data: bytes) -> UserError | None:
    """Compile bytes up to the integers; return the refusal, None if there was none. All else fails the test."""
    path.write_bytes(data)
    with limited(), warnings.catch_warnings():
        # Only what constants of 1e38 become after the front-end may overflow: calibration looks for that.
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"mcucompile\.(?!frontends)")
        try:
            quantized = quantize_model(path, None, Options())
        except UserError as error:
            for line in (error.where, error.problem, error.fix):
                assert line.isprintable()
                assert 0 < len(line) < 20_000
            return error
    assert quantized.graph.layers
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    return None


def hostile(examples: int) -> settings:
    """Return settings for the same examples on every run."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


def test_the_model_that_is_damaged_is_compiled_whole(path: Path) -> None:
    assert compiled(path, VALID_BYTES) is None


# Bytes


@hostile(200)
@given(flips=st.lists(st.tuples(st.integers(0, len(VALID_BYTES) - 1), st.integers(1, 255)), min_size=1, max_size=8))
def test_changed_bytes(path: Path, flips: list[tuple[int, int]]) -> None:
    data = bytearray(VALID_BYTES)
    for place, change in flips:
        data[place] ^= change
    compiled(path, bytes(data))


@hostile(60)
@given(end=st.integers(0, len(VALID_BYTES) - 1))
def test_truncated(path: Path, end: int) -> None:
    assert compiled(path, VALID_BYTES[:end]) is not None


@hostile(100)
@given(
    place=st.integers(0, len(VALID_BYTES)),
    length=st.integers(0, 200),
    chunk=st.one_of(st.binary(min_size=1, max_size=60), st.just(VALID_BYTES), st.just(VALID_BYTES[:200])),
)
def test_replaced_and_inserted_chunks(path: Path, place: int, length: int, chunk: bytes) -> None:
    compiled(path, VALID_BYTES[:place] + chunk + VALID_BYTES[place + length :])


@hostile(120)
@given(
    model=random_models(),
    changes=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 40),
)
def test_damage_to_random_models(path: Path, model: RandomModel, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(model.proto.SerializeToString())
    for place, change in changes:
        data[place % len(data)] ^= change
    compiled(path, bytes(data[: len(data) - cut]))


@hostile(60)
@given(data=st.binary(max_size=300))
def test_noise(path: Path, data: bytes) -> None:
    assert compiled(path, data) is not None


# Fields: any value of any message of the file

NUMBERS = (0, 1, -1, -5, 2, 3, 7, 13, 255, 2**16, 2**31 - 1, -(2**31), 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
REALS = (0.0, -1.0, 1e-45, 1e38, -1e38, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", "x", "y", "h", "w1", "Relu", "Gemm", "Twice", "Loop", "local", "mcucompile", "ai.onnx", "axis", "perm",
         "a\nb", "\x1b[31m", "*/", "\u202e", "ß" * 5000)  # fmt: skip
_INTEGER_TYPES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}


def messages(message: Message) -> Iterator[Message]:
    """Yield a message and all in it."""
    yield message
    for descriptor, value in message.ListFields():
        if descriptor.type == FieldDescriptor.TYPE_MESSAGE:
            for child in [value] if isinstance(value, Message) else value:
                yield from messages(child)


def values_for(descriptor: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Return values that a scalar field can hold."""
    if descriptor.type in _INTEGER_TYPES:
        low, high = _INTEGER_TYPES[descriptor.type]
        return st.sampled_from([n for n in NUMBERS if low <= n <= high])
    if descriptor.type == FieldDescriptor.TYPE_ENUM:
        return st.sampled_from([value.number for value in descriptor.enum_type.values])
    if descriptor.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return st.sampled_from(REALS)
    if descriptor.type == FieldDescriptor.TYPE_STRING:
        return st.sampled_from(TEXTS)
    return st.binary(max_size=40)


def change(message: Message, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """Change one field of one message: another value, one more, one less, none."""
    targets = list(messages(message))
    target = targets[draw(st.integers(0, len(targets) - 1))]
    # Mostly fields that are set; sometimes one that should not be there.
    fields = [field for field, _ in target.ListFields()] * 4 + list(target.DESCRIPTOR.fields)
    field = fields[draw(st.integers(0, len(fields) - 1))]
    value = getattr(target, field.name)
    is_list = not isinstance(value, str | bytes | int | float | Message)
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        if not is_list:
            target.ClearField(field.name)
        elif len(value) and draw(st.booleans()):
            value.add().CopyFrom(value[draw(st.integers(0, len(value) - 1))])
        elif len(value):
            del value[draw(st.integers(0, len(value) - 1))]
        return
    new = draw(values_for(field))
    if not is_list:
        setattr(target, field.name, new)
    elif len(value) and draw(st.booleans()):
        value[draw(st.integers(0, len(value) - 1))] = new
    elif len(value) and draw(st.booleans()):
        del value[draw(st.integers(0, len(value) - 1))]
    else:
        value.append(new)


@hostile(600)
@given(data=st.data())
def test_changed_fields(path: Path, data: st.DataObject) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(VALID)
    for _ in range(data.draw(st.sampled_from([1, 1, 1, 2, 4]))):
        change(model, data.draw)
    compiled(path, model.SerializeToString())


# What somebody would write by hand


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(path: Path, name: str) -> None:
    data, text = ATTACKS[name]
    error = compiled(path, data)
    assert error is not None
    assert text in str(error)


@pytest.mark.parametrize("kind", ["Relu", "Identity", "Mul", "Add"])
def test_long_chains_are_neither_slow_nor_too_deep(path: Path, kind: str) -> None:
    """A thousand nodes: no recursion, no cubic time."""
    names = ["x", *(f"t{i}" for i in range(1000))]
    second = {"Mul": " c", "Add": " c"}.get(kind, "")
    chain = [node(kind, before + second, after) for before, after in itertools.pairwise(names)]
    data = constants_from([*chain, node("Relu", names[-1])], c=np.float32(1))
    assert compiled(path, data) is None


def test_command_line_refuses_and_writes_nothing(path: Path) -> None:
    """What the functions above refuse, the command line refuses in three lines, and leaves no file."""
    for name in ("tensor_of_2_40", "calls_itself", "odd_raw_data", "attribute_of_other_type"):
        path.write_bytes(ATTACKS[name][0])
        with limited(), unchanged(path.parent):
            refuse(path, "-o", path.parent / "out", where="model.onnx", problem=ATTACKS[name][1])


def test_the_limits_of_this_file_hold() -> None:
    """The tests above are blind without them."""
    with pytest.raises(MemoryError), limited():
        np.ones(BYTES, dtype=np.uint16)
    with pytest.raises(TooSlowError), limited():
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        while True:
            pass
