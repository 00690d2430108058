"""The link: right answers over good and bad lines, and an error, never a hang, for everything else."""

import os
import pty
import random
import shutil
import struct
import subprocess
import time
import tty
import zlib

import pytest
from cobs import cobs
from firmware_builds import expected, expected_layers, require_toolchain, sample_elf, write_project
from hypothesis import given, settings
from hypothesis import strategies as st
from link_frames import HASH, frame, packet
from mcucompile.errors import LinkError, ToolError
from mcucompile.targets.boards import load_board
from mcucompile.targets.host import open_host
from mcucompile.targets.link import Link
from mcucompile.targets.serial_port import open_serial_port


@pytest.fixture
def host():
    with open_host(sample_elf("host", "gcc")) as link:
        yield link


# ---- The firmware's side, as a native program


def test_hello(host):
    hello = host.hello()
    assert (hello.model_hash, hello.model_name) == (HASH, "sample")
    assert (hello.input_bytes, hello.output_bytes, hello.layer_count) == (16, 8, 2)


@pytest.mark.parametrize("seed", range(5))
def test_inference_and_digests(host, seed):
    data = random.Random(seed).randbytes(16)
    output, digests = expected(data)
    answer = host.infer(data)
    assert (answer.output, answer.digests, answer.cycles) == (output, digests, 0)
    assert host.infer(data, digests=False).digests == ()


def test_ranges_of_layers(host):
    data = random.Random(3).randbytes(16)
    for layer, content in enumerate(expected_layers(data)):
        for offset in range(len(content) + 1):
            for size in range(len(content) - offset + 1):
                observed = host.observe(data, layer, offset, size)
                assert observed.data == content[offset : offset + size]
                assert observed.crc == zlib.crc32(observed.data)
    with pytest.raises(LinkError, match="offset or length is out of range"):
        host.observe(data, 0, 0, 5)
    with pytest.raises(LinkError, match="takes 16"):
        host.observe(bytes(15), 0, 0, 1)
    # An observation leaves the digests of the last inference alone, and the next inference its own.
    assert host.infer(data).digests == expected(data)[1]


def test_echo_of_64_kilobytes(host):
    data = random.Random(1).randbytes(65536)
    assert host.echo(data) == data
    assert host.echo(bytes(5000)) == bytes(5000)
    assert host.echo(b"") == b""


@pytest.mark.parametrize("size", [0, 15, 17])
def test_input_of_the_wrong_size(host, size):
    with pytest.raises(LinkError, match=f"{size} bytes, the model 'sample' takes 16"):
        host.infer(bytes(size))


class Wire:
    """Speaks raw bytes to a firmware of the host."""

    def __init__(self, elf):
        self.process = subprocess.Popen([elf], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, data):
        """Send bytes that hold one frame, and return the reply's packet without CRC."""
        self.process.stdin.write(data)
        self.process.stdin.flush()
        received = b""
        while not received.endswith(b"\0"):
            byte = os.read(self.process.stdout.fileno(), 1)
            assert byte, f"the firmware ended: {self.process.wait()}"
            received += byte
        reply = cobs.decode(received[:-1])
        assert zlib.crc32(reply[:-4]).to_bytes(4, "little") == reply[-4:]
        return reply[:-4]

    def close(self):
        """End the firmware's input and return its exit code."""
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(timeout=10)


@pytest.fixture
def wire():
    wire = Wire(sample_elf("host", "gcc"))
    yield wire
    assert wire.close() == 0


ERROR_FRAME, ERROR_TYPE, ERROR_RANGE = (b"\xff" + bytes([code]) for code in (1, 2, 3))
LARGE = 0xFFFF_FFFF


