"""Runs a firmware built for the host as a subprocess, the link on its standard input and output."""

import contextlib
import os
import selectors
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from mcucompile.errors import ToolError
from mcucompile.targets.link import Link


class PipePort:
    """A subprocess's pipes as a port; `timeout` in seconds, None waits for ever."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.timeout: float | None = None
        if process.stdin is None or process.stdout is None:
            raise ValueError("the process must have pipes")
        self._process = process
        self._to = process.stdin
        self._from = process.stdout.fileno()
        os.set_blocking(self._from, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._from, selectors.EVENT_READ)

    def read(self, size: int = 1) -> bytes:
        """Return up to `size` bytes as soon as there are any.

        Raises:
            OSError: the process has ended.
        """
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        while True:
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._selector.select(left_s):
                return b""
            with contextlib.suppress(BlockingIOError):
                data = os.read(self._from, size)
                if data:
                    return data
                raise OSError(f"the program has ended, exit code {self._process.wait()}")

    def write(self, data: bytes) -> int:
        """Send all of `data`."""
        self._to.write(data)
        self._to.flush()
        return len(data)

    def close(self) -> None:
        """Close the pipes."""
        self._selector.close()
        with contextlib.suppress(OSError):
            self._to.close()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextlib.contextmanager
def open_host(elf: Path, *, time_limit_s: float = 600.0) -> Iterator[Link]:
    """Run a native firmware until the end of the `with` block, and yield the link to it.

    Args:
        elf: built for the board "host".
        time_limit_s: the program is ended after this time.
    Raises:
        ToolError: the program cannot be started.
    """
    try:
        process = subprocess.Popen([str(elf.absolute())], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except OSError as error:
        raise ToolError(elf, f"cannot be run: {error.strerror}", "build it for the board 'host'") from error
    with contextlib.ExitStack() as stack:
        stack.callback(end_process, process)
        watchdog = threading.Timer(time_limit_s, process.kill)
        watchdog.daemon = True
        watchdog.start()
        stack.callback(watchdog.cancel)
        port = PipePort(process)
        stack.callback(port.close)
        yield Link(port, name=f"{elf.name} (host)")


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a process of our own, if it still runs, and reap it."""
    if process.poll() is None:
        process.kill()
    process.wait()
