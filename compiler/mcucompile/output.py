"""Writes a project directory in one step: work happens beside it, then one rename puts it in place.

Whatever is not put in place is removed, with the folders above it that were made for it: a failed or interrupted
run leaves nothing behind and an earlier project as it was.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from mcucompile.errors import ProjectError
from mcucompile.project import MANIFEST
from mcucompile.reference import GRAPH_FILE

_FIX = "choose another output (-o DIR)"
_SCRATCH = ".mcucompile-"


@contextlib.contextmanager
def scratch_directory(final: Path | None) -> Iterator[Path]:
    """Yield an empty directory, beside the one that is to be written, and remove it at the end.

    Args:
        final: the project directory to be, for `put_in_place`; None for work of which nothing is kept.

    Raises:
        ProjectError: `final` cannot be written, or would replace something else than an earlier project.
    """
    if final is None:
        with tempfile.TemporaryDirectory(prefix=_SCRATCH) as temporary:
            yield Path(temporary)
        return
    _check(final)
    parent = final.absolute().parent
    made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    scratch = None
    try:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(dir=parent, prefix=_SCRATCH))
        except OSError as error:
            raise _not_writable(final, error) from error
        yield scratch
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):  # not empty: the project is in it
                folder.rmdir()


def write_files(directory: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files, by path relative to the directory.

    Raises:
        ProjectError: the disk is full, or the like.
    """
    try:
        for name, content in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise _not_writable(directory, error) from error


def put_in_place(scratch: Path, final: Path) -> None:
    """Make a scratch directory of `scratch_directory(final)` the project, instead of an earlier one.

    Raises:
        ProjectError: the earlier one cannot be replaced; it stays.
    """
    scratch.chmod(0o755)
    old = scratch.with_name(scratch.name + "-old")
    try:
        if final.exists():
            final.absolute().rename(old)
        scratch.rename(final.absolute())
    except OSError as error:
        raise _not_writable(final, error) from error
    finally:
        # Also when the user interrupts between the two renames.
        if old.exists() and not final.exists():
            old.rename(final.absolute())
        shutil.rmtree(old, ignore_errors=True)


def _check(final: Path) -> None:
    """Refuse to replace anything but an earlier project or an empty directory."""
    try:
        if final.is_symlink() or (final.exists() and not final.is_dir()):
            raise ProjectError(final, f"is a {'link' if final.is_symlink() else 'file'}, not a directory", _FIX)
        above = next(folder for folder in final.absolute().parents if folder.exists())
        if not above.is_dir():
            raise ProjectError(final, f"cannot be made: {above} is a file", _FIX)
        if not final.is_dir():
            return
        if Path.cwd().is_relative_to(final.resolve()):
            raise ProjectError(final, "is the directory you are in, or one above it", _FIX)
        is_project = (final / MANIFEST).is_file() and (final / GRAPH_FILE).is_file()
        if not is_project and any(final.iterdir()):
            raise ProjectError(final, "holds files that are not a compiled project's", _FIX)
    except (OSError, ValueError) as error:
        raise _not_writable(final, error) from error


def _not_writable(directory: Path, error: OSError | ValueError) -> ProjectError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return ProjectError(directory, f"cannot be written ({reason})", _FIX)
