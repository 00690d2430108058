"""The checks every model file passes before it is opened."""

import stat
from pathlib import Path

from mcucompile.errors import ModelError
from mcucompile.frontends.builder import MAX_ELEMENTS

# As many float32 constants as a model may have.
MAX_FILE_BYTES = 4 * MAX_ELEMENTS


def read_file(path: Path) -> bytes:
    """Return a file's bytes, or raise ModelError: missing, not a regular file, empty, too large, unreadable."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(path, "is a directory or device, not a file", "give the path of a model file")
        if status.st_size > MAX_FILE_BYTES:
            raise ModelError(
                path,
                f"has {status.st_size:,} bytes, the limit is {MAX_FILE_BYTES:,}",
                "compile a smaller network: no board has the flash for this one",
            )
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(path, "does not exist", "check the path of the model file") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ModelError(path, f"cannot be read ({reason})", "check the file and its permissions") from error
    if not data:
        raise ModelError(path, "is empty", "export the model again")
    return data
