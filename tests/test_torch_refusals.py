"""What the torch front-end refuses, and saved programs from the command line, damaged ones too."""

import json
import logging
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import DAMAGES, FOUR_VIEW, refuse, run, succeed, unchanged
from mcucompile import compile_model
from mcucompile.errors import ModelError, UnsupportedError
from mcucompile.frontends.torch import graph_from_program, load_exported, load_module
from mcucompile.nn.export import to_onnx
from torch import Tensor, nn
from torch.export import Dim
from torch_modules import Network, digits, images, saved_digits
from torch_modules_recurrent import Sequences


def test_all_refused_operators_are_listed_at_once() -> None:
    layers = [
        nn.RReLU(),
        nn.Hardshrink(),
        nn.Flatten(),
        nn.Linear(25, 4),
        nn.Hardshrink(),
        nn.Softshrink(),
    ]
    with pytest.raises(UnsupportedError) as caught:
        load_module(nn.Sequential(*layers).eval(), (torch.zeros(1, 1, 5, 5),), "net")
    error = caught.value
    assert error.where == "net"
    assert error.problem.startswith("4 nodes cannot be compiled: '0' (aten.rrelu): is not supported; ")
    for part in ("'1' (aten.hardshrink)", "'4' (aten.hardshrink)", "'5' (aten.softshrink)"):
        assert part in error.problem
    assert error.fix.startswith("build the module from Linear, ")


