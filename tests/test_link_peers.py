"""The host's side of the link against peers that misbehave: an error, never a hang."""

import contextlib
import socket
import struct
import threading
import time

import pytest
from cobs import cobs
from hypothesis import given, settings
from hypothesis import strategies as st
from link_frames import HASH, frame
from mcucompile.errors import LinkError
from mcucompile.targets.link import Link
from mcucompile.targets.serial_port import open_serial_port


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
