"""Builds a generated project into an ELF, with GNU compilers or with `zig cc` from PyPI.

Same directory, same bytes: compilers run in the project's directory on relative paths, and no path or time gets
into the ELF.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mcucompile.errors import ProjectError, ToolError
from mcucompile.targets.boards import Board
from mcucompile.targets.firmware import linker_script

ELF_NAME = "firmware.elf"
TOOLCHAINS = ("auto", "gcc", "zig")

_COMPILE_TIME_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class _Core:
    """How to build for a core: `gcc_programs` in order of preference, flags of both routes."""

    gcc_programs: tuple[str, ...]
    gcc_package: str
    gcc_flags: tuple[str, ...]
    zig_flags: tuple[str, ...]
    no_multiply_gcc_flags: tuple[str, ...] = ()
    no_multiply_zig_flags: tuple[str, ...] = ()


def _riscv(base: str, abi: str, zig_features: str, multiply: bool, zig_abi: tuple[str, ...] = ()) -> _Core:
    def gcc_flags(extension: str) -> tuple[str, ...]:
        # ISA 2.2 holds the CSR instructions, under one name for all versions of gcc.
        return (f"-march={base[:5]}{extension}{base[5:]}", "-misa-spec=2.2", f"-mabi={abi}", "-msmall-data-limit=0")

    def zig_flags(extension: str) -> tuple[str, ...]:
        return ("-target", "riscv32-freestanding-none", f"-mcpu=generic_rv32{extension}{zig_features}", *zig_abi)

    return _Core(
        gcc_programs=("riscv64-unknown-elf-gcc", "riscv32-unknown-elf-gcc", "riscv-none-elf-gcc"),
        gcc_package="gcc-riscv64-unknown-elf",
        gcc_flags=gcc_flags("m" if multiply else ""),
        zig_flags=zig_flags("+m" if multiply else ""),
        no_multiply_gcc_flags=gcc_flags(""),
        no_multiply_zig_flags=zig_flags(""),
    )


def _cortex_m(core: str) -> _Core:
    gcc_flags = (f"-mcpu={core}", "-mthumb", "-mfloat-abi=soft")
    zig_flags = ("-target", "thumb-freestanding-eabi", f"-mcpu={core.replace('-', '_')}", "-mfloat-abi=soft")
    return _Core(
        gcc_programs=("arm-none-eabi-gcc",),
        gcc_package="gcc-arm-none-eabi",
        gcc_flags=gcc_flags,
        zig_flags=zig_flags,
        # These cores always multiply: only the kernels and the proof on the ELF can avoid it.
        no_multiply_gcc_flags=gcc_flags,
        no_multiply_zig_flags=zig_flags,
    )


_CORES = {
    "host": _Core(("gcc", "cc", "clang"), "gcc", (), ()),
    "rv32imac": _riscv("rv32iac", "ilp32", "+a+c+zicsr+relax", multiply=True),
    "rv32ec": _riscv("rv32ec", "ilp32e", "+e+c+zicsr+relax", multiply=False, zig_abi=("-mabi=ilp32e",)),
    "cortex-m0": _cortex_m("cortex-m0"),
    "cortex-m4": _cortex_m("cortex-m4"),
}

_COMMON_FLAGS = ("-std=c99", "-g", "-ffunction-sections", "-fdata-sections", "-Iinclude")
# A jump table is an indirect jump, through which no stack can be computed; library calls that a compiler
# invents from loops would hide a layer's cost.
_FREESTANDING_FLAGS = ("-ffreestanding", "-fno-builtin", "-fno-jump-tables")
# Unwinding, sanitizing, frame pointers and stack protection are defaults of zig, folding equal functions and loops
# into calls of memset those of gcc.
_GCC_FLAGS = ("-fno-ipa-icf", "-fno-tree-loop-distribute-patterns")
_ZIG_FLAGS = (
    "-fno-sanitize=undefined",
    "-fno-stack-protector",
    "-fomit-frame-pointer",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
)
_LINK_FLAGS = ("-nostdlib", "-static", "-Wl,--gc-sections", "-Wl,--build-id=none", "-Wl,--entry=mcu_entry")
_POSIX_FLAGS = ("-D_POSIX_C_SOURCE=200809L",)


@dataclass(frozen=True, slots=True)
class Compiler:
    """One compiler: the command's first words, and whether it is zig."""

    command: tuple[str, ...]
    is_zig: bool


