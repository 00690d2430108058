"""The link: right answers over good and bad lines, and an error, never a hang, for everything else."""

import contextlib
import os
import pty
import random
import shutil
import socket
import struct
import subprocess
import threading
import time
import tty
import zlib

import pytest
from cobs import cobs
from firmware_builds import expected, require_toolchain, sample_elf, write_project
from hypothesis import given, settings
from hypothesis import strategies as st
from mcucompile.errors import LinkError, ToolError
from mcucompile.targets.boards import load_board
from mcucompile.targets.host import open_host
from mcucompile.targets.link import Link
from mcucompile.targets.serial_port import open_serial_port

HASH = bytes.fromhex("00112233445566778899aabbccddeeff")


@pytest.fixture
def host():
    with open_host(sample_elf("host", "gcc")) as link:
        yield link


def packet(body, sequence=1):
    data = bytes([sequence]) + body
    return data + zlib.crc32(data).to_bytes(4, "little")


def frame(body, sequence=1):
    return cobs.encode(packet(body, sequence)) + b"\0"


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
        (b"\x07", ERROR_TYPE),
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
    st.builds(lambda kind, rest: bytes([kind]) + rest, st.integers(0, 8), st.binary(max_size=80)),
    st.builds(
        lambda kind, offset, rest: bytes([kind]) + struct.pack("<I", offset) + rest,
        st.sampled_from([2, 4, 5]),
        st.one_of(st.integers(0, 40), st.integers(2**32 - 40, 2**32 - 1)),
        st.binary(max_size=70),
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


# ---- The host's side, against lines and peers that misbehave


class FakePort:
    """A port whose other side is a function from the bytes of a request to the bytes of the answer."""

    def __init__(self, answer):
        self.timeout = None
        self.answer = answer
        self.waiting = b""

    def write(self, data):
        """Let the other side answer."""
        self.waiting += self.answer(data)
        return len(data)

    def read(self, size=1):
        """Return what there is of the answer; never wait."""
        data, self.waiting = self.waiting[:size], self.waiting[size:]
        return data


def fake_link(answer, **options):
    return Link(FakePort(answer), name="fake", timeout_s=0.05, run_timeout_s=0.05, **options)


def request_of(data):
    """Return (sequence, type, body) of the frame in `data`."""
    plain = cobs.decode(data.strip(b"\0"))
    return plain[0], plain[1], plain[2:-4]


def greeting(version=1, chunk=64, sizes=(16, 8, 2), name=b"fake"):
    return struct.pack("<BH16sIII", version, chunk, HASH, *sizes) + name


def answering(body, kind=None, sequence=None):
    """Answer every request with one body."""

    def answer(data):
        asked, asked_kind, _ = request_of(data)
        return frame(
            bytes([asked_kind | 0x80 if kind is None else kind]) + body, asked if sequence is None else sequence
        )

    return answer


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (lambda _: b"", "no answer within 0.05 s, 3 times"),
        (lambda _: b"Hello, world!\r\n", "bytes came, but no answer"),
        (lambda _: b"\xff" * 300_000, "bytes came, but no answer"),
        (lambda _: bytes(1000), "no answer"),
        (lambda _: frame(b"\xff\x01", 0), "no answer"),
        (answering(greeting(version=2)), "speaks version 2 of the link"),
        (answering(b""), "speaks version ?"),
        (answering(greeting()[:20]), "too short"),
        (answering(greeting(chunk=0)), "impossible sizes"),
        (answering(greeting(sizes=(0xFFFF_FFFF, 8, 2))), "impossible sizes"),
        (answering(greeting(sizes=(16, 8, 0xFFFF_FFFF))), "impossible sizes"),
        (answering(greeting(), kind=0x85), "answers request 1 with type 133"),
        (answering(greeting(), sequence=99), "bytes came, but no answer"),
        (answering(b"\x02", kind=0xFF), "refuses a request: the request is unknown"),
        (answering(b"\x63", kind=0xFF), "refuses a request: error 99"),
        (answering(struct.pack("<II", 2, 0x20400123), kind=0xFE, sequence=0), "trapped: cause 2 at 0x20400123"),
    ],
)
def test_bad_peer_is_an_error(answer, problem):
    with pytest.raises(LinkError) as caught:
        fake_link(answer).hello()
    assert problem in caught.value.problem
    assert caught.value.where == "fake"
    assert caught.value.fix


