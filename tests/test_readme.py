"""What the README promises: its commands run as they stand there, and its tables are those of the stored results."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from command_line import run

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAM = "mcucompile"
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def console_lines(text):
    """Return what follows each prompt in the console blocks, in order; a backslash continues a line."""
    blocks = "".join(CONSOLE.findall(text)).replace("\\\n", " ")
    return [line[2:] for line in blocks.splitlines() if line.startswith("$ ")]


COMMANDS = console_lines(README)


def test_the_readme_has_these_commands():
    """None is lost when the README's form changes, and every verb is shown."""
    assert len(COMMANDS) == README.count("\n$ ") == 9
    verbs = {shlex.split(command)[1] for command in COMMANDS}
    assert verbs >= {"verify", "bench", "report", "flash", "analyze", "boards", "ops"}
    assert any(verb.endswith(".onnx") for verb in verbs)


def test_no_command_is_in_a_block_that_is_not_run():
    """`make` lines stand in a plain block: CI runs `make test`, a person `make demo`."""
    assert not re.findall(r"^\$? ?mcucompile ", CONSOLE.sub("", README), re.MULTILINE)
    assert all(shlex.split(command)[0] == PROGRAM for command in COMMANDS)


def test_no_command_touches_hardware():
    """A port or a programmer may be named by a dry run only."""
    for command in COMMANDS:
        words = shlex.split(command)
        if "flash" in words:
            assert "--dry-run" in words
        assert not any(word.startswith("/dev/") for word in words) or "--dry-run" in words


def test_the_commands_of_the_readme_run_and_do_what_it_says(tmp_path, monkeypatch):
    """In order, in a folder with the examples alone. One test, since each command needs those before it."""
    examples = ROOT / "examples" / "digits"
    shutil.copytree(examples, tmp_path / "examples" / "digits", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    shown = {}
    for command in COMMANDS:
        words = shlex.split(command)[1:]
        outcome = run(*words)
        assert (outcome.code, outcome.err) == (0, ""), command
        assert outcome.out.strip(), command
        shown.setdefault(words[0], outcome.out)
    compiled = shown["examples/digits/models/four_view_64_16_10.onnx"]
    assert re.search(r"RAM +[\d,]+ bytes of 16,384", compiled)
    assert "fits hifive1" in compiled
    assert re.search(r"verified Python reference == host == \w+: 500 inputs, .* 0 mismatches", shown["verify"])
    (accuracy,) = re.findall(r"accuracy ([\d.]+) %", shown["verify"])
    assert float(accuracy) > 95
    assert "instructions per inference" in shown["bench"]
    assert shown["flash"].startswith("openocd ")
    assert "should fit hifive1" in shown["analyze"]
    assert "should fit microbit" in shown["analyze"]


def test_the_boards_of_the_readme_are_the_boards_of_the_program():
    (listed,) = re.findall(r"`mcucompile boards` lists them: (.*?)\.", README.replace("\n", " "))
    names = {board["name"] for board in run("boards", "--json").json}
    assert set(re.findall(r"[a-z][a-z0-9-]+", listed)) - {"and", "the"} == names


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    (code,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    shutil.copy(ROOT / "examples" / "digits" / "models" / "four_view_64_16_10.onnx", tmp_path / "model.onnx")
    shutil.copy(ROOT / "examples" / "digits" / "calibration.npy", tmp_path / "images.npy")
    monkeypatch.chdir(tmp_path)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("True ")
    assert (tmp_path / "build" / "manifest.json").is_file()


def test_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def check_tables(root):
    command = [sys.executable, root / "benchmarks" / "tables.py", "--check"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=root, env=environment, timeout=60, check=False, capture_output=True)


def test_the_tables_are_those_of_the_stored_results():
    assert check_tables(ROOT).returncode == 0


def test_a_table_that_was_edited_by_hand_is_found(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    for name in ("tables.py", "claims_rows.py", "kernel_rows.py", "KERNELS.md"):
        shutil.copy(ROOT / "benchmarks" / name, tmp_path / "benchmarks" / name)
    shutil.copytree(ROOT / "benchmarks" / "results", tmp_path / "benchmarks" / "results")
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    assert check_tables(tmp_path).returncode == 0
    edited, count = re.subn(r"(?m)^(\| `four_view_64_16_10` \|.*\| )9\d\.\d\d \|$", r"\g<1>99.99 |", README)
    assert count == 1
    (tmp_path / "README.md").write_text(edited, encoding="utf-8")
    assert check_tables(tmp_path).returncode == 1