def find_compiler(board: Board, toolchain: str = "auto") -> Compiler:
    """Return the compiler for a board; "auto" takes the GNU one if it is on PATH, else zig.

    Raises:
        ToolError: it is not installed; the fix names the packages.
    """
    return _find_compiler(f"board '{board.name}'", _CORES[board.core], toolchain)


def _find_compiler(where: str, core: _Core, toolchain: str) -> Compiler:
    if toolchain not in TOOLCHAINS:
        raise ToolError(
            f"tool chain '{toolchain}'", "there is none of that name", f"use one of {', '.join(TOOLCHAINS)}"
        )
    apt = f"apt-get install {core.gcc_package}"
    pip = "pip install 'mcucompile[toolchain]'"
    if toolchain in {"auto", "gcc"}:
        for program in core.gcc_programs:
            if path := shutil.which(program):
                return Compiler((path,), is_zig=False)
    if toolchain in {"auto", "zig"} and importlib.util.find_spec("ziglang") is not None:
        return Compiler((sys.executable, "-m", "ziglang", "cc"), is_zig=True)
    raise {
        "auto": ToolError(
            where,
            f"there is no compiler: neither {core.gcc_programs[0]} on PATH nor the Python package ziglang",
            f"{pip} (any system), or {apt} (Debian, Ubuntu)",
        ),
        "gcc": ToolError(where, f"{core.gcc_programs[0]} is not on PATH", apt),
        "zig": ToolError(where, "the Python package ziglang is not installed", pip),
    }[toolchain]


def find_host_compiler() -> Compiler:
    """Return a compiler for the computer this runs on.

    Raises:
        ToolError: there is none; the fix names the packages.
    """
    return _find_compiler("the host", _CORES["host"], "auto")


def compile_flags(
    board: Board, *, zig: bool = False, no_multiply: bool = False, observe_layers: bool = True, optimize: str = "2"
) -> tuple[str, ...]:
    """Return the flags that compile a project's sources, run in its directory.

    Args:
        board: for its core.
        zig: flags of zig cc instead of gcc.
        no_multiply: leave the multiply extension out of the instruction set, where there is such a choice.
        observe_layers: keep the digest of each layer's output, for verification.
        optimize: what follows -O: "2" or "s".
    """
    core = _CORES[board.core]
    if no_multiply:
        flags = core.no_multiply_zig_flags if zig else core.no_multiply_gcc_flags
    else:
        flags = core.zig_flags if zig else core.gcc_flags
    flags += (f"-O{optimize}", *_COMMON_FLAGS, *(_ZIG_FLAGS if zig else _GCC_FLAGS))
    flags += _POSIX_FLAGS if board.is_host else _FREESTANDING_FLAGS
    flags += (f"-DMCU_LINK_CHUNK_BYTES={board.build.link_chunk_bytes}u",)
    return (*flags, "-DMCU_OBSERVE_LAYERS") if observe_layers else flags


