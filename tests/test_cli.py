"""The command line on the digits example: every verb, its JSON, its exit codes, and what an interruption leaves."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import FOUR_VIEW, IMAGES, LABELS, MODELS, SAMPLES, compile_digits, listing, run, succeed, unchanged
from elftools.elf.elffile import ELFFile
from mcucompile import __version__
from mcucompile.cli import cli
from mcucompile.project import load_project
from mcucompile.resources import resource_dir
from mcucompile.verify import classes
from models_factory import make_model, node

VERBS = {"analyze", "bench", "boards", "compile", "flash", "ops", "verify", "report"}
PROMISED = {"fits", "flash_bytes", "ram_bytes", "arena_bytes", "stack_bytes", "layers"}
LAYERS = ["four_view", "fc1", "fc2"]
DIGITS_OPTIONS = ("--samples", SAMPLES, "--weights", "dlq4", "--no-multiply")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The digits example for the HiFive1, and what `compile --json` said of it."""
    directory = tmp_path_factory.mktemp("cli") / "build"
    facts = succeed(FOUR_VIEW, "--target", "hifive1", *DIGITS_OPTIONS, "-o", directory, "--json").json
    return directory, facts


@pytest.fixture
def build(compiled):
    """The compiled project, which no test may change."""
    return compiled[0]


@pytest.fixture
def copy(compiled, tmp_path):
    """A copy of the compiled project, to be changed."""
    return Path(shutil.copytree(compiled[0], tmp_path / "copy"))


# Help -----------------------------------------------------------------------------------------------------------


def test_the_verbs_are_those_of_the_documentation():
    assert set(cli.commands) == VERBS


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_has_an_example_that_parses(verb):
    text = succeed(verb, "--help").out
    example = re.search(r"Example: mcucompile (.*)", " ".join(text.split()))
    assert example
    words = shlex.split(example[1])
    assert words[0] == verb
    cli.commands[verb].make_context(verb, words[1:])
    assert "--json" in text


def test_help_and_version_of_the_program():
    for option in ("--help", "-h"):
        text = succeed(option).out
        assert "Example: mcucompile model.onnx --target hifive1" in text
        assert all(f"\n  {verb} " in text for verb in VERBS)
    assert __version__ in succeed("--version").out


# compile --------------------------------------------------------------------------------------------------------


def test_compile_json_has_the_promised_keys(compiled):
    directory, facts = compiled
    assert facts.keys() >= PROMISED
    assert facts["fits"] is True
    assert facts["built"] is True
    assert facts["shortfalls"] == []
    assert facts["guessed_ranges"] is False
    assert Path(facts["directory"]) == directory
    assert [layer["name"] for layer in facts["layers"]] == LAYERS
    assert [layer.get("weights") for layer in facts["layers"]] == [None, "dlq4", "dlq4"]
    assert [layer["ops"] for layer in facts["layers"]] == [0, 64 * 16, 16 * 10]
    assert 0 < facts["flash_bytes"] <= facts["flash_limit_bytes"]
    assert facts["arena_bytes"] + facts["stack_bytes"] < facts["ram_bytes"] <= 16_384


def test_compile_says_what_it_costs_and_that_it_fits(tmp_path):
    out = succeed(FOUR_VIEW, "--target", "hifive1", "--samples", SAMPLES, "-o", tmp_path / "b").out
    assert re.search(r"^flash [\d,]+ bytes of 12,582,912$", out, re.MULTILINE)
    assert re.search(r"^RAM   [\d,]+ bytes of 16,384: arena \d+, stack \d+ \(worst case\)", out, re.MULTILINE)
    assert "\nfits hifive1\n" in out
    assert "warning" not in out
    assert f"mcucompile verify {tmp_path / 'b'} --on emulator" in out


def test_without_samples_it_says_loudly_that_ranges_are_guesses(tmp_path):
    assert "warning: no samples were given" in succeed(FOUR_VIEW, "-o", tmp_path / "b").out
    assert "warning: no samples were given" in succeed("analyze", FOUR_VIEW).out
    assert succeed("analyze", FOUR_VIEW, "--json").json["guessed_ranges"] is True


def test_the_verb_compile_may_be_left_out_and_options_may_come_first(tmp_path):
    options = ("--target", "hifive1", "--samples", SAMPLES)
    succeed("compile", FOUR_VIEW, *options, "-o", tmp_path / "a")
    succeed(FOUR_VIEW, *options, "-o", tmp_path / "b")
    succeed(*options, "-o", tmp_path / "c", FOUR_VIEW)
    assert listing(tmp_path / "a") == listing(tmp_path / "b") == listing(tmp_path / "c")


