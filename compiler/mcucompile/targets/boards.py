"""Boards: what a firmware has to fit into, and how it is built, emulated and flashed.

A board is one TOML file in `boards/`; adding one touches nothing else. Unknown and missing keys are errors, so
that a spelling mistake cannot silently become a default.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from mcucompile.errors import BoardError
from mcucompile.resources import resource_dir

CORES = ("host", "rv32imac", "rv32ec", "cortex-m0", "cortex-m4")


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """Flash and RAM in bytes; origins are addresses. 0 bytes (host) means no limit."""

    flash_origin: int
    flash_bytes: int
    ram_origin: int
    ram_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Build:
    """Sources of start-up and port in `runtime_c/firmware`; the link's chunk; PlatformIO's names ("" if none)."""

    sources: tuple[str, ...]
    link_chunk_bytes: int
    platformio_platform: str
    platformio_board: str


@dataclasses.dataclass(frozen=True, slots=True)
class Cycles:
    """Core cycles of one instruction by class, 0 where the core has none; a load includes the wait of its user."""

    alu: int
    load: int
    load_narrow: int
    store: int
    branch_taken: int
    branch_not_taken: int
    multiply: int
    divide: int


@dataclasses.dataclass(frozen=True, slots=True)
class Qemu:
    """The QEMU machine: its serial ports before `serial_index` go nowhere, that one is the link."""

    program: str
    machine: str
    arguments: tuple[str, ...]
    serial_index: int
    no_multiply_arguments: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Unicorn:
    """What surrounds the core in the in-process emulator: a UART, and pages of registers that read 0.

    peripherals: addresses of 4 KiB pages the firmware may touch.
    uart_status reads `uart_status_ready` while a byte waits in `uart_receive`, else `uart_status_idle`.
    constants: registers that always read one value ("ready" flags).
    """

    peripherals: tuple[int, ...]
    uart_transmit: int
    uart_receive: int
    uart_status: int
    uart_status_idle: int
    uart_status_ready: int
    constants: Mapping[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Board:
    """One board file.

    Attributes:
        clock_hz: as the firmware sets it; 0 where it is unknown.
        has_multiplier: of the core, in hardware.
        runners: name -> words of a command, with {elf}, {bin} (the image of the flash), {directory} (the project)
            and {port} to fill in.
    """

    name: str
    description: str
    core: str
    clock_hz: int
    has_multiplier: bool
    memory: Memory
    build: Build
    cycles: Cycles
    runners: Mapping[str, tuple[str, ...]]
    qemu: Qemu | None = None
    unicorn: Unicorn | None = None

    @property
    def is_host(self) -> bool:
        """True for the computer the compiler runs on: a native program instead of firmware."""
        return self.core == "host"


def list_boards() -> tuple[Board, ...]:
    """Return every board of the `boards` folder, by name.

    Raises:
        BoardError: a board file has a mistake.
    """
    return tuple(_read_board(path) for path in sorted(resource_dir("boards").glob("*.toml")))


def load_board(name_or_path: str | Path) -> Board:
    """Return the board of that name, or the board of a TOML file of the user's own.

    Raises:
        BoardError: there is no such board or file, or the file has a mistake (the message names file and key).
    """
    folder = resource_dir("boards")
    path = Path(name_or_path)
    if path.suffix == ".toml":
        return _read_board(path)
    names = sorted(board.stem for board in folder.glob("*.toml"))
    if str(name_or_path) not in names:
        raise BoardError(
            where=f"board '{name_or_path}'",
            problem="there is no board of that name",
            fix=f"use one of {', '.join(names)}, or give the path of a board file (.toml)",
        )
    return _read_board(folder / f"{name_or_path}.toml")


def board_facts(board: Board) -> dict[str, Any]:
    """Return a board as plain values, in the structure of a board file: `board_from` reads them back."""
    facts: dict[str, Any] = _plain(board)
    return facts


def board_from(facts: object, where: Path) -> Board:
    """Return the board of plain values; `where` they are from is for errors.

    Raises:
        BoardError: the values are no board.
    """
    board: Board = _convert(where, "", facts, Board)
    _check(where, board)
    return board


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: _plain(part) for name, part in parts.items() if part is not None}
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _read_board(path: Path) -> Board:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BoardError(path, f"cannot be read ({error.strerror})", "give the path of a board file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BoardError(path, f"is not TOML: {error}", "correct that line") from error
    return board_from(table, path)


def _check(path: Path, board: Board) -> None:
    sources = resource_dir("runtime_c") / "firmware"
    missing = [name for name in board.build.sources if not (sources / name).is_file()]
    wrong = {
        "core": board.core not in CORES and f"'{board.core}' is not one of {', '.join(CORES)}",
        "build.sources": missing and f"{sources.name} has no file '{missing[0]}'",
        "build.link_chunk_bytes": not 64 <= board.build.link_chunk_bytes <= 32768
        and f"{board.build.link_chunk_bytes} is outside 64..32768",
    }
    for key, problem in wrong.items():
        if problem:
            raise BoardError(f"{path}, key '{key}'", problem, "correct the board file")


def _convert(path: Path, key: str, value: object, kind: Any) -> Any:
    """Turn a TOML value into `kind`: a dataclass, tuple, mapping, str, int or bool."""
    where = f"{path}, key '{key}'" if key else str(path)
    if get_origin(kind) is UnionType:
        kind = get_args(kind)[0]
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _convert_table(path, key, value, kind)
    arguments = get_args(kind)
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_convert(path, f"{key}[{i}]", item, arguments[0]) for i, item in enumerate(value))
    if get_origin(kind) is Mapping and isinstance(value, dict):
        try:
            names = {name: int(name, 0) if arguments[0] is int else name for name in value}
        except ValueError as error:
            raise BoardError(where, f"{error}", "use a number such as 0x10000000") from error
        return MappingProxyType(
            {names[name]: _convert(path, f"{key}.{name}", item, arguments[1]) for name, item in value.items()}
        )
    if kind in {str, int, bool} and type(value) is kind:
        return value
    wanted = getattr(kind, "__name__", str(kind))
    raise BoardError(where, f"is {value!r}, not of the type {wanted}", "correct the value")


def _convert_table(path: Path, key: str, table: dict[str, object], kind: Any) -> Any:
    prefix = f"{key}." if key else ""
    kinds = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in table:
        if name not in fields:
            raise BoardError(
                f"{path}, key '{prefix}{name}'", "is not a key of a board", f"known here: {', '.join(fields)}"
            )
    for name, field in fields.items():
        if name not in table and field.default is dataclasses.MISSING:
            raise BoardError(f"{path}, key '{prefix}{name}'", "is missing", "add it, with the source of its value")
    return kind(**{name: _convert(path, prefix + name, item, kinds[name]) for name, item in table.items()})
