"""The link to a real board on a serial port."""

import contextlib
from collections.abc import Iterator

import serial

from mcucompile.errors import LinkError
from mcucompile.targets.link import Link

DEFAULT_BAUD = 115200
# Many boards reset when their port is opened; a boot loader may wait a second or two before the firmware runs.
_ATTEMPTS = 5


@contextlib.contextmanager
def open_serial_port(
    url: str, *, baud: int = DEFAULT_BAUD, timeout_s: float = 1.0, run_timeout_s: float = 60.0
) -> Iterator[Link]:
    """Open a port (8 data bits, no parity, 1 stop bit) until the end of the `with` block; yield the link to its board.

    Args:
        url: a device such as "/dev/ttyUSB0" or "COM3", or a pyserial URL such as "socket://127.0.0.1:5555".
        baud: bits a second; the firmware in this project uses 115200.
        timeout_s: how long a request may stay without an answer before it is sent again.
        run_timeout_s: the same for an inference.
    Raises:
        LinkError: the port cannot be opened; or as the requests of a Link.
    """
    try:
        port = serial.serial_for_url(url, baudrate=baud, timeout=timeout_s, write_timeout=timeout_s)
    except (serial.SerialException, OSError, ValueError) as error:
        raise LinkError(
            url, f"the port cannot be opened: {error}", "check its name (python -m serial.tools.list_ports) and rights"
        ) from error
    try:
        yield Link(port, name=url, timeout_s=timeout_s, run_timeout_s=run_timeout_s, attempts=_ATTEMPTS)
    finally:
        port.close()
