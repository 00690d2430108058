"""The Python API: the same facts as the command line, models in memory, estimates near the real thing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mcucompile
import numpy as np
import pytest
from command_line import FOUR_VIEW, MODELS, SAMPLES, listing, run, succeed, unchanged
from mcucompile import UserError, analyze_model, compile_model, load_board
from mcucompile.project import devices, load_project
from mcucompile.verify import verify_devices

CHOICES = {"weights": "dlq4", "no_multiply": True, "activations": "int8", "csd_terms": 2, "bias_correction": True}
OPTIONS = ("--samples", SAMPLES, "--weights", "dlq4", "--no-multiply")


@pytest.fixture(scope="module")
def from_python(tmp_path_factory):
    """The digits example, compiled from Python."""
    output = tmp_path_factory.mktemp("driver") / "build"
    return compile_model(FOUR_VIEW, target="hifive1", samples=SAMPLES, output=output, **CHOICES)


def as_json(facts):
    """Return facts as a script gets them: tuples have become lists."""
    return json.loads(json.dumps(facts))


def test_public_names_exist_and_others_do_not():
    for name in mcucompile.__all__:
        assert getattr(mcucompile, name) is not None
    assert {"compile_model", "analyze_model", "load_board", "list_boards", "UserError"} <= set(mcucompile.__all__)
    with pytest.raises(AttributeError, match="no attribute 'compile'"):
        _ = mcucompile.compile


def test_python_and_command_line_give_the_same_facts_and_files(from_python, tmp_path):
    directory = tmp_path / "build"
    facts = succeed(FOUR_VIEW, "--target", "hifive1", *OPTIONS, "-o", directory, "--json").json
    assert facts.pop("directory") == str(directory)
    ours = as_json(from_python.facts())
    assert ours.pop("directory") == str(from_python.directory)
    assert ours == facts
    assert listing(from_python.directory) == listing(directory)
    assert from_python.fits is True
    assert (from_python.budget.flash_bytes, from_python.budget.ram_bytes) == (facts["flash_bytes"], facts["ram_bytes"])
    assert from_python.arena.bytes == facts["arena_bytes"]


def test_analyze_gives_the_facts_of_the_command_line_and_the_layers_of_compile(from_python):
    facts = as_json(analyze_model(FOUR_VIEW, target="hifive1", samples=SAMPLES, **CHOICES).facts())
    printed = succeed("analyze", FOUR_VIEW, "--target", "hifive1", *OPTIONS, "--json").json
    assert printed.pop("targets") == [facts]
    assert printed == facts
    assert facts["layers"] == as_json(from_python.facts()["layers"])


def test_samples_may_be_an_array_or_a_path(from_python, tmp_path):
    samples = np.load(SAMPLES)
    np.savez(tmp_path / "samples.npz", samples=samples)
    for given in (samples, str(SAMPLES), tmp_path / "samples.npz", samples.tolist()):
        facts = analyze_model(str(FOUR_VIEW), target="hifive1", samples=given, **CHOICES).facts()
        assert facts["layers"] == from_python.facts()["layers"]
        assert facts["guessed_ranges"] is False
    assert analyze_model(FOUR_VIEW, target="hifive1", **CHOICES).facts()["guessed_ranges"] is True


def test_the_target_may_be_a_board_a_name_or_a_file(tmp_path):
    board = load_board("microbit")
    mine = tmp_path / "mine.toml"
    shipped = Path(mcucompile.__file__).parents[2] / "boards" / "microbit.toml"
    mine.write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    facts = [analyze_model(FOUR_VIEW, target=target).facts() for target in (board, "microbit", str(mine))]
    assert facts[0] == facts[1] == facts[2]
    assert facts[0]["target"] == "microbit"


def test_without_an_output_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with unchanged(tmp_path):
        compiled = compile_model(FOUR_VIEW, target="ch32v003", samples=SAMPLES, **CHOICES)
    assert compiled.directory is None
    assert compiled.built is True
    assert compiled.budget.flash_bytes > 0


def test_what_does_not_fit_says_by_how_much_and_is_not_written(tmp_path):
    model = MODELS / "dense_784_100_100_10.onnx"
    with unchanged(tmp_path):
        compiled = compile_model(model, target="ch32v003", samples=SAMPLES, output=tmp_path / "build")
    assert compiled.fits is False
    assert compiled.directory is None
    over = compiled.budget.flash_bytes - 16_384
    assert over > 0
    assert f"short by {over:,} bytes of flash" in compiled.budget.shortfalls[0]
    assert "layer 'fc1'" in compiled.budget.shortfalls[0]


def test_progress_is_told_each_stage_once_in_order(tmp_path):
    stages = []
    compile_model(FOUR_VIEW, samples=SAMPLES, output=tmp_path / "build", progress=stages.append)
    order = ["reading the model", "calibrating", "quantizing", "emitting C", "building for host"]
    assert [stage for stage in stages if stage in order] == order
    assert len(set(stages)) == len(stages)


def test_weights_per_layer():
    layers = analyze_model(FOUR_VIEW, samples=SAMPLES, weights="int8,fc1=dlq4").facts()["layers"]
    assert {layer["name"]: layer.get("weights") for layer in layers} == {
        "four_view": None,
        "fc1": "dlq4",
        "fc2": "int8",
    }


def test_mistakes_are_user_errors_with_three_parts():
    with pytest.raises(UserError) as caught:
        compile_model(FOUR_VIEW, target="hifive")
    assert caught.value.where == "board 'hifive'"
    assert caught.value.problem
    assert "hifive1" in caught.value.fix
    assert str(caught.value) == f"{caught.value.where}: {caught.value.problem}; {caught.value.fix}"
    with pytest.raises(UserError, match="shape"):
        compile_model(FOUR_VIEW, samples=np.zeros((3, 27, 28), np.uint8))
    with pytest.raises(TypeError, match="wieghts"):
        compile_model(FOUR_VIEW, wieghts="dlq4")


@pytest.mark.parametrize("encoding", ["int8", "dlq4"])
def test_a_torch_module_is_compiled_and_verified(tmp_path, encoding):
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'mcucompile[torch]'")
    torch.manual_seed(5)
    module = torch.nn.Sequential(torch.nn.Linear(12, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
    samples = np.random.default_rng(5).normal(size=(64, 12)).astype(np.float32)
    compiled = compile_model(
        module,
        example_inputs=(torch.zeros(1, 12),),
        target="hifive1",
        samples=samples,
        weights=encoding,
        output=tmp_path / "build",
    )
    assert compiled.fits
    assert [layer["weights"] for layer in compiled.facts()["layers"]] == [encoding, encoding]
    project = load_project(tmp_path / "build")
    codes = compiled.graph.input.stored.quantize(samples)
    outcome = verify_devices(project.graph, codes, devices(project, "unicorn"), model_hash=project.digest)
    assert (outcome.inputs, outcome.mismatches) == (64, 0)
    with torch.no_grad():
        real = module(torch.from_numpy(samples)).numpy()
    found = compiled.graph.result.stored.dequantize(compiled.graph.run(codes)).reshape(real.shape)
    # Not exactness, which the line above proves, but that it is this network: 4 bits keep the sign of what is clear.
    assert np.abs(found - real).max() < {"int8": 0.05, "dlq4": 0.25}[encoding] * np.abs(real).max()


def test_compiling_an_onnx_file_never_imports_torch(tmp_path):
    """Nor do `import mcucompile` and its version cost anything."""
    program = (
        "import sys, mcucompile; mcucompile.__version__; assert 'onnx' not in sys.modules;"
        f"mcucompile.compile_model({str(FOUR_VIEW)!r}, output={str(tmp_path / 'build')!r});"
        "assert 'onnx' in sys.modules; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], env=os.environ, timeout=60, check=True)
    assert (tmp_path / "build" / "manifest.json").is_file()


@pytest.mark.parametrize("target", ["hifive1", "ch32v003", "microbit", "nucleo-f401re"])
def test_estimates_are_near_the_built_firmware(target):
    """An estimate too low would promise what the build refuses; the constants are of `driver`."""
    for model, no_multiply in (("four_view_64_16_10", True), ("dense_784_100_100_10", False)):
        choices = {"target": target, "samples": SAMPLES, "weights": "dlq4", "no_multiply": no_multiply}
        estimate = analyze_model(MODELS / f"{model}.onnx", **choices).budget
        built = compile_model(MODELS / f"{model}.onnx", **choices).budget
        assert 0.95 * built.flash_bytes < estimate.flash_bytes < built.flash_bytes + 2000
        assert 0.95 * built.ram_bytes < estimate.ram_bytes < built.ram_bytes + 400
        assert estimate.arena_bytes == built.arena_bytes


def test_a_failed_build_is_a_tool_error_and_leaves_nothing(tmp_path, monkeypatch):
    """A compiler that is there and fails."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "gcc").write_text("#!/bin/sh\necho 'model.c:1: error: out of ideas' >&2\nexit 1\n", encoding="utf-8")
    (tools / "gcc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    with unchanged(tmp_path):
        outcome = run(FOUR_VIEW, "-o", tmp_path / "build", "--toolchain", "gcc")
    assert outcome.code == 2
    assert "out of ideas" in outcome.err
