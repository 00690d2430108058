"""Finds templates/, boards/ and runtime_c/ in a checkout and in an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent.parent


def resource_dir(name: str) -> Path:
    """Return the folder `name` ("templates", "boards" or "runtime_c").

    An installed wheel carries the folders in `mcucompile/_data`; a checkout has them at its top.

    Raises:
        FileNotFoundError: neither place has the folder: the installation is damaged.
    """
    for parent in (_PACKAGE / "_data", _CHECKOUT):
        folder = parent / name
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"mcucompile is installed without its '{name}' folder")
