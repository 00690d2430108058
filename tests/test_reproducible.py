"""Same input, same bytes: whatever the directory, the process or the hash seed; and the text of two small models."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import FOUR_VIEW, SAMPLES, compile_digits, listing, succeed
from conftest import Compare
from mcucompile import __version__, analyze_model
from mcucompile.driver import Options, model_of
from mcucompile.emit import emit_model
from mcucompile.ops.four_view_function import four_view_function
from models_factory import Array, make_model, node
from onnx import TensorProto

# One board for each kind of compiler option; the second one also proves that nothing multiplies.
TARGETS = {"hifive1": (), "ch32v003": ("--weights", "dlq4", "--no-multiply")}
_SEEDED = "import sys; from mcucompile.cli import main; main(sys.argv[1:])"


def assert_same_files(one: Path, other: Path) -> None:
    """Compare two directories byte by byte, naming the first file that differs."""
    mine, theirs = listing(one), listing(other)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if mine[name] != theirs[name]] == []
    assert len(mine) > 15


@pytest.fixture(scope="module", params=TARGETS)
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Return a target and a project compiled for it."""
    directory = tmp_path_factory.mktemp("project") / "first"
    return request.param, compile_digits(directory, *TARGETS[request.param], target=request.param)


def test_another_directory_gives_the_same_bytes(project: tuple[str, Path], tmp_path: Path) -> None:
    target, first = project
    second = compile_digits(tmp_path / "a longer name" / "x", *TARGETS[target], target=target)
    assert_same_files(first, second)


def test_compiling_again_over_the_same_directory_gives_the_same_bytes(
    project: tuple[str, Path], tmp_path: Path
) -> None:
    target, first = project
    second = shutil.copytree(first, tmp_path / "project")
    (second / "src" / "model.c").write_text("changed by hand")
    assert_same_files(first, compile_digits(second, *TARGETS[target], target=target))