def test_the_output_is_build_in_the_current_folder_unless_it_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    succeed(FOUR_VIEW, "--samples", SAMPLES)
    assert [path.name for path in tmp_path.iterdir()] == ["build"]
    succeed(FOUR_VIEW, "--samples", SAMPLES, "-o", "deep/er/build")
    assert listing(Path("build")) == listing(Path("deep/er/build"))
    succeed("verify", "--on", "host", "--limit", "2")


def test_an_earlier_project_is_replaced_as_a_whole(copy, tmp_path):
    assert "link.ld" in listing(copy)
    compile_digits(copy, target="host")
    compile_digits(tmp_path / "fresh", target="host")
    assert listing(copy) == listing(tmp_path / "fresh")
    assert "link.ld" not in listing(copy)


def test_the_name_is_the_prefix_of_the_c_names(tmp_path):
    directory = compile_digits(tmp_path / "b", "--name", "smile", target="host")
    header = (directory / "include" / "model.h").read_text(encoding="utf-8")
    assert re.search(r"\bint smile_run\(const uint8_t ", header)
    assert "four_view_64_16_10" not in header
    succeed("verify", directory, "--on", "host", "--limit", "2")


def test_a_model_that_does_not_fit_ends_with_1_and_writes_nothing(tmp_path):
    arguments = (MODELS / "dense_784_100_100_10.onnx", "--target", "ch32v003", "--samples", SAMPLES)
    with unchanged(tmp_path):
        outcome = run(*arguments, "-o", tmp_path / "b")
    assert (outcome.code, outcome.err) == (1, "")
    assert re.search(
        r"^does not fit ch32v003: short by [\d,]+ bytes of flash .* because layer 'fc1'", outcome.out, re.M
    )
    assert "fits ch32v003\n" not in outcome.out
    with unchanged(tmp_path):
        outcome = run(*arguments, "-o", tmp_path / "b", "--json")
    facts = outcome.json
    assert outcome.code == 1
    assert (facts["fits"], facts["built"], facts["directory"]) == (False, True, None)
    assert facts["flash_bytes"] > facts["flash_limit_bytes"] == 16_384
    assert f"short by {facts['flash_bytes'] - 16_384:,} bytes of flash" in facts["shortfalls"][0]


# analyze --------------------------------------------------------------------------------------------------------


def test_analyze_json_has_the_promised_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with unchanged(tmp_path):
        facts = succeed("analyze", FOUR_VIEW, "--target", "hifive1", *DIGITS_OPTIONS, "--json").json
    assert facts.keys() >= PROMISED
    assert (facts["fits"], facts["built"], facts["directory"]) == (True, False, None)
    assert [layer["name"] for layer in facts["layers"]] == LAYERS


def test_analyze_of_several_boards():
    targets = ("hifive1", "microbit", "nucleo-f401re")
    options = [word for target in targets for word in ("--target", target)]
    facts = succeed("analyze", FOUR_VIEW, *options, *DIGITS_OPTIONS, "--json").json
    assert facts["fits"] is True
    assert [part["target"] for part in facts["targets"]] == list(targets)
    assert all(part.keys() >= PROMISED for part in facts["targets"])
    out = succeed("analyze", FOUR_VIEW, *options, *DIGITS_OPTIONS).out
    assert [f"should fit {target}" in out for target in targets] == [True] * 3


def test_analyze_ends_with_1_if_one_board_of_several_is_too_small():
    model = MODELS / "dense_784_100_100_10.onnx"
    options = ("--target", "hifive1", "--target", "ch32v003", "--samples", SAMPLES)
    outcome = run("analyze", model, *options, "--json")
    assert outcome.code == 1
    assert outcome.json["fits"] is False
    assert [part["fits"] for part in outcome.json["targets"]] == [True, False]
    outcome = run("analyze", model, *options)
    assert outcome.code == 1
    assert "should fit hifive1" in outcome.out
    assert "does not fit ch32v003: short by" in outcome.out


# verify ---------------------------------------------------------------------------------------------------------


def test_verify_json_has_the_promised_keys(build):
    facts = succeed("verify", build, "--on", "unicorn", "--limit", "4", "--json").json
    assert facts.keys() >= {"inputs", "mismatches", "first", "accuracy"}
    assert (facts["inputs"], facts["mismatches"], facts["first"], facts["accuracy"]) == (4, 0, None, None)
    assert facts["devices"] == ["unicorn"]
    assert [layer["name"] for layer in facts["layers"]] == LAYERS