REFUSED: dict[str, tuple[nn.Module, tuple[int, ...], str]] = {
    "power": (Network(lambda _, x: x ** torch.relu(x)), (1, 4), "a base and an exponent that are both computed"),
    "index_arithmetic": (Network(lambda _, x: x.argmax(1) + 1), (1, 4), "computes with an index"),
    "integer_output": (Network(lambda _, x: x.to(torch.int32)), (1, 4), "changes the type of real numbers"),
    "random": (Network(lambda _, x: x + torch.rand(4)), (1, 4), "random or too many constants"),
    "huge_constant": (Network(lambda _, x: x + torch.zeros(2**30)[:4]), (1, 4), "random or too many constants"),
    "rounded": (Network(lambda _, x: torch.div(x, 2, rounding_mode="floor")), (1, 4), "rounds its quotient"),
    "projected_state": (Sequences(nn.LSTM(3, 4, proj_size=2), lambda y, _: y), (5, 1, 3), "projects its state"),
    "several_outputs": (Network(lambda _, x: x.sort(1)[0]), (1, 4), "is not supported"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_operator(name: str) -> None:
    module, shape, text = REFUSED[name]
    with pytest.raises(UnsupportedError) as caught:
        load_module(module.eval(), (torch.randn(shape),), "net")
    assert text in str(caught.value)


def test_batch_statistics_are_refused_in_every_form() -> None:
    program = torch.export.export(nn.BatchNorm1d(4, track_running_stats=False).eval(), (torch.randn(2, 4),))
    for form in (program, program.run_decompositions()):
        with pytest.raises(UnsupportedError, match="the batch's own statistics"):
            graph_from_program(form, "net")


def _branching(_: nn.ModuleDict, x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def _not_finite() -> nn.Module:
    layer = nn.Linear(4, 2)
    with torch.no_grad():
        layer.weight[1, 2] = float("nan")
    return layer


UNFIT: dict[str, tuple[nn.Module, tuple[object, ...], str, str]] = {
    "control_flow": (Network(_branching), (torch.ones(1, 4),), "cannot be traced by torch.export", "control flow"),
    "wrong_shape": (nn.Linear(4, 2), (torch.ones(1, 5),), "cannot be traced by torch.export", "example inputs"),
    "two_examples": (nn.Linear(4, 2), (torch.ones(1, 4),) * 2, "needs exactly one input tensor", "(tensor,)"),
    "no_example": (nn.Linear(4, 2), (), "needs exactly one input tensor", "(tensor,)"),
    "array_example": (nn.Linear(4, 2), (np.ones((1, 4)),), "needs exactly one input tensor", "(tensor,)"),
    "two_outputs": (Network(lambda _, x: (x, x.relu())), (torch.ones(1, 4),), "not exactly one output", "one output"),
    "constant_output": (
        Network(lambda _, _x: torch.ones(4)),
        (torch.ones(1, 4),),
        "not depend on its input",
        "return",
    ),
    "not_finite": (_not_finite(), (torch.ones(1, 4),), "tensor 'weight' holds nan at [1, 2]", "re-train"),
    "integer_input": (nn.Flatten(), (torch.ones((1, 4), dtype=torch.int32),), "is torch.int32", "uint8, int8 or float"),
    "empty_input": (nn.ReLU(), (torch.ones(1, 0),), "has the shape (1, 0)", "sizes of 1 to"),
    "scalar_input": (nn.ReLU(), (torch.ones(()),), "has the shape ()", "sizes of 1 to"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_unfit_module(name: str) -> None:
    module, examples, problem, fix = UNFIT[name]
    with pytest.raises(ModelError) as caught:
        load_module(module.eval(), examples, "net")
    error = caught.value
    assert problem in f"{error.where} {error.problem}".replace("net: ", "")
    assert fix in error.fix
    assert "\n" not in error.problem


def test_training_mode_is_refused_even_of_one_layer() -> None:
    module = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5))
    for whole in (True, False):
        module.train(whole)
        module[1].train()
        with pytest.raises(ModelError, match=r"is in training mode; call module.eval\(\)"):
            load_module(module, (torch.zeros(1, 4),), "net")
    assert load_module(module.eval(), (torch.zeros(1, 4),), "net").layers


def test_compile_model_needs_a_module_and_its_example_inputs() -> None:
    with pytest.raises(ModelError, match="got a module without example_inputs"):
        compile_model(nn.Linear(4, 2).eval())
    with pytest.raises(ModelError, match=r"is a dict, not a torch\.nn\.Module"):
        compile_model({"weight": 1}, example_inputs=(torch.zeros(1, 4),))


def test_dynamic_dimension_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(nn.ReLU().eval(), (torch.zeros(2, 3),), dynamic_shapes=({1: Dim("n")},))
    torch.export.save(program, tmp_path / "net.pt2")
    refuse(
        tmp_path / "net.pt2", "-o", tmp_path / "out",
        where="net.pt2: input 'input'", problem="has a dynamic dimension 1", fix="fixed sizes",
    )  # fmt: skip


# Saved programs from the command line


def test_saved_program_compiles_and_verifies(tmp_path: Path) -> None:
    path, samples, directory = tmp_path / "digits.pt2", tmp_path / "images.npy", tmp_path / "build"
    module = saved_digits(path)
    np.save(samples, images(40))
    facts = succeed(path, "--target", "host", "--samples", samples, "-o", directory, "--json").json
    assert facts["fits"] is True
    assert [layer["op"] for layer in facts["layers"]] == ["four_view", "dense", "dense"]
    checked = succeed("verify", directory, "--on", "host", "--inputs", samples, "--json").json
    assert (checked["inputs"], checked["mismatches"]) == (40, 0)

    # The same network as a module and as an ONNX file is the same firmware: equal codes on every image.
    (tmp_path / "digits.onnx").write_bytes(to_onnx(module, (14, 14), "digits").SerializeToString())
    example = (torch.from_numpy(images(1)),)
    codes = [
        compile_model(model, samples=samples, example_inputs=example).graph.run(images(40)[:, None].astype(np.int64))
        for model in (path, module, tmp_path / "digits.onnx")
    ]
    assert (codes[0] == codes[1]).all()
    assert (codes[0] == codes[2]).all()
    assert np.abs(codes[0]).max() > 1000


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_program_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "digits.pt2"
    saved_digits(path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with unchanged(tmp_path):
        refuse(path, "-o", tmp_path / "out", where=str(path), problem="", fix="")


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None], extra: dict[str, bytes] | None = None) -> None:
    """Write an archive again with changed members; None drops one."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            changed = change(name, data)
            if changed is not None:
                archive.writestr(name, changed)
        for name, data in (extra or {}).items():
            archive.writestr(name, data)


@pytest.mark.parametrize("dropped", ["model.json", "archive_format", "weight", "nothing"])
def test_incomplete_program_is_refused(dropped: str, tmp_path: Path) -> None:
    path = tmp_path / "digits.pt2"
    saved_digits(path)
    rewritten(path, lambda name, data: None if dropped in name else data)
    if dropped == "nothing":
        assert load_exported(path).layers
        return
    with unchanged(tmp_path):
        refuse(path, "-o", tmp_path / "out", where=str(path), problem="cannot be loaded by torch", fix="save it again")


def test_randomly_damaged_program_never_crashes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(5)
    path = tmp_path / "digits.pt2"
    saved_digits(path)
    valid = path.read_bytes()
    refused = 0
    for _ in range(60):
        path.write_bytes(valid)
        rewritten(path, lambda _, data: scrambled(random, data) if random.random() < 0.3 else data)
        try:
            load_exported(path)
        except (ModelError, UnsupportedError) as error:
            refused += 1
            assert error.problem.isprintable()
    assert refused >= 30
    assert capfd.readouterr() == ("", "")


def scrambled(random: np.random.Generator, data: bytes) -> bytes:
    """Return data with a few bytes changed or its end cut off."""
    if not data or random.random() < 0.2:
        return data[: len(data) // 2]
    changed = bytearray(data)
    for place in random.integers(0, len(data), 1 + len(data) // 400):
        changed[place] = int(random.integers(0, 256))
    return bytes(changed)


def test_native_code_in_an_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "digits.pt2"
    saved_digits(path)
    rewritten(path, lambda _, data: data, {"digits/data/aotinductor/model/model.so": b"\x7fELF"})
    refuse(path, "-o", tmp_path / "out", where=str(path), problem="holds native code", fix="torch.export.save")


def test_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "digits.pt2"
    saved_digits(path)
    data = bytearray(path.read_bytes())
    # The uncompressed size in the central directory (APPNOTE.TXT 4.3.12), of every member.
    place = data.find(b"PK\x01\x02")
    while place >= 0:
        data[place + 24 : place + 28] = struct.pack("<I", 0xFFFFFFF0)
        place = data.find(b"PK\x01\x02", place + 4)
    path.write_bytes(data)
    refuse(path, "-o", tmp_path / "out", where=str(path), problem="unpacks to too much data", fix="smaller")


def test_other_archives_of_torch_are_refused(tmp_path: Path) -> None:
    torch.save(digits().state_dict(), tmp_path / "weights.pt2")
    where = str(tmp_path / "weights.pt2")
    refuse(tmp_path / "weights.pt2", "-o", tmp_path / "out", where=where, problem="cannot be loaded", fix="save it")


# What the front-end costs those who do not need it


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_compiling_an_onnx_file_never_imports_torch(tmp_path: Path) -> None:
    done = python(
        f"""
import json, sys
from mcucompile.cli import main
try:
    main([{str(FOUR_VIEW)!r}, "--target", "host", "-o", {str(tmp_path / "out")!r}, "--json"])
except SystemExit as ended:
    print(json.dumps([ended.code, sorted(name for name in sys.modules if name.split(".")[0] == "torch")]))
"""
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []], done.stderr
    assert (tmp_path / "out" / "manifest.json").exists()


def test_without_torch_a_saved_program_is_refused_clearly(tmp_path: Path) -> None:
    saved_digits(tmp_path / "digits.pt2")
    done = python(
        f"""
import sys
sys.modules["torch"] = None
from mcucompile.cli import main
main([{str(tmp_path / "digits.pt2")!r}, "-o", {str(tmp_path / "out")!r}])
"""
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines() == [
        "error: torch",
        "  is not installed; it reads .pt2 files and modules",
        "  fix: pip install 'mcucompile[torch]', or export the model to ONNX",
    ]
    assert not (tmp_path / "out").exists()


def test_loading_leaves_the_loggers_as_they_were(tmp_path: Path) -> None:
    before = logging.getLogger("torch").level
    with pytest.raises(ModelError):
        load_module(Network(_branching).eval(), (torch.ones(1, 4),), "net")
    assert logging.getLogger("torch").level == before
    assert run("analyze", tmp_path / "missing.pt2").code == 2