def test_bad_answers_to_an_inference():
    def answer(kind, body):
        def respond(data):
            sequence, asked, _ = request_of(data)
            bodies = {1: greeting(), 2: b"", 3: struct.pack("<iI", 0, 5), 4: bytes(8), 5: bytes(8), kind: body}
            return frame(bytes([asked | 0x80]) + bodies[asked], sequence)

        return respond

    assert fake_link(answer(5, struct.pack("<II", 7, 9))).infer(bytes(16)).digests == (7, 9)
    for kind, body, problem in (
        (2, b"x", "1 bytes instead of 0"),
        (3, b"", "0 bytes instead of 8"),
        (3, struct.pack("<iI", -3, 5), "status -3"),
        (4, bytes(7), "7 bytes instead of 8"),
        (5, bytes(9), "9 bytes instead of 8"),
    ):
        with pytest.raises(LinkError, match=problem):
            fake_link(answer(kind, body)).infer(bytes(16))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_from_a_peer_are_an_error(data):
    with pytest.raises(LinkError):
        fake_link(lambda _: data).hello()


@settings(max_examples=200, deadline=None)
@given(kind=st.integers(0x80, 0xFF), body=st.binary(max_size=70))
def test_any_packet_from_a_peer_is_a_greeting_or_an_error(kind, body):
    with contextlib.suppress(LinkError):
        assert fake_link(answering(body, kind=kind)).hello().chunk_bytes >= 64


def test_port_that_breaks_is_an_error():
    def answer(_data):
        raise OSError("device disconnected")

    with pytest.raises(LinkError, match="the port failed: device disconnected"):
        fake_link(answer).hello()


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
        data = noisy.random.randbytes(8000)
        assert link.echo(data) == data


def test_late_answer_is_not_taken_for_the_next_one():
    late = []

    def answer(data):
        sequence, kind, body = request_of(data)
        reply = frame(b"\x81" + greeting(), sequence) if kind == 1 else frame(b"\x86" + body, sequence)
        late.append(reply)
        return late[-2] if len(late) > 1 else b""  # always one request behind

    assert fake_link(answer).echo(b"abc" * 40) == b"abc" * 40


@contextlib.contextmanager
def peer(serve):
    """Serve one connection on a loopback port in a thread, and yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(5)
                    serve(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"socket://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(timeout=10)


def flood(connection):
    while True:
        connection.sendall(b"\xa5" * 4096)


def trickle(connection):
    while True:
        connection.sendall(b"\x01")
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("serve", "problem"),
    [
        (lambda connection: connection.recv(1), "port failed|no answer"),  # hangs up
        (flood, "bytes came, but no answer"),
        (trickle, "bytes came, but no answer"),
    ],
)
def test_hostile_peer_on_a_socket(serve, problem):
    started = time.monotonic()
    with (
        peer(serve) as url,
        open_serial_port(url, timeout_s=0.1) as link,
        pytest.raises(LinkError, match=problem),
    ):
        link.hello()
    assert time.monotonic() - started < 5


def test_port_that_does_not_exist():
    with pytest.raises(LinkError, match="cannot be opened") as caught, open_serial_port("/dev/ttyNONE"):
        pass
    assert caught.value.where == "/dev/ttyNONE"


@pytest.mark.parametrize("url", ["socket://127.0.0.1:1", "nonsense://x", ""])
def test_url_that_leads_nowhere(url):
    with pytest.raises(LinkError), open_serial_port(url, timeout_s=0.1):
        pass


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