def test_verify_without_inputs_takes_stored_samples_and_the_ends_of_the_range(build):
    facts = succeed("verify", build, "--on", "host", "--json").json
    assert facts["inputs"] == len(np.load(build / "reference" / "samples.npy")) + 3


def test_verify_on_emulator_is_the_host_and_an_emulator(build):
    facts = succeed("verify", build, "--on", "emulator", "--limit", "2", "--json").json
    assert facts["devices"][0] == "host"
    assert facts["devices"][1] in {"qemu", "unicorn"}
    out = succeed("verify", build, "--limit", "2").out
    assert re.match(
        r"verified Python reference == host == (qemu|unicorn): 2 inputs, 3 layers each, 0 mismatches\n", out
    )


@pytest.mark.parametrize("packed", [False, True])
def test_accuracy_is_the_share_of_labels_that_the_reference_gets_right(build, tmp_path, packed):
    inputs, labels = IMAGES, LABELS
    if packed:
        inputs = labels = tmp_path / "digits.npz"
        np.savez(inputs, inputs=np.load(IMAGES), labels=np.load(LABELS))
    options = ("--inputs", inputs, "--labels", labels, "--limit", "60")
    facts = succeed("verify", build, "--on", "host", *options, "--json").json
    images, wanted = np.load(IMAGES)[:60], np.load(LABELS)[:60]
    right = int((classes(load_project(build).graph.run(images[:, None].astype(np.int64))) == wanted).sum())
    assert facts["accuracy"] == right / 60 > 0.9
    assert f"accuracy {100 * right / 60:.2f} % on 60 inputs" in succeed("verify", build, "--on", "host", *options).out


def test_wrong_labels_lower_the_accuracy_and_nothing_else(build, tmp_path):
    np.save(tmp_path / "labels.npy", (np.load(LABELS) + 1) % 10)
    options = ("--inputs", IMAGES, "--labels", tmp_path / "labels.npy", "--limit", "60")
    facts = succeed("verify", build, "--on", "host", *options, "--json").json
    assert facts["mismatches"] == 0
    assert facts["accuracy"] < 0.1


def change_weight_in_c(project):
    """Change the first stored weight of fc2 in the C file."""
    path = project / "include" / "model_data.h"
    before = path.read_text(encoding="utf-8")
    after = re.sub(r"(fc2_weights\[160\] = \{\s*)(\d+)", lambda m: f"{m[1]}{int(m[2]) ^ 1}", before)
    assert after != before
    path.write_text(after, encoding="utf-8")


def change_weight_in_elf(project):
    """Change the same weight in the firmware, whose hello still names the model."""
    path = project / "firmware.elf"
    with path.open("r+b") as stream:
        elf = ELFFile(stream)
        (symbol,) = elf.get_section_by_name(".symtab").get_symbol_by_name("four_view_64_16_10_fc2_weights")
        section = elf.get_section(symbol["st_shndx"])
        at = symbol["st_value"] - section["sh_addr"] + section["sh_offset"]
        stream.seek(at)
        old = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([old ^ 1]))


@pytest.mark.parametrize(
    ("change", "spoiled", "whole"),
    [(change_weight_in_c, "host", "unicorn"), (change_weight_in_elf, "unicorn", "host")],
    ids=["C", "ELF"],
)
def test_one_changed_weight_ends_with_1_and_its_layer_is_named(tmp_path, change, spoiled, whole):
    copy = compile_digits(tmp_path / "project", "--weights", "dlq4", "--no-multiply", "--kernels", "fc2=bins")
    change(copy)
    outcome = run("verify", copy, "--on", spoiled, "--json")
    facts = outcome.json
    assert (outcome.code, outcome.err) == (1, "")
    assert 0 < facts["mismatches"] <= facts["inputs"]
    assert facts["first"]["layer"] == "fc2"
    outcome = run("verify", copy, "--on", spoiled)
    assert outcome.code == 1
    assert (
        f"differs Python reference == {spoiled}: {facts['mismatches']} of {facts['inputs']} runs differ" in outcome.out
    )
    assert "layer 'fc2'" in outcome.out
    succeed("verify", copy, "--on", whole)
    outcome = run("verify", copy, "--on", "emulator", "--json")
    assert outcome.code == 1 or "unicorn" not in outcome.json["devices"]


# bench, flash, boards, ops --------------------------------------------------------------------------------------