@pytest.mark.parametrize(
    ("body", "reply"),
    [
        (b"\x00", ERROR_TYPE),
        (b"\x08", ERROR_TYPE),
        (b"\x81", ERROR_TYPE),
        (b"\xff", ERROR_TYPE),
        (b"\x02" + struct.pack("<I", 0) + bytes(16), b"\x82"),
        (b"\x02" + struct.pack("<I", 16), b"\x82"),
        (b"\x02" + struct.pack("<I", 0) + bytes(17), ERROR_RANGE),
        (b"\x02" + struct.pack("<I", 1) + bytes(16), ERROR_RANGE),
        (b"\x02" + struct.pack("<I", 17), ERROR_RANGE),
        (b"\x02" + struct.pack("<I", LARGE) + bytes(1), ERROR_RANGE),
        (b"\x02" + struct.pack("<I", LARGE - 7) + bytes(16), ERROR_RANGE),
        (b"\x02", ERROR_RANGE),
        (b"\x02\x00\x00\x00", ERROR_RANGE),
        (b"\x03", ERROR_RANGE),
        (b"\x03\x00\x00", ERROR_RANGE),
        (b"\x04" + struct.pack("<IH", 8, 0), b"\x84"),
        (b"\x04" + struct.pack("<IH", 0, 9), ERROR_RANGE),
        (b"\x04" + struct.pack("<IH", 9, 0), ERROR_RANGE),
        (b"\x04" + struct.pack("<IH", LARGE, 2), ERROR_RANGE),
        (b"\x04" + struct.pack("<IH", 0, 0xFFFF), ERROR_RANGE),
        (b"\x04" + struct.pack("<I", 0), ERROR_RANGE),
        (b"\x04" + struct.pack("<IHB", 0, 1, 0), ERROR_RANGE),
        (b"\x05" + struct.pack("<IH", 0, 9), ERROR_RANGE),
        (b"\x05" + struct.pack("<IH", LARGE, LARGE & 0xFFFF), ERROR_RANGE),
        (b"\x07", ERROR_RANGE),
        (b"\x07" + struct.pack("<II", 0, 0), ERROR_RANGE),
        (b"\x07" + struct.pack("<IIIB", 0, 0, 0, 0), ERROR_RANGE),
        (b"\x07" + struct.pack("<III", 0, 0, 5), ERROR_RANGE),
        (b"\x07" + struct.pack("<III", 0, 5, 0), ERROR_RANGE),
        (b"\x07" + struct.pack("<III", 1, 8, 1), ERROR_RANGE),
        (b"\x07" + struct.pack("<III", 2, 0, 0), ERROR_RANGE),
        (b"\x07" + struct.pack("<III", LARGE, 0, 0), ERROR_RANGE),
        (b"\x07" + struct.pack("<III", 0, LARGE, LARGE), ERROR_RANGE),
        (b"\x07" + struct.pack("<III", 0, 1, LARGE), ERROR_RANGE),
        (b"\x07" + struct.pack("<III", 1, 8, 0), b"\x87" + bytes(8)),
        (b"\x06", b"\x86"),
        (b"\x06" + bytes(4096 + 4), b"\x86" + bytes(4096 + 4)),
    ],
)
def test_requests_at_and_beyond_the_limits(wire, body, reply):
    assert wire.ask(frame(body, sequence=77)) == b"\x4d" + reply


@pytest.mark.parametrize(
    "data",
    [
        b"\x05\x01\0",  # the block is cut
        b"\x01\x01\x01\0",  # shorter than any packet
        cobs.encode(packet(b"\x01")[:-1]) + b"\0",
        cobs.encode(packet(b"\x01")[:-1] + b"\x00") + b"\0",
        frame(b"\x06" + bytes(4096 + 5)),  # one byte too long
        frame(b"\x06" + bytes(100_000)),
        b"\xff" * 100_000 + b"\0",
    ],
)
def test_damaged_frames_are_refused(wire, data):
    assert wire.ask(data) == b"\x00" + ERROR_FRAME
    assert wire.ask(frame(b"\x01", sequence=9))[:3] == b"\x09\x81\x01"


def test_empty_frames_are_silent(wire):
    assert wire.ask(b"\0\0\0" + frame(b"\x06abc")) == b"\x01\x86abc"