def build_firmware(
    directory: Path,
    board: Board,
    *,
    toolchain: str = "auto",
    no_multiply: bool = False,
    observe_layers: bool = True,
    optimize: str = "2",
    stack_bytes: int | None = None,
    enforce_limits: bool = True,
) -> Path:
    """Compile `src/*.c` and link it into `directory/firmware.elf`.

    Args:
        directory: a project: `src/`, `include/` and (not for the host) `link.ld`.
        board: what to build for.
        toolchain: "auto", "gcc" or "zig".
        no_multiply, observe_layers, optimize: see `compile_flags`.
        stack_bytes: the size of the stack; None takes the linker script's.
        enforce_limits: False links an image larger than the board's memories, so that it can be measured.
    Returns:
        The path of the ELF.
    Raises:
        ProjectError: there is nothing to compile in the directory.
        ToolError: the compiler is missing, or fails: its first error is the problem.
    """
    compiler = find_compiler(board, toolchain)
    sources = sorted(path.relative_to(directory).as_posix() for path in directory.glob("src/*.c"))
    if not sources:
        raise ProjectError(directory, "holds no src/*.c", "give the directory that mcucompile has written")
    flags = compile_flags(
        board,
        zig=compiler.is_zig,
        no_multiply=no_multiply,
        observe_layers=observe_layers,
        optimize=optimize,
    )
    # Debug information names the directory, in one of two spellings, and zig's headers.
    prefixes = {str(directory.absolute()): ".", str(directory.resolve()): "."}
    if compiler.is_zig:
        prefixes |= dict.fromkeys(_package_folders("ziglang"), "zig")
    flags += tuple(f"-ffile-prefix-map={prefix}={name}" for prefix, name in sorted(prefixes.items()))
    with tempfile.TemporaryDirectory() as temporary:
        link: tuple[str, ...] = ()
        if not board.is_host:
            script = "link.ld"
            if not enforce_limits:
                unlimited = Path(temporary) / "link.ld"
                unlimited.write_text(linker_script(board, enforce_limits=False), encoding="utf-8")
                script = str(unlimited)
            link = (*_LINK_FLAGS, "-T", script)
            if stack_bytes is not None:
                link += (f"-Wl,--defsym=mcu_stack_bytes={stack_bytes}",)
            # Helpers for what the core cannot do; the proofs look at which ones are called.
            link += ("-rtlib=compiler-rt",) if compiler.is_zig else ("-lgcc",)
        _compile(compiler, (*flags, *sources, *link, "-o", ELF_NAME), directory, temporary)
    return directory / ELF_NAME


def _package_folders(name: str) -> list[str]:
    spec = importlib.util.find_spec(name)
    return [] if spec is None else list(spec.submodule_search_locations or ())


def _compile(compiler: Compiler, arguments: tuple[str, ...], directory: Path, temporary: str) -> None:
    name = "zig cc" if compiler.is_zig else Path(compiler.command[0]).name
    environment = {**os.environ, "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0", "ZIG_LOCAL_CACHE_DIR": temporary}
    try:
        result = subprocess.run(
            [*compiler.command, *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_COMPILE_TIME_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(name, f"ran longer than {_COMPILE_TIME_LIMIT_S:g} s", "try a smaller model") from error
    except OSError as error:
        raise ToolError(name, f"cannot be run: {error.strerror}", "install it again") from error
    if result.returncode != 0:
        message = _first_error(result.stdout.decode("utf-8", errors="replace"))
        raise ToolError(f"{name} in {directory}", message, _fix(message))


def _first_error(output: str) -> str:
    """Return the line that says what went wrong first: a compiler's or a linker's."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    is_cause: tuple[Callable[[str], bool], ...] = (
        lambda line: "overflowed" in line or "will not fit" in line,
        lambda line: "error:" in line.lower() or "undefined reference" in line,
    )
    for test in is_cause:
        for line in lines:
            if test(line):
                return line
    return lines[0] if lines else "failed without a message"


def _fix(message: str) -> str:
    if "overflowed" in message or "will not fit" in message:
        return "use a smaller model, fewer weight bits, or a board with more memory"
    return "compile the model again; if the message stays, report it with the model"


def compiler_version(compiler: Compiler) -> str:
    """Return the first line of what the compiler says of its version, e.g. for a manifest."""
    result = subprocess.run(
        [*compiler.command, "--version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_COMPILE_TIME_LIMIT_S,
        check=False,
    )
    return result.stdout.partition("\n")[0].strip()
