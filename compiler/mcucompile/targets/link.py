"""The host's side of the link to a firmware: the same frames to a board, an emulator and a native program.

Packets and frames are described in `runtime_c/firmware/mcu_link.h`, the twin of this file. The host speaks, the
firmware answers; what gets lost or damaged is asked for again, since every request may be repeated.
"""

import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cobs import cobs
from serial import SerialException

from mcucompile.errors import LinkError

PROTOCOL_VERSION = 1

_HELLO, _WRITE, _RUN, _READ, _DIGESTS, _ECHO, _OBSERVE = range(1, 8)
_REPLY, _FAULT, _ERROR = 0x80, 0xFE, 0xFF
_ERROR_FRAME = 1
_ERROR_NAMES = {1: "the frame is damaged", 2: "the request is unknown", 3: "offset or length is out of range"}

_HELLO_BODY = struct.Struct("<BH16sIII")
_DIGEST_BYTES = 4
_OBSERVATION = struct.Struct("<iI")
# An error's frame: sequence, type, code, CRC-32, and two bytes of COBS. No frame is shorter.
_SHORTEST_FRAME = 8  # a reply without a body: sequence, type, CRC-32, one byte of COBS, the delimiter
# More than a frame of the largest chunk; and sizes beyond which a greeting is not believed.
_LONGEST_FRAME = 1 << 17
_SMALLEST_CHUNK_BYTES = 64
_LARGEST_TENSOR_BYTES = 1 << 24
_MOST_LAYERS = 1 << 16


class Port(Protocol):
    """The part of a pyserial port that the link uses; any object with it will do."""

    timeout: float | None

    def read(self, size: int = 1, /) -> bytes:
        """Return up to `size` bytes; fewer after `timeout` seconds."""

    def write(self, data: bytes, /) -> int | None:
        """Send all of `data`."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a firmware says of itself. Counts are bytes; `chunk_bytes` is the most data in one packet."""

    chunk_bytes: int
    model_hash: bytes
    input_bytes: int
    output_bytes: int
    layer_count: int
    model_name: str


@dataclass(frozen=True, slots=True)
class Inference:
    """One answer: output bytes, the CRC-32 of each layer's output (empty unless asked for), core cycles.

    `cycles` is modulo 2**32, without the time of the digests, and 0 where the core has no counter.
    """

    output: bytes
    digests: tuple[int, ...]
    cycles: int


@dataclass(frozen=True, slots=True)
class Observation:
    """A range of a layer's output: the CRC-32 of all its bytes, and as many of the first as one packet holds."""

    crc: int
    data: bytes