@pytest.fixture(scope="module")
def checked_elf(tmp_path_factory):
    """The host firmware with the compiler's checks of every access, and the boards' smallest chunk."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not on PATH: apt-get install gcc")
    project = write_project(tmp_path_factory.mktemp("checked"), load_board("host"))
    flags = ["-g", "-DMCU_OBSERVE_LAYERS", "-DMCU_LINK_CHUNK_BYTES=64u", "-Iinclude"]
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = sorted(f"src/{path.name}" for path in project.glob("src/*.c"))
    subprocess.run(["gcc", *flags, *checks, *sources, "-o", "checked"], cwd=project, check=True, timeout=120)
    return project / "checked"


@pytest.fixture(scope="module")
def checked_wire(checked_elf):
    wire = Wire(checked_elf)
    yield wire
    assert wire.close() == 0, "an access outside its object"


REQUESTS = st.one_of(
    st.binary(max_size=90),
    st.builds(lambda kind, rest: bytes([kind]) + rest, st.integers(0, 9), st.binary(max_size=80)),
    st.builds(
        lambda kind, offset, rest: bytes([kind]) + struct.pack("<I", offset) + rest,
        st.sampled_from([2, 4, 5]),
        st.one_of(st.integers(0, 40), st.integers(2**32 - 40, 2**32 - 1)),
        st.binary(max_size=70),
    ),
    st.builds(
        lambda *numbers: b"\x07" + struct.pack("<III", *numbers),
        *[st.one_of(st.integers(0, 20), st.integers(2**32 - 20, 2**32 - 1))] * 3,
    ),
)


@settings(max_examples=400, deadline=None)
@given(body=REQUESTS)
def test_any_request_is_answered(checked_wire, body):
    reply = checked_wire.ask(frame(body, sequence=5))
    assert reply[0] in {0, 5}
    assert reply[1] >= 0x80


@settings(max_examples=400, deadline=None)
@given(noise=st.binary(max_size=400), flips=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 255)), max_size=4))
def test_firmware_survives_noise(checked_wire, noise, flips):
    damaged = bytearray(frame(b"\x02" + struct.pack("<I", 0) + bytes(range(16))))
    for position, value in flips:
        damaged[position % len(damaged)] = value
    wire = checked_wire.process.stdin
    wire.write(noise + b"\0" + bytes(damaged) + b"\0")
    for _ in range(noise.count(0) + damaged.count(0) + 3):
        reply = checked_wire.ask(frame(b"\x06mark", sequence=200))
        if reply == b"\xc8\x86mark":
            break
    else:
        pytest.fail("no answer after noise")
    # Answers that are still under way belong to requests before this one.
    checked_wire.process.stdin.write(frame(b"\x06end", sequence=201))
    while checked_wire.ask(b"") != b"\xc9\x86end":
        pass


class NoisyPort:
    """A port on which bytes, in either direction, get lost, changed or added, and pieces are lost or doubled.

    rate: how often that happens, in each byte.
    """

    def __init__(self, port, seed, rate):
        self.port = port
        self.random = random.Random(seed)
        self.rate = rate

    @property
    def timeout(self):
        """Short, since much gets lost."""
        return self.port.timeout

    @timeout.setter
    def timeout(self, value):
        self.port.timeout = min(value, 0.02)

    def damage(self, data):
        """Return the data, or a damaged copy."""
        if not data or self.random.random() < (1 - self.rate) ** len(data):
            return data
        position = self.random.randrange(len(data))
        byte = self.random.randbytes(1)
        return self.random.choice(
            [
                data[:position] + byte + data[position + 1 :],
                data[:position] + data[position + 1 :],
                data[:position] + byte + data[position:],
                data[:position] + b"\0" + data[position:],
                b"",
                data + data,
            ]
        )

    def write(self, data):
        """Send, perhaps damaged."""
        self.port.write(self.damage(data))
        return len(data)

    def read(self, size=1):
        """Receive, perhaps damaged."""
        return self.damage(self.port.read(size))


@pytest.mark.parametrize("seed", range(4))
def test_damaged_line_gives_the_same_answers(checked_elf, seed):
    with open_host(checked_elf) as clear:
        noisy = NoisyPort(clear._port, seed, rate=0.003)
        link = Link(noisy, name="noisy", timeout_s=0.05, run_timeout_s=0.05, attempts=20)
        link.hello()
        for i in range(30):
            data = noisy.random.randbytes(16)
            answer = link.infer(data)
            assert (answer.output, answer.digests) == expected(data), i
            assert link.observe(data, 0, 1, 3).data == expected_layers(data)[0][1:], i
        data = noisy.random.randbytes(8000)
        assert link.echo(data) == data


def test_serial_port():
    """The same firmware behind a terminal device, as a board's USB adapter is one."""
    board_side, host_side = pty.openpty()
    tty.setraw(board_side)
    name = os.ttyname(host_side)
    process = subprocess.Popen([sample_elf("host", "gcc")], stdin=board_side, stdout=board_side)
    try:
        with open_serial_port(name) as link:
            data = bytes(range(240, 256))
            assert link.infer(data).output == expected(data)[0]
            data = random.Random(3).randbytes(65536)
            assert link.echo(data) == data
    finally:
        process.kill()
        process.wait()
        os.close(board_side)
        os.close(host_side)


# ---- The host's program


def test_host_program_that_ends(tmp_path):
    quits = tmp_path / "quits"
    quits.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    quits.chmod(0o755)
    with open_host(quits) as link, pytest.raises(LinkError, match="port failed"):
        link.hello()


def test_host_program_that_cannot_run(tmp_path):
    (tmp_path / "text").write_text("no program", encoding="utf-8")
    with pytest.raises(ToolError, match="cannot be run"), open_host(tmp_path / "text"):
        pass
    with pytest.raises(ToolError, match="cannot be run"), open_host(tmp_path / "none"):
        pass


def test_host_program_is_ended_after_its_time(tmp_path):
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    slow.chmod(0o755)
    started = time.monotonic()
    with open_host(slow, time_limit_s=0.2) as link, pytest.raises(LinkError, match="port failed"):
        link.hello()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("chain", ["gcc", "zig"])
def test_both_host_compilers(chain):
    require_toolchain(load_board("host"), chain)
    with open_host(sample_elf("host", chain)) as link:
        data = bytes(range(16))
        answer = link.infer(data)
        assert (answer.output, answer.digests) == expected(data)