@pytest.mark.parametrize("seed", ["1", "4242"])
def test_another_process_gives_the_same_bytes(project: tuple[str, Path], tmp_path: Path, seed: str) -> None:
    """Other hash seed, working directory, time zone, language and user; the model and the samples copied there."""
    target, first = project
    shutil.copy(FOUR_VIEW, tmp_path / FOUR_VIEW.name)
    shutil.copy(SAMPLES, tmp_path / "samples.npy")
    arguments = [FOUR_VIEW.name, "--target", target, "--samples", "samples.npy", "-o", "out", *TARGETS[target]]
    surroundings = {"PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo", "LC_ALL": "C", "HOME": str(tmp_path), "USER": "someone"}
    done = subprocess.run(
        [sys.executable, "-c", _SEEDED, *arguments],
        cwd=tmp_path,
        env={**os.environ, **surroundings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert_same_files(first, tmp_path / "out")


def test_manifest_names_every_file_with_its_hash(project: tuple[str, Path]) -> None:
    target, directory = project
    manifest = json.loads((directory / "manifest.json").read_text())
    files = {name: data for name, data in listing(directory).items() if data is not None and name != "manifest.json"}
    assert manifest["files"] == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert {"firmware.elf", "link.ld", "src/model.c", "include/model.h", "reference/graph.json"} <= files.keys()
    assert manifest["model"]["sha256"] == hashlib.sha256(FOUR_VIEW.read_bytes()).hexdigest()
    assert manifest["model"]["file"] == FOUR_VIEW.name
    assert manifest["board"] == target
    assert manifest["options"]["no_multiply"] is ("--no-multiply" in TARGETS[target])
    digest = bytes.fromhex(manifest["digest"])
    header = re.findall(r"0x([0-9a-f]{2})\b", (directory / "include" / "model.h").read_text())
    assert bytes.fromhex("".join(header)) == digest


def test_no_file_names_a_path_of_this_machine(project: tuple[str, Path]) -> None:
    _, directory = project
    places = {str(directory), str(directory.parent), str(Path.home()), str(FOUR_VIEW.parent), sys.prefix}
    for name, data in listing(directory).items():
        for place in places:
            # A home directory of "/" or "/root" must not match by chance.
            assert f"{place}/".encode() not in (data or b"") or place == "/", f"{name} holds {place}"


def test_other_options_give_other_firmware(tmp_path: Path) -> None:
    """The digest tells models apart that answer the same: the kernels count."""
    digests = set()
    for options in ((), ("--no-multiply",), ("--weights", "int4"), ("--csd-terms", "1"), ("--no-bias-correction",)):
        directory = compile_digits(tmp_path / "out", *options, target="host")
        digests.add(json.loads((directory / "manifest.json").read_text())["digest"])
    assert len(digests) == 5


# Golden text. Weights, samples and sums are small multiples of a power of two, so that every sum is exact and its
# order, which depends on the processor's numpy, does not matter.


def dyadic(*shape: int) -> Array:
    """Return numbers between -0.5 and 0.5 in steps of 1/64, the same everywhere."""
    count = int(np.prod(shape))
    return (((np.arange(count) * 37 + 11) % 63 - 31) / 64).astype(np.float32).reshape(shape)


def write_small_model(path: Path) -> Path:
    """Write a four-view network, 14x14 bytes -> 16 -> 6 -> 4."""
    nodes = [
        node("FourView", "x", "features", domain="mcucompile", zone_height=7, zone_width=7, shift=3),
        node("Gemm", "features w1 b1", "h", transB=1),
        node("Relu", "h", "r"),
        node("Gemm", "r w2 b2", transB=1),
    ]
    constants = {"w1": dyadic(6, 16), "b1": dyadic(6) * 16, "w2": dyadic(4, 6), "b2": dyadic(4)}
    model = make_model(
        nodes, ("N", 14, 14), constants, opset=21, element_type=TensorProto.UINT8, functions=[four_view_function()]
    )
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def small_samples() -> Array:
    """Return 32 pictures, uint8 (32, 14, 14)."""
    return (np.arange(32 * 14 * 14) * 97 % 251).astype(np.uint8).reshape(32, 14, 14)


def timeless(text: str) -> str:
    """Return generated text without what a release of this or another package may change."""
    text = text.replace(f"mcucompile {__version__};", "mcucompile VERSION;")
    return re.sub(r"\b0x[0-9a-f]{2},?(?= |$)", "0x..", text, flags=re.MULTILINE) if "MCU_MODEL_HASH" in text else text


@pytest.mark.parametrize(
    ("target", "options"),
    [("hifive1", Options()), ("ch32v003", Options(weights="dlq4", no_multiply=True))],
    ids=["hifive1_int8", "ch32v003_dlq4_no_multiply"],
)
def test_generated_text(
    request: pytest.FixtureRequest, golden: Compare, tmp_path: Path, target: str, options: Options
) -> None:
    choices = {"weights": options.weights, "no_multiply": options.no_multiply}
    compiled = analyze_model(
        write_small_model(tmp_path / "small.onnx"), target=target, samples=small_samples(), **choices
    )
    files = emit_model(model_of(compiled, options))
    assert files.keys() == {"include/model.h", "include/model_data.h", "src/model.c"}
    for name, text in files.items():
        assert str(tmp_path) not in text
        golden(f"{request.node.callspec.id}/{Path(name).name}", timeless(text))


def test_golden_text_is_what_the_command_line_writes(tmp_path: Path, golden: Compare) -> None:
    np.save(tmp_path / "samples.npy", small_samples())
    model = write_small_model(tmp_path / "small.onnx")
    options = ("--target", "ch32v003", "--weights", "dlq4", "--no-multiply", "--samples", tmp_path / "samples.npy")
    succeed(model, *options, "-o", tmp_path / "out")
    for name in ("include/model.h", "include/model_data.h", "src/model.c"):
        golden(f"ch32v003_dlq4_no_multiply/{Path(name).name}", timeless((tmp_path / "out" / name).read_text()))