class Link:
    """Requests to one firmware over `port`, which stays open: whoever opened it closes it.

    Args:
        port: a pyserial port or the like; its `timeout` is changed.
        name: what messages call the other side, such as "/dev/ttyUSB0".
        timeout_s: how long one request may stay without an answer before it is sent again.
        run_timeout_s: the same for an inference.
        attempts: how often a request is sent before the link gives up.
        describe_address: names the function at a program counter, for messages.
    Raises (all requests):
        LinkError: no answer, an answer that is not this protocol's, or a trap of the firmware.
    """

    def __init__(
        self,
        port: Port,
        *,
        name: str,
        timeout_s: float = 2.0,
        run_timeout_s: float = 60.0,
        attempts: int = 3,
        describe_address: Callable[[int], str] = hex,
    ) -> None:
        self.name = name
        self._port = port
        self._timeout_s = timeout_s
        self._run_timeout_s = run_timeout_s
        self._attempts = attempts
        self._describe_address = describe_address
        self._sequence = 0
        self._received = b""
        self._hello: Hello | None = None

    def hello(self) -> Hello:
        """Ask who is there.

        Raises:
            LinkError: also when the firmware speaks another version of the protocol.
        """
        body = self._request(_HELLO, b"", self._timeout_s)
        if not body or body[0] != PROTOCOL_VERSION:
            raise LinkError(
                self.name,
                f"the firmware speaks version {body[0] if body else '?'} of the link, "
                f"this program version {PROTOCOL_VERSION}",
                "build and flash the firmware again with this version of mcucompile",
            )
        if len(body) < _HELLO_BODY.size:
            raise self._bad_reply("greets with a packet that is too short")
        _, chunk_bytes, model_hash, input_bytes, output_bytes, layer_count = _HELLO_BODY.unpack_from(body)
        believable = (
            chunk_bytes >= _SMALLEST_CHUNK_BYTES
            and max(input_bytes, output_bytes) <= _LARGEST_TENSOR_BYTES
            and layer_count <= _MOST_LAYERS
        )
        if not believable:
            raise self._bad_reply(
                f"greets with impossible sizes: chunks of {chunk_bytes}, input {input_bytes}, "
                f"output {output_bytes} bytes, {layer_count} layers"
            )
        name = body[_HELLO_BODY.size :].decode("utf-8", errors="replace")
        self._hello = Hello(chunk_bytes, model_hash, input_bytes, output_bytes, layer_count, name)
        return self._hello

    def infer(self, data: bytes, *, digests: bool = True) -> Inference:
        """Run the model once.

        Args:
            data: the input tensor's bytes, little-endian.
            digests: also fetch the CRC-32 of every layer's output.
        Raises:
            LinkError: also when `data` has not the model's input size, or the model reports an error.
        """
        hello = self._write_input(data)
        answer = self._request(_RUN, bytes([digests]), self._run_timeout_s, body_bytes=8)
        status, cycles = struct.unpack("<iI", answer)
        self._check_status(status)
        output = self._read(_READ, hello.output_bytes, hello.chunk_bytes)
        table = self._read(_DIGESTS, hello.layer_count * _DIGEST_BYTES if digests else 0, hello.chunk_bytes)
        return Inference(output, struct.unpack(f"<{len(table) // _DIGEST_BYTES}I", table), cycles)

    def observe(self, data: bytes, layer: int, offset: int, size: int) -> Observation:
        """Run the model once and look at a range of one layer's output.

        Args:
            data: the input tensor's bytes, little-endian.
            layer: index of the layer.
            offset, size: the range in bytes, inside the layer's output.
        Raises:
            LinkError: also when the range is outside the layer's output.
        """
        hello = self._write_input(data)
        shown = min(size, hello.chunk_bytes - _OBSERVATION.size)
        request = struct.pack("<III", layer, offset, size)
        answer = self._request(_OBSERVE, request, self._run_timeout_s, body_bytes=_OBSERVATION.size + shown)
        status, crc = _OBSERVATION.unpack_from(answer)
        self._check_status(status)
        return Observation(crc, answer[_OBSERVATION.size :])

    def _write_input(self, data: bytes) -> Hello:
        """Send the input tensor's bytes, and return who is there."""
        hello = self._hello or self.hello()
        if len(data) != hello.input_bytes:
            raise LinkError(
                self.name,
                f"the input has {len(data)} bytes, the model '{hello.model_name}' takes {hello.input_bytes}",
                "give one input of the model's shape and type",
            )
        for offset in range(0, len(data), hello.chunk_bytes):
            chunk = data[offset : offset + hello.chunk_bytes]
            self._request(_WRITE, struct.pack("<I", offset) + chunk, self._timeout_s, body_bytes=0)
        return hello

    def _check_status(self, status: int) -> None:
        if status != 0:
            raise LinkError(self.name, f"the model returned the status {status}", "build and flash the firmware again")

    def echo(self, data: bytes) -> bytes:
        """Send `data` and return what comes back, in chunks: a test of the line."""
        chunk_bytes = (self._hello or self.hello()).chunk_bytes
        chunks = (data[i : i + chunk_bytes] for i in range(0, len(data), chunk_bytes))
        return b"".join(self._request(_ECHO, chunk, self._timeout_s, body_bytes=len(chunk)) for chunk in chunks)

    def _read(self, kind: int, total_bytes: int, chunk_bytes: int) -> bytes:
        data = b""
        while len(data) < total_bytes:
            size = min(chunk_bytes, total_bytes - len(data))
            body = struct.pack("<IH", len(data), size)
            data += self._request(kind, body, self._timeout_s, body_bytes=size)
        return data

    def _request(self, kind: int, body: bytes, timeout_s: float, body_bytes: int | None = None) -> bytes:
        """Send one request until its reply arrives, and return the reply's body of `body_bytes` (None: any)."""
        self._sequence = self._sequence % 255 + 1  # 0 is the firmware's own, for what it could not read
        packet = bytes([self._sequence, kind]) + body
        # The first delimiter ends whatever noise came before.
        frame = b"\0" + cobs.encode(packet + zlib.crc32(packet).to_bytes(4, "little")) + b"\0"
        noise = 0
        for _ in range(self._attempts):
            reply, received = self._exchange(frame, timeout_s, body_bytes or 0)
            noise += received
            if reply is None:
                continue
            if reply[1] != kind | _REPLY:
                raise self._bad_reply(f"answers request {kind} with type {reply[1]}")
            if body_bytes is not None and len(reply) != body_bytes + 2:
                raise self._bad_reply(f"answers with {len(reply) - 2} bytes instead of {body_bytes}")
            return reply[2:]
        if noise:
            raise LinkError(
                self.name,
                f"{noise} bytes came, but no answer to request {kind} in {self._attempts} attempts",
                "check that this port is the board's, its speed (115200 baud) and its wiring",
            )
        raise LinkError(
            self.name,
            f"no answer within {timeout_s:g} s, {self._attempts} times",
            "check that the board is connected, powered and runs firmware built by mcucompile",
        )

    def _exchange(self, frame: bytes, timeout_s: float, body_bytes: int) -> tuple[bytes | None, int]:
        """Send a frame; return the packet (without CRC) that answers it, if any, and the bytes of all else."""
        deadline = time.monotonic() + timeout_s
        noise = 0
        # At least 6 bytes beside the body, one of COBS and the delimiter; never more than will come.
        expected = body_bytes + 8
        try:
            self._port.timeout = timeout_s
            self._port.write(frame)
            while (received := self._read_frame(deadline, expected)) is not None:
                packet = _decode(received)
                if packet is not None and packet[1] == _FAULT and len(packet) == 10:
                    raise self._fault(packet)
                if packet is not None and packet[1] == _ERROR and len(packet) == 3:
                    if packet[2] == _ERROR_FRAME:
                        return None, noise  # it was damaged on the way there: send it again
                    if packet[0] == self._sequence:
                        raise self._bad_reply(f"refuses a request: {_ERROR_NAMES.get(packet[2], f'error {packet[2]}')}")
                elif packet is not None and packet[0] == self._sequence:
                    return packet, noise
                # Else noise, or the late answer to an earlier attempt.
                noise += len(received)
            noise += len(self._received)
        except (SerialException, OSError) as error:
            raise LinkError(self.name, f"the port failed: {error}", "connect the board again") from error
        return None, noise

    def _read_frame(self, deadline: float, expected: int) -> bytes | None:
        """Return the bytes before the next delimiter, or None when the time is over.

        A pyserial port is asked for as many bytes as must still come, since one call for each byte is slow.
        """
        while b"\0" not in self._received:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            # An error is shorter than the reply that was expected, and must not be waited past.
            target = expected if len(self._received) >= _SHORTEST_FRAME else _SHORTEST_FRAME
            self._port.timeout = left_s
            data = self._port.read(max(1, target - len(self._received)))
            if not data:
                return None
            self._received += data
            if len(self._received) > _LONGEST_FRAME:
                break
        frame, _, self._received = self._received.partition(b"\0")
        return frame

    def _fault(self, packet: bytes) -> LinkError:
        cause, address = struct.unpack("<II", packet[2:])
        return LinkError(
            self.name,
            f"the firmware trapped: cause {cause} at {self._describe_address(address)}",
            "reset the board; if it happens again, report it with the model",
        )

    def _bad_reply(self, problem: str) -> LinkError:
        return LinkError(self.name, f"the other side {problem}", "flash firmware built by this version of mcucompile")


def _decode(frame: bytes) -> bytes | None:
    """Return the packet in a frame, without its CRC; None if there is none."""
    try:
        packet: bytes = cobs.decode(frame)
    except cobs.DecodeError:
        return None
    if len(packet) < 6 or zlib.crc32(packet[:-4]).to_bytes(4, "little") != packet[-4:]:
        return None
    return packet[:-4]
