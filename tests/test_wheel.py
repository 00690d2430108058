"""The wheel: what it holds, and that its base installation alone compiles an ONNX model from any directory."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from command_line import FOUR_VIEW, SAMPLES

ROOT = Path(__file__).resolve().parent.parent
DATA = ("boards", "runtime_c", "templates")
MAX_INSTALLED_BYTES = 200_000_000
# What the base installation must do without.
EXTRAS = ("torch", "onnxscript", "ziglang", "unicorn", "matplotlib", "pytest", "hypothesis", "onnxruntime")


def execute(*command: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command that must succeed, away from the checkout and without what points Python into it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as `pip wheel` does, in an isolated environment."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    execute(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("mcucompile-*-py3-none-any.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel and its base dependencies, nothing else, and return the environment."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, with_pip=True)
    pip = (folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
    # --no-compile: cached byte code is Python's, made or not made as it likes.
    execute(*pip, "install", "--quiet", "--no-compile", wheel, cwd=folder)
    return folder


def sources(folder: Path) -> set[str]:
    """Return the files of a folder of the checkout, relative to it, that belong into the wheel."""
    listed = execute("git", "ls-files", "--", folder, cwd=ROOT).stdout.splitlines()
    return {Path(name).relative_to(folder).as_posix() for name in listed if (ROOT / name).is_file()}


def test_wheel_holds_the_package_and_its_data(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    expected = {f"mcucompile/{name}" for name in sources(Path("compiler/mcucompile"))}
    for folder in DATA:
        data = {f"mcucompile/_data/{folder}/{name}" for name in sources(Path(folder))}
        assert len(data) > 5
        expected |= data
    assert expected - names == set()
    assert not {name for name in names if "__pycache__" in name or not name.startswith(("mcucompile/", "mcucompile-"))}
    assert any(name.endswith("LICENSE") for name in names)
    base = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert 5 < len(base) < 15
    assert not [line for line in base if any(extra in line for extra in EXTRAS)]


def test_base_installation_is_small_and_without_extras(installed: Path) -> None:
    (packages,) = installed.glob("lib/python*/site-packages")
    files = [path for path in packages.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    counted = [path for path in files if path.relative_to(packages).parts[0].split("-")[0] not in ("pip", "setuptools")]
    total = sum(path.stat().st_size for path in counted)
    assert 10_000_000 < total < MAX_INSTALLED_BYTES
    names = {path.relative_to(packages).parts[0].split("-")[0].lower() for path in files}
    assert "mcucompile" in names
    assert names.isdisjoint(EXTRAS)


def test_installed_package_is_not_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = (
        "import mcucompile; from mcucompile.resources import resource_dir as r; print(mcucompile.__file__, r('boards'))"
    )
    places = execute(installed / "bin" / "python", "-c", code, cwd=tmp_path).stdout.split()
    assert len(places) == 2
    for place in places:
        assert Path(place).is_relative_to(installed)


def test_installed_program_lists_boards_and_operators(installed: Path, tmp_path: Path) -> None:
    program = installed / "bin" / "mcucompile"
    boards = {path.stem for path in (ROOT / "boards").glob("*.toml")}
    found = json.loads(execute(program, "boards", "--json", cwd=tmp_path).stdout)
    assert {board["name"] for board in found} == boards
    assert "dlq4half" in execute(program, "ops", cwd=tmp_path).stdout
    assert execute(program, "--version", cwd=tmp_path).stdout.strip()


def test_installed_program_analyzes_the_example(installed: Path, tmp_path: Path) -> None:
    """No tool chain, no torch, another directory: analysis needs neither."""
    program = installed / "bin" / "mcucompile"
    command = (program, "analyze", FOUR_VIEW, "--target", "hifive1", "--samples", SAMPLES, "--json")
    facts = json.loads(execute(*command, cwd=tmp_path, PATH=str(tmp_path)).stdout)
    assert facts["fits"] is True
    assert [layer["op"] for layer in facts["layers"]] == ["four_view", "dense", "dense"]
    assert 0 < facts["ram_bytes"] < 16_384
    assert list(tmp_path.iterdir()) == []


def test_installed_program_writes_the_firmware_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    """Templates, runtime and boards of the wheel are the ones of the checkout, and they are enough to build."""
    arguments = (FOUR_VIEW, "--target", "host", "--samples", SAMPLES, "-o")
    execute(installed / "bin" / "mcucompile", *arguments, tmp_path / "wheel", cwd=tmp_path)
    checkout = (sys.executable, "-c", "import sys; from mcucompile.cli import main; main(sys.argv[1:])")
    execute(*checkout, *arguments, tmp_path / "checkout", cwd=tmp_path)
    # The model's own files may follow the installed numpy in the last digit of a scale.
    written = [path for path in (tmp_path / "wheel").rglob("*.[ch]") if not path.name.startswith("model")]
    assert len(written) > 5
    for path in written:
        assert path.read_bytes() == (tmp_path / "checkout" / path.relative_to(tmp_path / "wheel")).read_bytes()
    assert (tmp_path / "wheel" / "src" / "model.c").stat().st_size > 1000
