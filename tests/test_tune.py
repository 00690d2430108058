"""`bench --tune` and `--plain`: what is measured is what is chosen, and the choice compiles to the same bits."""

from pathlib import Path

import numpy as np
import pytest
from command_line import FOUR_VIEW, compile_digits, refuse, succeed
from emulated_layers import layer_graph
from mcucompile.kernels import Core
from mcucompile.plan import candidates_of, layers_of, select_kernels
from mcucompile.project import core_of, load_project
from mcucompile.reference import load_samples
from mcucompile.targets.boards import load_board
from mcucompile.tune import KERNELS_FILE, tune

OPTIONS = ("--weights", "log4", "--optimize", "speed")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits example for the microbit."""
    return compile_digits(tmp_path_factory.mktemp("tune") / "build", *OPTIONS, target="microbit")


def test_the_fastest_of_what_was_measured_is_chosen(project: Path) -> None:
    loaded = load_project(project)
    result = tune(loaded, load_samples(project)[:1], toolchain="gcc")
    assert [layer.name for layer in result.layers] == ["four_view", "fc1", "fc2"]
    for layer in result.layers:
        fastest = min(layer.candidates, key=lambda candidate: candidate.cycles)
        assert layer.chosen == fastest.kernel
        assert len(layer.candidates) >= 2
        assert layer.planned in {candidate.kernel for candidate in layer.candidates}
    names = {candidate.kernel for candidate in result.layers[1].candidates}
    assert names >= {"multiply", "shift", "bins", "column code", "row code"}


def test_the_choice_is_recorded_and_compiles(project: Path, tmp_path: Path) -> None:
    facts = succeed("bench", project, "--on", "unicorn", "--limit", "1", "--tune", "--plain", "--json").json
    path = project / KERNELS_FILE
    assert path.read_text(encoding="utf-8").strip() == facts["tuning"]["kernels"]
    tuned = compile_digits(tmp_path / "tuned", *OPTIONS, "--kernels", f"@{path}", target="microbit")
    again = succeed("bench", tuned, "--on", "unicorn", "--limit", "1", "--json").json
    chosen = {layer["name"]: layer["chosen"] for layer in facts["tuning"]["layers"]}
    assert {layer["name"]: layer["kernel"] for layer in again["layers"]} == chosen
    assert again["cycles"] <= facts["cycles"]
    for layer in facts["layers"]:
        assert layer["plain_instructions"] >= layer["instructions"]
    assert facts["kernels"].keys() == {layer["kernel"] for layer in facts["layers"]}
    assert sum(facts["kernels"].values()) == sum(layer["instructions"] for layer in facts["layers"])
    succeed("verify", tuned, "--on", "unicorn", "--limit", "2")


def test_what_is_shown(project: Path) -> None:
    out = succeed("bench", project, "--on", "unicorn", "--limit", "1", "--tune", "--plain").out
    assert "plain kernels take" in out
    assert "by kernel: " in out
    assert f"compile again with --kernels @{project / KERNELS_FILE}" in " ".join(out.split())
    assert max(len(line) for line in out.splitlines() if "kernels.txt" not in line) <= 100


def test_a_choice_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.txt").write_text("fc7=bins", encoding="utf-8")
    Path("bytes.txt").write_bytes(b"\xff\xfe")
    fix = "give @ and the file of `bench --tune`"
    for name in ("missing.txt", "bytes.txt"):
        refuse(FOUR_VIEW, "--kernels", f"@{name}", where=f"--kernels @{name}", problem="cannot be read", fix=fix)
    problem = "no layer is called 'fc7'"
    refuse(FOUR_VIEW, "--kernels", "@wrong.txt", where="--kernels fc7=bins", problem=problem, fix="layer=kernel")


def test_a_slow_multiplier_is_avoided() -> None:
    """The FE310 takes 5 cycles for a product (its manual, section 3.3): 7.8 instructions and 4 of waiting a weight."""
    weight = np.random.default_rng(3).normal(0, 0.2, (48, 200))
    layer = layers_of(layer_graph(weight, "log4"))[-1]
    core = core_of(load_board("hifive1"), no_multiply=False)
    assert core.multiply_cycles == 5
    costs = {each.kernel.name: each.cost for each in candidates_of(layer, core)}
    assert costs["multiply"].instructions < costs["shift"].instructions
    assert costs["multiply"].time > costs["shift"].time
    assert costs["multiply"].waits == 4 * weight.size
    graph = layer_graph(weight, "log4")
    assert select_kernels(graph, core, optimize="speed")[-1].kernel.name != "multiply"
    quick = Core(has_multiplier=True, name="rv32imac")
    assert select_kernels(graph, quick, optimize="speed")[-1].kernel.name == "multiply"
