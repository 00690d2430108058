"""Runs the command line in this process, as a user would type it, and checks what every mistake must give."""

import contextlib
import io
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcucompile.cli import main

DIGITS = Path(__file__).resolve().parent.parent / "examples" / "digits"
MODELS = DIGITS / "models"
FOUR_VIEW = MODELS / "four_view_64_16_10.onnx"
SAMPLES = DIGITS / "calibration.npy"
IMAGES = DIGITS / "test_images.npy"
LABELS = DIGITS / "test_labels.npy"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The output as JSON."""
        return json.loads(self.out)


def run(*arguments: object) -> Outcome:
    """Run `mcucompile arguments...`; a warning of Python is a failure, since users would see it."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
        pytest.raises(SystemExit) as ended,
    ):
        warnings.simplefilter("error")
        main([str(argument) for argument in arguments])
        raise SystemExit(0)
    code = ended.value.code
    assert isinstance(code, int)
    return Outcome(code, out.getvalue(), err.getvalue())


def succeed(*arguments: object) -> Outcome:
    """Run a command that must exit with 0 and say nothing on standard error."""
    outcome = run(*arguments)
    assert (outcome.code, outcome.err) == (0, "")
    return outcome


def refuse(*arguments: object, where: str, problem: str, fix: str = "") -> Outcome:
    """Run a command that must exit with 2 and three lines: `where`, `problem` and `fix` are parts of them."""
    outcome = run(*arguments)
    assert outcome.code == 2, outcome.err
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert len(lines) == 3, outcome.err
    assert lines[0].startswith("error: "), outcome.err
    assert lines[1].startswith("  "), outcome.err
    assert lines[2].startswith("  fix: "), outcome.err
    for line, part in zip(lines, (where, problem, fix), strict=True):
        assert part in line, outcome.err
        assert line.isprintable()
    assert "Traceback" not in outcome.err
    return outcome


def listing(directory: Path) -> dict[str, bytes | None]:
    """Return every file below a directory with its bytes; folders have None."""
    paths = sorted(directory.rglob("*"))
    return {
        path.relative_to(directory).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in paths
        if not path.is_symlink() and (path.is_dir() or path.is_file())
    }


@contextlib.contextmanager
def unchanged(directory: Path) -> Any:
    """Check that the body leaves everything below a directory as it was."""
    before = listing(directory)
    yield
    after = listing(directory)
    assert before.keys() == after.keys()
    assert before == after


def compile_digits(directory: Path, *options: object, target: str = "hifive1") -> Path:
    """Compile the four-view digits model into a directory."""
    succeed(FOUR_VIEW, "--target", target, "--samples", SAMPLES, "-o", directory, *options)
    return directory


Damage = Callable[[bytes], bytes]
DAMAGES: dict[str, Damage] = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda _: b"",
    "flipped": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0x55]) + data[len(data) // 2 + 1 :],
    "noise": lambda data: bytes(i * 97 % 251 for i in range(len(data))),
}