def test_bench_json_has_the_promised_keys(build, compiled):
    facts = succeed("bench", build, "--on", "unicorn", "--limit", "3", "--json").json
    assert facts.keys() >= {"instructions", "layers"}
    layers = facts["layers"]
    assert all(layer.keys() >= {"name", "op", "kernel", "ops", "instructions"} for layer in layers)
    for key in ("name", "op", "kernel", "ops"):
        assert [layer[key] for layer in layers] == [layer[key] for layer in compiled[1]["layers"]]
    assert all(layer["instructions"] > 0 for layer in layers)
    around = facts["instructions"] - sum(layer["instructions"] for layer in layers)
    assert 0 < around < 200
    assert facts["least"] <= facts["instructions"] <= facts["most"]
    assert facts["inputs"] == 3
    # A core takes at least a cycle for each instruction.
    assert facts["cycles"] >= facts["instructions"]
    assert facts["cycles"] > sum(layer["cycles"] for layer in layers) > 0
    out = succeed("bench", build, "--on", "unicorn", "--limit", "3").out
    assert f"{facts['instructions']:,} instructions per inference, mean of 3 inputs" in out
    assert f"about {facts['cycles']:,} cycles" in out
    assert all(layer["name"] in out for layer in layers)


def test_bench_estimates_cycles_unless_told_otherwise(build):
    """Both emulators know the board and count the same instructions; one of them estimates cycles."""
    chosen = succeed("bench", build, "--limit", "1", "--json").json
    assert chosen["emulator"] == "unicorn"
    assert chosen["cycles"] >= chosen["instructions"]


def test_bench_takes_inputs(build):
    facts = succeed("bench", build, "--on", "unicorn", "--inputs", IMAGES, "--limit", "2", "--json").json
    assert facts["inputs"] == 2


def test_flash_dry_run_prints_the_command_and_runs_nothing(build, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with unchanged(build):
        out = succeed("flash", build, "--dry-run").out
        facts = succeed("flash", build, "--dry-run", "--json").json
        assert facts == {"board": "hifive1", "dry_run": True, "command": out.splitlines()}
        (command,) = facts["command"]
        assert shlex.split(command)[0] == "openocd"
        assert str(build / "firmware.elf") in command
        other = succeed("flash", build, "--runner", "platformio", "--dry-run").out
        assert shlex.split(other)[0] == "pio"
        assert str(build) in other


def test_boards_are_listed():
    files = {path.stem for path in resource_dir("boards").glob("*.toml")}
    facts = succeed("boards", "--json").json
    assert {board["name"] for board in facts} == files >= {"hifive1", "ch32v003", "microbit", "host"}
    by_name = {board["name"]: board for board in facts}
    assert by_name["ch32v003"]["has_multiplier"] is False
    assert (by_name["ch32v003"]["flash_bytes"], by_name["ch32v003"]["ram_bytes"]) == (16_384, 2_048)
    out = succeed("boards").out
    assert all(name in out for name in files)
    assert "openocd" in out


def test_operators_are_listed():
    facts = succeed("ops", "--json").json
    assert facts.keys() >= {"operators", "onnx", "weights", "kernels"}
    assert {"Gemm", "MatMul", "Relu", "Softmax", "BatchNormalization"} <= set(facts["onnx"])
    assert {"int8", "int4", "log4", "dlq4", "dlq4half"} <= facts["weights"].keys()
    out = succeed("ops").out
    assert all(name in out for name in (*facts["weights"], *facts["onnx"]))


# JSON, markup, progress -----------------------------------------------------------------------------------------


def test_a_mistake_is_json_for_machines(tmp_path):
    outcome = run(tmp_path / "gone.onnx", "--json")
    assert (outcome.code, outcome.err) == (2, "")
    assert outcome.json.keys() == {"error"}
    assert outcome.json["error"]["where"] == str(tmp_path / "gone.onnx")
    assert outcome.json["error"]["problem"] == "does not exist"
    assert outcome.json["error"].keys() == {"where", "problem", "fix"}
    assert "error" in run("verify", "--limit", "0", "--json").json


def test_a_fault_of_the_program_says_so(monkeypatch):
    def fail(*_arguments, **_options):
        raise RuntimeError("a bug")

    monkeypatch.setattr("mcucompile.cli.compile_model", fail)
    outcome = run(FOUR_VIEW)
    assert outcome.code == 70
    assert outcome.out == ""
    assert "RuntimeError: a bug" in outcome.err
    assert "please report it" in outcome.err.splitlines()[-1]


@pytest.mark.parametrize("name", ["[/red]", "a[/]b", "[bold]layer", ":smile:"])
def test_names_are_shown_as_they_are(tmp_path, monkeypatch, name):
    """Console markup in a model, a path or a board file is text like any other."""
    monkeypatch.chdir(tmp_path)
    board = (resource_dir("boards") / "hifive1.toml").read_text(encoding="utf-8")
    Path("mine.toml").write_text(board.replace('name = "hifive1"', f'name = "{name}"'), encoding="utf-8")
    model = make_model([node("MatMul", "x w")], (1, 4), {"w": np.eye(4, 3, dtype=np.float32)})
    model.graph.node[0].name = name
    onnx.save(model, "model.onnx")
    directory = f"out{name.replace('/', '')}"
    for verb in (("analyze",), ("compile", "-o", directory)):
        out = succeed(*verb, "model.onnx", "--target", "mine.toml").out
        assert f"model on {name}" in out
        assert re.search(rf"^{re.escape(name)} +dense", out, re.MULTILINE)
    assert f"wrote {directory}; next: mcucompile verify {directory} " in out
    assert f"fits {name}" in out
    assert name in succeed("verify", directory, "--on", "host", "--layers", "--limit", "1").out
    assert name in succeed("bench", directory, "--on", "unicorn", "--limit", "1").out


def test_a_terminal_sees_progress(tmp_path):
    """What a terminal gets on standard error; a pipe gets nothing (every other test here)."""
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal: Linux or macOS")
    ours, theirs = pty.openpty()
    try:
        command = [*MCUCOMPILE, FOUR_VIEW, "--samples", SAMPLES, "-o", tmp_path / "b"]
        environment = {**os.environ, "TERM": "xterm"}
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment, timeout=60, check=True)
        assert b"building for host" in os.read(ours, 1 << 16)
    finally:
        os.close(ours)
        os.close(theirs)


