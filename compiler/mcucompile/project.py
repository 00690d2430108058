"""A compiled project on disk: reads it back, and opens the devices that can run it."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcucompile import reference
from mcucompile.emit import layer_names
from mcucompile.errors import BoardError, ProjectError, ToolError
from mcucompile.ir import Graph
from mcucompile.kernels import Core
from mcucompile.targets.boards import Board, board_from, load_board
from mcucompile.targets.counting import CountingLink
from mcucompile.targets.firmware import firmware_files
from mcucompile.targets.host import open_host
from mcucompile.targets.link import Link
from mcucompile.targets.qemu import has_qemu, open_qemu
from mcucompile.targets.serial_port import open_serial_port
from mcucompile.targets.toolchain import build_firmware
from mcucompile.targets.unicorn_emulator import has_unicorn, open_unicorn
from mcucompile.verify import OpenLink

MANIFEST = "manifest.json"
BOARD_FILE = f"{reference.FOLDER}/board.json"
# What `compile --json` prints, but for the directory.
FACTS_FILE = f"{reference.FOLDER}/facts.json"
FIRMWARE = "firmware.elf"
EMULATORS = ("qemu", "unicorn")

_DIGEST_BYTES = 16
_AGAIN = "compile the model again"


@dataclass(frozen=True, slots=True, eq=False)
class Project:
    """What `mcucompile MODEL -o DIR` wrote.

    Attributes:
        directory: DIR.
        graph: of integers, the reference.
        board: the target.
        manifest: hashes of model, options, versions and files.
    """

    directory: Path
    graph: Graph
    board: Board
    manifest: dict[str, Any]

    @property
    def digest(self) -> bytes:
        """What the firmware answers to hello."""
        return bytes.fromhex(self.manifest["digest"])

    @property
    def no_multiply(self) -> bool:
        """Whether the firmware was promised to hold no multiply."""
        return bool(self.manifest["options"]["no_multiply"])

    @property
    def kernels(self) -> tuple[str, ...]:
        """The kernel of each layer."""
        return tuple(self.manifest["kernels"])

    @property
    def functions(self) -> tuple[str, ...]:
        """The C function of each layer."""
        return layer_names(self.graph)

    @property
    def elf(self) -> Path:
        """The firmware."""
        return self.directory / FIRMWARE


def load_project(directory: Path) -> Project:
    """Read a project.

    The reference must be the bytes that were written: what it says of a firmware counts. The C files and the
    firmware may have been changed, which is for `verify` to find.

    Raises:
        ProjectError: the directory holds no project, or a damaged one.
    """
    manifest = _read_json(directory, MANIFEST)
    _check_manifest(directory / MANIFEST, manifest)
    for name, expected in manifest["files"].items():
        if name.startswith(f"{reference.FOLDER}/") and _sha256(directory, name) != expected:
            raise ProjectError(directory / name, "is damaged: its bytes are not those of the manifest", _AGAIN)
    try:
        board = board_from(_read_json(directory, BOARD_FILE), directory / BOARD_FILE)
    except BoardError as error:
        raise ProjectError(error.where, error.problem, _AGAIN) from error
    return Project(directory, reference.load(directory), board, manifest)


def core_of(board: Board, *, no_multiply: bool) -> Core:
    """Return what kernels must know of a board's CPU.

    Args:
        board: with its core.
        no_multiply: the build is not allowed to multiply.
    """
    return Core(board.has_multiplier and not no_multiply, board.core, max(board.cycles.multiply, 1))


def load_facts(directory: Path) -> Any:
    """Return what compiling a project found out, as of `Compiled.facts`.

    Raises:
        ProjectError: the project has none, or they are damaged.
    """
    return _read_json(directory, FACTS_FILE)


def _read_json(directory: Path, name: str) -> Any:
    try:
        return json.loads((directory / name).read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        fix = "give the directory that `mcucompile MODEL -o DIR` wrote"
        raise ProjectError(directory, f"holds no compiled project: there is no {name}", fix) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ProjectError(directory / name, f"is damaged: {error}", _AGAIN) from error


def _check_manifest(path: Path, manifest: Any) -> None:
    """Check what is read from a manifest."""
    try:
        digest = bytes.fromhex(manifest["digest"])
        names = manifest["files"].keys()
        if len(digest) != _DIGEST_BYTES or not _has_options(manifest["options"]):
            raise ValueError("it has no digest and options of a project")
        if not all(isinstance(name, str) for name in manifest["kernels"]):
            raise ValueError("it does not name the layers' kernels")
        if missing := {*reference.FILES, BOARD_FILE} - names:
            raise ValueError(f"it does not name {min(missing)}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProjectError(path, f"is damaged: {error}", _AGAIN) from error


def _has_options(options: Any) -> bool:
    return type(options["no_multiply"]) is bool


def _sha256(directory: Path, name: str) -> str:
    try:
        return hashlib.sha256((directory / name).read_bytes()).hexdigest()
    except OSError as error:
        raise ProjectError(directory / name, f"cannot be read ({error.strerror})", _AGAIN) from error


def devices(project: Project, on: str, *, baud: int = 115200) -> tuple[tuple[str, OpenLink], ...]:
    """Return the devices that `--on` names, each with a way to open its link.

    Args:
        project: with a built firmware.
        on: "emulator" (the host and the board's emulator), "host", "qemu", "unicorn", or the port of a board:
            a device name or a pyserial URL.
        baud: of a port.

    Raises:
        ToolError: no emulator of the board is installed.
    """
    if on == "emulator" and not project.board.is_host:
        emulator = choose_emulator(project.board)
        return (("host", lambda: _host(project)), (emulator, lambda: open_emulator(project, emulator)))
    if on in ("host", "emulator"):
        return (("host", lambda: _host(project)),)
    if on in EMULATORS:
        return ((on, lambda: open_emulator(project, on)),)
    return ((on, lambda: open_serial_port(on, baud=baud)),)


def choose_emulator(board: Board, *, for_cycles: bool = False) -> str:
    """Return the emulator to use of those that are installed and know the board.

    Args:
        board: any but the host.
        for_cycles: prefer unicorn, which estimates cycles, to QEMU, the more independent witness of answers.
    """
    known = {"qemu": has_qemu(board), "unicorn": board.unicorn is not None and has_unicorn()}
    for emulator in reversed(EMULATORS) if for_cycles else EMULATORS:
        if known[emulator]:
            return emulator
    raise ToolError(
        f"board '{board.name}'",
        "no emulator for it is installed",
        "pip install 'mcucompile[toolchain]' (any system), or apt-get install qemu-system-misc qemu-system-arm",
    )


def open_emulator(
    project: Project, emulator: str, layers: tuple[str, ...] | None = None
) -> AbstractContextManager[CountingLink]:
    """Open an emulator on the project's firmware; `layers` as of `open_qemu`.

    A firmware without multiply runs on a core whose multiplier is switched off.
    """
    opener = open_qemu if emulator == "qemu" else open_unicorn
    return opener(project.elf, project.board, no_multiply=project.no_multiply, layers=layers)


@contextmanager
def _host(project: Project) -> Iterator[Link]:
    """Build the project's own model.c with the host's link around it, and run that."""
    board = load_board("host")
    with tempfile.TemporaryDirectory(prefix="mcucompile-") as scratch:
        directory = Path(scratch)
        files = {name: text.encode() for name, text in firmware_files(board).items()}
        for name, content in {**_model_files(project), **files}.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        with open_host(build_firmware(directory, board)) as link:
            yield link


def _model_files(project: Project) -> dict[str, bytes]:
    """Return the files that do not depend on the board: the model and the headers it includes."""
    paths = [project.directory / "src/model.c", *sorted(project.directory.glob("include/**/*.h"))]
    try:
        return {path.relative_to(project.directory).as_posix(): path.read_bytes() for path in paths}
    except OSError as error:
        raise ProjectError(error.filename, f"cannot be read ({error.strerror})", _AGAIN) from error
