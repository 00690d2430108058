"""The files of a board's firmware around the model: link, start-up, port and linker script."""

from mcucompile.resources import resource_dir
from mcucompile.targets.boards import Board

DEFAULT_STACK_BYTES = 512

_HEADERS = ("mcu_link.h", "mcu_port.h", "mcu_startup.h")
_SOURCES = ("mcu_link.c", "mcu_main.c")
# Firmware without a C library; the host has one.
_FREESTANDING_SOURCES = ("mcu_memory.c",)

# Lengths for an image that is only measured; below the distance of flash and RAM on every board.
_UNLIMITED_BYTES = 0x0800_0000


def firmware_files(board: Board, stack_bytes: int = DEFAULT_STACK_BYTES) -> dict[str, str]:
    """Return path -> text of the files that, beside model.c and model.h, make a firmware project.

    Paths are relative to the project: `include/mcu_link.h`, `src/mcu_link.c`, `link.ld` (not for the host), ...
    """
    folder = resource_dir("runtime_c") / "firmware"
    sources = _SOURCES + board.build.sources
    if not board.is_host:
        sources += _FREESTANDING_SOURCES
    files = {f"include/{name}": (folder / name).read_text(encoding="utf-8") for name in _HEADERS}
    files |= {f"src/{name}": (folder / name).read_text(encoding="utf-8") for name in sources}
    if not board.is_host:
        files["link.ld"] = linker_script(board, stack_bytes)
    return files


def linker_script(board: Board, stack_bytes: int = DEFAULT_STACK_BYTES, *, enforce_limits: bool = True) -> str:
    """Return the GNU linker script of a board, stack at the lowest addresses of its RAM.

    Args:
        board: any board but the host.
        stack_bytes: size of the stack; the worst case is known once the firmware has been built.
        enforce_limits: False lets an image grow past the board's memories, so that its sizes can be measured.
    """
    memory = board.memory
    flash_bytes, ram_bytes = memory.flash_bytes, memory.ram_bytes
    if not enforce_limits:
        flash_bytes = ram_bytes = _UNLIMITED_BYTES
    sections = (resource_dir("runtime_c") / "firmware" / "sections.ld").read_text(encoding="utf-8")
    return (
        f"/* {board.description} */\n"
        "MEMORY\n"
        "{\n"
        f"    FLASH (rx) : ORIGIN = {memory.flash_origin:#010x}, LENGTH = {flash_bytes:#x}\n"
        f"    RAM (rwx) : ORIGIN = {memory.ram_origin:#010x}, LENGTH = {ram_bytes:#x}\n"
        "}\n"
        "\n"
        f"mcu_stack_bytes = DEFINED(mcu_stack_bytes) ? mcu_stack_bytes : {stack_bytes};\n"
        "\n"
        f"{sections}"
    )