# Interruption ---------------------------------------------------------------------------------------------------

MCUCOMPILE = (sys.executable, "-c", "from mcucompile.cli import main; main()")
STAGES = ("load_onnx", "calibrate", "quantize", "write_files", "build_firmware", "inspect_elf", "put_in_place")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("earlier", [False, True], ids=["new", "over an earlier project"])
def test_an_interruption_leaves_nothing_half_written(copy, tmp_path, monkeypatch, stage, earlier):
    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"mcucompile.driver.{stage}", interrupt)
    directory = copy if earlier else tmp_path / "deep" / "build"
    with unchanged(tmp_path):
        outcome = run(FOUR_VIEW, "--target", "hifive1", "--samples", SAMPLES, "-o", directory)
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "\ninterrupted\n")


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(13, "Permission denied")])
def test_a_project_that_cannot_be_put_in_place_leaves_the_earlier_one(copy, tmp_path, monkeypatch, fault):
    """The earlier project has been moved aside when this strikes."""
    rename = Path.rename

    def fail(path, target):
        if Path(target) == copy and not path.name.endswith("-old"):
            assert not copy.exists()
            raise fault
        return rename(path, target)

    with monkeypatch.context() as patched, unchanged(tmp_path):
        patched.setattr(Path, "rename", fail)
        outcome = run(FOUR_VIEW, "--samples", SAMPLES, "-o", copy)
    assert outcome.code == (130 if isinstance(fault, KeyboardInterrupt) else 2)


def has_ended(process_id):
    """Return whether a process is gone, or dead and only not yet collected, within a few seconds."""
    status = Path("/proc") / process_id / "stat"
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def test_control_c_during_a_build_ends_the_compiler_and_leaves_nothing(tmp_path):
    """A real signal; the compiler is a program that never ends."""
    tools, work = tmp_path / "tools", tmp_path / "work"
    tools.mkdir()
    work.mkdir()
    compiler = tools / "gcc"
    compiler.write_text(f'#!/bin/sh\necho $$ > "{tools}/pid"\nexec sleep 60\n', encoding="utf-8")
    compiler.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    # Where the tests run in the background the signal is ignored, and children inherit that.
    heeding = ["env", "--default-signal=INT"]
    command = [*heeding, *MCUCOMPILE, FOUR_VIEW, "--samples", SAMPLES, "-o", work / "build", "--toolchain", "gcc"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 30
        while not (tools / "pid").exists() or not (tools / "pid").read_text(encoding="utf-8").strip():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        assert list(work.iterdir())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out, err) == (130, "", "\ninterrupted\n")
    assert list(work.iterdir()) == []
    assert has_ended((tools / "pid").read_text(encoding="utf-8").strip())


def test_results_of_json_are_one_value_on_standard_output(build):
    """A machine reads standard output to its end."""
    for arguments in (("boards",), ("ops",), ("flash", build, "--dry-run"), ("analyze", FOUR_VIEW)):
        outcome = succeed(*arguments, "--json")
        assert json.loads(outcome.out) is not None
        assert "\x1b" not in outcome.out
