"""What bad input gets: three lines (where, what, what to do), exit code 2, no traceback, nothing written or changed."""

import json
import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import DAMAGES, FOUR_VIEW, compile_digits, refuse, run, succeed, unchanged
from mcucompile.resources import resource_dir
from models_factory import make_model, node

RNG = np.random.default_rng(7)
WEIGHTS = RNG.normal(size=(4, 3)).astype(np.float32)
VERBS_OF_A_PROJECT = ("verify", "bench", "flash")


def dense(weights=WEIGHTS, shape=(1, 4)):
    """Return a model of one layer, 'y_node'."""
    return make_model([node("MatMul", "x w")], shape, {"w": weights})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder to be in, with a good model and good samples."""
    monkeypatch.chdir(tmp_path)
    onnx.save(dense(), "model.onnx")
    np.save("samples.npy", np.linspace(-2, 3, 80, dtype=np.float32).reshape(20, 4))
    return tmp_path


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The digits example, compiled for the CH32V003 without multiply."""
    return compile_digits(tmp_path_factory.mktemp("compiled") / "build", "--no-multiply", target="ch32v003")


@pytest.fixture
def project(compiled, folder):
    """A copy of the compiled example, to be damaged."""
    return Path(shutil.copytree(compiled, folder / "build")).relative_to(folder)


def refused(*arguments, where, problem, fix=""):
    """Check the refusal, and that it leaves the current folder as it was."""
    with unchanged(Path()):
        return refuse(*arguments, where=where, problem=problem, fix=fix)


def test_the_good_files_are_good():
    succeed("model.onnx", "--samples", "samples.npy", "--target", "host", "-o", "build")
    assert Path("build/manifest.json").is_file()


# Models ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BadModel:
    """A file that is no model to compile, and what must be said of it."""

    write: Callable[[Path], None]
    where: str
    problem: str
    fix: str


def saved(model):
    return lambda path: onnx.save(model, path)


def bytes_of(content):
    return lambda path: path.write_bytes(content)


def with_external_data(damage):
    def write(path):
        onnx.save(dense(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        damage(path.with_name("weights.bin"))

    return write


def with_value(value):
    weights = WEIGHTS.copy()
    weights[1, 2] = value
    return dense(weights)


def without_nodes():
    model = dense()
    del model.graph.node[:]
    return model


def without_graph():
    return onnx.ModelProto(ir_version=10, opset_import=dense().opset_import)


def with_opset(version):
    model = dense()
    model.opset_import[0].version = version
    return model


CYCLE = [node("Add", "x b", "a"), node("Add", "x a", "b"), node("Relu", "a")]
UNSUPPORTED = [node("NonZero", "x", "a"), node("Relu", "a", "r"), node("Det", "r", "b"), node("Loop", "b", "y")]
BAD_MODELS = {
    "text": BadModel(bytes_of(b"# not a model\n" * 9), "bad.onnx", "is not an ONNX file", "export"),
    "picture": BadModel(bytes_of(b"\x89PNG\r\n\x1a\n" + bytes(99)), "bad.onnx", "is not an ONNX", "export"),
    "empty file": BadModel(bytes_of(b""), "bad.onnx", "is empty", "export"),
    "directory": BadModel(Path.mkdir, "bad.onnx", "is a directory", "give the path of a model file"),
    "missing": BadModel(lambda _: None, "bad.onnx", "does not exist", "check the path"),
    "truncated": BadModel(bytes_of(dense().SerializeToString()[:-40]), "bad.onnx", "truncated", "export or copy"),
    "no graph": BadModel(saved(without_graph()), "bad.onnx", "no graph", "export"),
    "empty graph": BadModel(saved(without_nodes()), "bad.onnx", "empty graph", "at least one layer"),
    "cycle": BadModel(saved(make_model(CYCLE, (1, 4))), "node 'b_node' (Add)", "a cycle", "export"),
    "dynamic shape": BadModel(saved(dense(shape=("n", "k"))), "input 'x'", "dynamic dimension 1 ('k')", "fixed"),
    "no shape": BadModel(saved(dense(shape=())), "input 'x'", "has no shape", "fixed"),
    "NaN weight": BadModel(saved(with_value(np.nan)), "tensor 'w'", "nan at [1, 2]", "re-train"),
    "infinite weight": BadModel(saved(with_value(-np.inf)), "tensor 'w'", "-inf at [1, 2]", "re-train"),
    "weights of the wrong shape": BadModel(saved(dense(np.ones((5, 3), np.float32))), "bad.onnx", "", ""),
    "overflow": BadModel(saved(dense(np.full((4, 3), 3e38, np.float32))), "tensor 'y'", "overflows float32", "check"),
    "external data missing": BadModel(
        with_external_data(Path.unlink), "tensor 'w'", "'weights.bin', which does not exist", "external data file"
    ),
    "external data truncated": BadModel(
        with_external_data(lambda path: path.write_bytes(path.read_bytes()[:17])), "tensor 'w'", "12 values", "copy"
    ),
    "too old": BadModel(saved(with_opset(6)), "bad.onnx", "opset 6", "with an opset of 7"),
    "too new": BadModel(saved(with_opset(999)), "bad.onnx", "opset 999", "upgrade onnx"),
}


@pytest.mark.parametrize("verb", ["compile", "analyze"])
@pytest.mark.parametrize("name", BAD_MODELS)
def test_bad_model_is_refused(name, verb):
    bad = BAD_MODELS[name]
    bad.write(Path("bad.onnx"))
    refused(verb, "bad.onnx", "--samples", "samples.npy", where=bad.where, problem=bad.problem, fix=bad.fix)


def test_all_unsupported_nodes_are_named_at_once():
    onnx.save(make_model(UNSUPPORTED, (1, 4)), "bad.onnx")
    for verb in ("compile", "analyze"):
        error = refused(verb, "bad.onnx", where="bad.onnx", problem="3 nodes cannot be compiled").err
        for named in ("'a_node' (NonZero)", "'b_node' (Det)", "'y_node' (Loop)"):
            assert named in error.splitlines()[1]
        assert "r_node" not in error


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_model_is_refused_or_compiled(damage):
    """A flipped bit may be a weight's; then there is nothing to see."""
    Path("bad.onnx").write_bytes(DAMAGES[damage](FOUR_VIEW.read_bytes()))
    outcome = run("analyze", "bad.onnx")
    assert outcome.code == (0 if damage == "flipped" else 2), outcome.err
    if outcome.code == 2:
        refused("bad.onnx", where="bad.onnx", problem="is ", fix="export")


def mutated(data, rng):
    """Return bytes cut off, overwritten, removed or repeated somewhere."""
    at = rng.randrange(len(data))
    return rng.choice(
        [
            data[:at],
            data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :],
            data[:at] + data[at + rng.choice([1, 4, 20]) :],
            data[:at] + data[at : at + 8] + data[at:],
        ]
    )


def sees_no_fault(*arguments):
    """Run a command on damaged input: whatever it finds, it is no fault of its own."""
    outcome = run(*arguments)
    assert outcome.code in {0, 1, 2}, outcome.err
    if outcome.code == 2:
        assert outcome.out == ""
        assert len(outcome.err.splitlines()) == 3, outcome.err
    return outcome.code


def test_three_hundred_damages_of_a_model():
    rng = random.Random(3)
    good = Path("model.onnx").read_bytes()
    codes = []
    for _ in range(300):
        Path("bad.onnx").write_bytes(mutated(good, rng))
        codes.append(sees_no_fault("analyze", "bad.onnx", "--samples", "samples.npy"))
    assert codes.count(2) > 150


@pytest.mark.parametrize("content", [b"no zip", b"PK\x05\x06" + bytes(18)])
def test_damaged_torch_program_is_refused(content):
    pytest.importorskip("torch", reason="needs torch: pip install 'mcucompile[torch]'")
    Path("bad.pt2").write_bytes(content)
    refused("bad.pt2", where="bad.pt2", problem="torch", fix="torch.export.save")


def test_weights_of_a_hundred_times_the_flash_are_refused_before_any_build(monkeypatch):
    def build(*_arguments, **_options):
        raise AssertionError("built a model that cannot fit")

    monkeypatch.setattr("mcucompile.driver.build_firmware", build)
    flash_bytes = 16_384
    onnx.save(dense(RNG.normal(size=(1000, flash_bytes // 10)).astype(np.float32), (1, 1000)), "big.onnx")
    started = time.monotonic()
    for weights in ("int8", "dlq4", "log3"):
        options = ("--target", "ch32v003", "--weights", weights)
        problem = "has 1,638,000 weights; ch32v003 has 16,384 bytes of flash"
        refused("big.onnx", *options, where="big.onnx", problem=problem, fix="larger board")
    # About 2 s; a build alone of so many weights would take longer.
    assert time.monotonic() - started < 20


# Samples and labels ---------------------------------------------------------------------------------------------

GOOD = np.ones((5, 4), np.float32)
BAD_ARRAYS = {
    "wrong shape": (np.ones((5, 3), np.float32), "shape (3,), the model's input 'x' is (1, 4)", "(samples, 4)"),
    "one sample without its axis": (np.ones(4, np.float32), "has samples of shape ()", "(samples, 4)"),
    "texts": (np.array(["a", "b"]), "holds <U1 values", "save numbers"),
    "complex": (GOOD.astype(complex), "holds complex128 values", "save numbers"),
    "dates": (np.zeros(5, "datetime64[s]"), "holds datetime64[s] values", "save numbers"),
    "records": (np.zeros(5, [("a", "f4")]), "values", "save numbers"),
    "NaN": (np.where(np.eye(5, 4) > 0, np.nan, GOOD), "NaN", "remove those samples"),
    "infinity": (np.where(np.eye(5, 4) > 0, -np.inf, GOOD), "infinity", "remove those samples"),
    "too large for float32": (GOOD.astype(np.float64) * 1e300, "float32 cannot hold", "remove"),
    "empty": (np.ones((0, 4), np.float32), "holds no samples", "shape (samples, ...)"),
    "a number": (np.array(3.0), "holds no samples", "shape (samples, ...)"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_bad_samples_are_refused(name):
    array, problem, fix = BAD_ARRAYS[name]
    np.save("bad.npy", array)
    for verb in ("compile", "analyze"):
        refused(verb, "model.onnx", "--samples", "bad.npy", where="bad.npy", problem=problem, fix=fix)


def test_samples_must_be_in_the_range_of_integer_inputs():
    model = make_model(
        [node("Cast", "x", "r", to=onnx.TensorProto.FLOAT), node("MatMul", "r w")],
        (1, 4),
        {"w": WEIGHTS},
        element_type=onnx.TensorProto.UINT8,
    )
    onnx.save(model, "bytes.onnx")
    np.save("bad.npy", GOOD * 256)
    refused("bytes.onnx", "--samples", "bad.npy", where="bad.npy", problem="uint8", fix="0..255")
    np.save("bad.npy", GOOD / 2)
    refused("bytes.onnx", "--samples", "bad.npy", where="bad.npy", problem="fractions", fix="0..255")


def write_objects(path):
    np.save(path, np.array([None, {}], dtype=object), allow_pickle=True)


def write_unbalanced_header(path):
    """The header's bracket is never closed: numpy's parser raises what nothing else does."""
    np.save(path, GOOD)
    path.write_bytes(path.read_bytes().replace(b"(5, 4)", b"(5, 4 "))


def write_huge_header(path):
    np.save(path, GOOD)
    path.write_bytes(path.read_bytes().replace(b"(5, 4), }" + b" " * 9, b"(5, 4000000000000) }"[:18]))


BAD_FILES = {
    "text": bytes_of(b"1,2,3,4\n"),
    "empty file": bytes_of(b""),
    "pickled objects": write_objects,
    "unbalanced header": write_unbalanced_header,
    "more than memory": write_huge_header,
    "truncated": lambda path: (np.save(path, GOOD), path.write_bytes(path.read_bytes()[:-9])),
    "no archive": bytes_of(b"PK\x03\x04" + bytes(40)),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_array_is_refused(name, project):
    BAD_FILES[name](Path("bad.npy"))
    told = {"where": "bad.npy", "problem": "is no array of numbers", "fix": "numpy.save"}
    refused("model.onnx", "--samples", "bad.npy", **told)
    refused("verify", project, "--on", "host", "--inputs", "bad.npy", **told)
    refused("bench", project, "--inputs", "bad.npy", **told)
    np.save("inputs.npy", np.zeros((5, 28, 28), np.uint8))
    refused("verify", project, "--on", "host", "--inputs", "inputs.npy", "--labels", "bad.npy", **told)


def test_missing_samples_and_directories_are_refused():
    refused("model.onnx", "--samples", "gone.npy", where="gone.npy", problem="does not exist", fix=".npy")
    Path("folder.npy").mkdir()
    refused("model.onnx", "--samples", "folder.npy", where="folder.npy", problem="directory", fix="check the file")


def test_an_archive_of_several_arrays_must_say_which():
    np.savez("two.npz", first=GOOD, second=GOOD)
    several = "holds the arrays first, second"
    refused("model.onnx", "--samples", "two.npz", where="two.npz", problem=several, fix="two.npz:first")
    refused("model.onnx", "--samples", "two.npz:third", where="two.npz", problem=several, fix="two.npz:first")
    succeed("analyze", "model.onnx", "--samples", "two.npz:second")
    np.savez("none.npz")
    refused("model.onnx", "--samples", "none.npz", where="none.npz", problem="holds no array", fix="numpy.savez")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_three_hundred_damages_of_samples(suffix):
    rng = random.Random(4)
    bad = Path(f"bad{suffix}")
    (np.save if suffix == ".npy" else np.savez_compressed)(bad, GOOD)
    good = bad.read_bytes()
    codes = []
    for _ in range(300):
        bad.write_bytes(mutated(good, rng))
        codes.append(sees_no_fault("analyze", "model.onnx", "--samples", bad))
    assert codes.count(2) > 100


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (np.zeros(4, int), "has 4 labels for 5 inputs"),
        (np.zeros((5, 10), int), "has 50 labels for 5 inputs"),
        (np.full(5, 0.5), "not classes"),
        (np.array(["a"] * 5), "not classes"),
        (np.full(5, np.nan), "not classes"),
    ],
)
def test_bad_labels_are_refused(project, labels, problem):
    np.save("inputs.npy", np.zeros((5, 28, 28), np.uint8))
    np.save("labels.npy", labels)
    options = ("--on", "host", "--inputs", "inputs.npy", "--labels", "labels.npy")
    refused("verify", project, *options, where="labels.npy", problem=problem, fix="save")


def test_bad_inputs_of_a_project_are_refused(project):
    np.save("inputs.npy", np.zeros((5, 27, 28), np.uint8))
    for verb in ("verify", "bench"):
        refused(verb, project, "--inputs", "inputs.npy", where="inputs.npy", problem="(27, 28)", fix="28")
    np.save("inputs.npy", np.full((5, 28, 28), 256))
    refused("verify", project, "--inputs", "inputs.npy", where="inputs.npy", problem="256", fix="0..255")


# Options --------------------------------------------------------------------------------------------------------


def test_an_unknown_board_is_answered_with_the_known_ones():
    for verb in ("compile", "analyze"):
        for name in ("hifive", "HIFIVE1", ""):
            where = f"board '{name}'"
            fix = "hifive1, hifive1-revb"
            refused(verb, "model.onnx", "--target", name, where=where, problem="no board of that name", fix=fix)


def test_one_unknown_board_of_several_is_refused():
    targets = ("--target", "hifive1", "--target", "hifive9")
    refused("analyze", "model.onnx", *targets, where="board 'hifive9'", problem="no board", fix="hifive1")


def test_a_broken_board_file_is_refused():
    good = (resource_dir("boards") / "hifive1.toml").read_text(encoding="utf-8")
    Path("mine.toml").write_text(good, encoding="utf-8")
    succeed("analyze", "model.onnx", "--target", "mine.toml")
    for old, new, where, problem in (
        ("ram_bytes = 16_384", "", "mine.toml, key 'memory.ram_bytes'", "is missing"),
        ("ram_bytes = 16_384", "ram_bites = 16_384", "mine.toml, key 'memory.ram_bites'", "is not a key"),
        ("ram_bytes = 16_384", "ram_bytes = '16K'", "mine.toml, key 'memory.ram_bytes'", "'16K'"),
        ("[memory]", "[memory", "mine.toml", "is not TOML"),
    ):
        assert old in good
        Path("mine.toml").write_text(good.replace(old, new), encoding="utf-8")
        refused("model.onnx", "--target", "mine.toml", where=where, problem=problem)
    Path("mine.toml").write_bytes(b"\xff\xfe")
    refused("model.onnx", "--target", "mine.toml", where="mine.toml", problem="is not TOML")
    refused("model.onnx", "--target", "gone.toml", where="gone.toml", problem="cannot be read")


BAD_OPTIONS = [
    (("--weights", "int9"), "--weights int9", "'int9' is not an encoding", "int8, int4"),
    (("--weights", "int8,y_node=int9"), "--weights int8,y_node=int9", "'int9' is not an encoding", "dlq4"),
    (("--weights", "nothing=dlq4"), "--weights nothing=dlq4", "no layer with weights is called 'nothing'", "y_node"),
    (("--weights", ""), "--weights", "not an encoding", "int8"),
    (("--activations", "int9"), "--activations int9", "'int9' is not", "int16"),
    (("--csd-terms", "9"), "--csd-terms", "is 9", "1, 2 or 3"),
    (("--csd-terms", "two"), "mcucompile compile", "'two' is not a valid integer", "--help"),
    (("--name", "4 digits"), "--name", "'4 digits' is not a C identifier", "letters"),
    (("--name", "zahl\u00fc"), "--name", "is not a C identifier", "letters"),
    (("--toolchain", "tcc"), "mcucompile compile", "'tcc' is not one of", "--help"),
    (("--tarket", "host"), "mcucompile compile", "No such option '--tarket'", "--help"),
    (("second.onnx",), "mcucompile compile", "second.onnx", "--help"),
]


@pytest.mark.parametrize(("options", "where", "problem", "fix"), BAD_OPTIONS)
def test_a_bad_option_is_refused(options, where, problem, fix):
    refused("model.onnx", *options, where=where, problem=problem, fix=fix)


def test_a_misspelled_verb_is_answered_with_the_verbs():
    refused("analise", "model.onnx", where="mcucompile", problem="'analise' is neither a file nor one of analyze")
    refused("compile", where="mcucompile compile", problem="Missing argument 'MODEL'", fix="--help")


# Output ---------------------------------------------------------------------------------------------------------


def test_an_output_that_cannot_be_written_is_refused(monkeypatch):
    """Permissions are no test: root has them all. A file in the way stops everyone."""
    Path("file").write_text("mine", encoding="utf-8")
    Path("link").symlink_to("file")
    refused("model.onnx", "-o", "file", where="file", problem="is a file, not a directory", fix="-o DIR")
    refused("model.onnx", "-o", "link", where="link", problem="is a link, not a directory", fix="-o DIR")
    for path in ("file/build", "file/deep/build"):
        refused("model.onnx", "-o", path, where=path, problem="file is a file", fix="-o DIR")
    refused("model.onnx", "-o", "/proc/mcucompile/build", where="/proc", problem="cannot be written", fix="-o DIR")
    Path("inside").mkdir()
    monkeypatch.chdir("inside")
    for path in (".", ".."):
        refused("../model.onnx", "-o", path, where=path, problem="is the directory you are in", fix="-o DIR")


def test_a_folder_of_something_else_is_not_replaced():
    other = Path("thesis")
    other.mkdir()
    (other / "chapter.tex").write_text("years of work", encoding="utf-8")
    problem = "holds files that are not a compiled project's"
    refused("model.onnx", "-o", other, where="thesis", problem=problem, fix="-o DIR")
    (other / "manifest.json").write_text("{}", encoding="utf-8")
    refused("model.onnx", "-o", other, where="thesis", problem=problem, fix="-o DIR")


def test_a_full_disk_is_refused(monkeypatch):
    def write_bytes(_path, _content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", write_bytes)
        refused("model.onnx", "-o", "deep/build", where="", problem="No space left on device", fix="-o DIR")


def test_a_failure_leaves_the_earlier_project_as_it_was(project):
    onnx.save(with_value(np.nan), "bad.onnx")
    refused("bad.onnx", "-o", project, where="tensor 'w'", problem="nan")


# Tools ----------------------------------------------------------------------------------------------------------


def test_a_missing_tool_chain_is_refused(monkeypatch, project):
    monkeypatch.setenv("PATH", str(Path("nothing")))
    monkeypatch.setitem(sys.modules, "ziglang", None)
    told = {"where": "board 'hifive1'", "problem": "there is no compiler", "fix": "pip install 'mcucompile[toolchain]'"}
    refused("model.onnx", "--target", "hifive1", **told)
    refused("model.onnx", where="board 'host'", problem="there is no compiler", fix="apt-get install gcc")
    gcc = {"problem": "riscv64-unknown-elf-gcc is not on PATH", "fix": "apt-get install gcc-riscv64-unknown-elf"}
    refused("model.onnx", "--target", "hifive1", "--toolchain", "gcc", where="board 'hifive1'", **gcc)
    zig = {"problem": "ziglang is not installed", "fix": "pip install"}
    refused("model.onnx", "--target", "hifive1", "--toolchain", "zig", where="board 'hifive1'", **zig)
    refused("verify", project, "--on", "host", where="host", problem="there is no compiler", fix="pip install")
    succeed("analyze", "model.onnx", "--target", "hifive1")


def test_a_missing_emulator_is_refused(monkeypatch, project):
    monkeypatch.setenv("PATH", str(Path("nothing")))
    monkeypatch.setitem(sys.modules, "unicorn", None)
    for verb in ("verify", "bench"):
        fix = "pip install 'mcucompile[toolchain]'"
        told = {"where": "board 'ch32v003'", "problem": "no emulator for it is installed", "fix": fix}
        refused(verb, project, **told)
        problem = "unicorn is not installed"
        refused(verb, project, "--on", "unicorn", where="board 'ch32v003'", problem=problem, fix=fix)
        problem = "QEMU has no machine for it"
        refused(verb, project, "--on", "qemu", where="board 'ch32v003'", problem=problem, fix=fix)


def test_a_missing_flash_program_port_or_runner_is_refused(monkeypatch, project):
    monkeypatch.setenv("PATH", str(Path("nothing")))
    told = {"where": "runner 'wlink' of board 'ch32v003'", "problem": "'wlink' is not on PATH", "fix": "wlink"}
    refused("flash", project, "--runner", "wlink", **told)
    told = {"where": "board 'ch32v003'", "problem": "no runner 'magic'", "fix": "wlink or minichlink"}
    refused("flash", project, "--runner", "magic", **told)
    refused("flash", project, "--runner", "magic", "--dry-run", **told)


def test_a_port_that_is_not_there_is_refused(project):
    for port in ("/dev/ttyNothing", "socket://127.0.0.1:1"):
        refused("verify", project, "--on", port, where=port, problem="cannot be opened", fix="check its name")


def test_the_host_is_not_flashed_and_not_counted():
    succeed("model.onnx", "-o", "build")
    refused("flash", "build", "--dry-run", where="board 'host'", problem="nothing to flash", fix="verify")
    refused("bench", "build", where="build", problem="is built for the host", fix="--target hifive1")


# Projects -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS_OF_A_PROJECT)
def test_what_is_no_project_is_refused(verb):
    Path("other").mkdir()
    for path in ("other", "gone", "model.onnx"):
        problem = "holds no compiled project"
        refused(verb, path, where=path, problem=problem, fix="the directory that `mcucompile MODEL -o DIR` wrote")


@pytest.mark.parametrize("verb", VERBS_OF_A_PROJECT)
@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "flipped"])
def test_a_damaged_manifest_is_refused(verb, damage, project):
    manifest = project / "manifest.json"
    manifest.write_bytes(DAMAGES[damage](manifest.read_bytes()))
    refused(verb, project, where="manifest.json", problem="is damaged", fix="compile the model again")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("digest"),
        lambda m: m.pop("files"),
        lambda m: m.pop("options"),
        lambda m: m.update(digest="12"),
        lambda m: m.update(digest=5),
        lambda m: m["files"].pop("reference/graph.json"),
        lambda m: m["options"].update(no_multiply="no"),
        lambda m: m.update(files=[]),
    ],
)
def test_a_manifest_that_lacks_something_is_refused(change, project):
    manifest = project / "manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    change(content)
    manifest.write_text(json.dumps(content), encoding="utf-8")
    refused("verify", project, where="manifest.json", problem="is damaged", fix="compile the model again")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["graph.json", "arrays.npz", "samples.npy", "board.json"])
def test_a_changed_reference_is_refused(name, damage, project):
    """Else a reference that was changed together with the firmware would verify."""
    path = project / "reference" / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    told = {"where": name, "problem": "its bytes are not those of the manifest", "fix": "compile the model again"}
    refused("verify", project, "--on", "host", **told)
    path.unlink()
    refused("verify", project, "--on", "host", where=name, problem="cannot be read", fix="compile the model again")


def test_missing_files_of_a_project_are_refused(project):
    (project / "src" / "model.c").unlink()
    refused("verify", project, "--on", "host", where="model.c", problem="cannot be read", fix="compile the model again")
    (project / "firmware.elf").unlink()
    refused("verify", project, "--on", "unicorn", where="firmware.elf", problem="cannot be read", fix="again")
    refused("bench", project, "--on", "unicorn", where="firmware.elf", problem="cannot be read", fix="again")
    refused("flash", project, where="build", problem="holds no firmware.elf", fix="compile a model")


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "flipped"])
def test_a_damaged_firmware_is_refused(damage, project):
    elf = project / "firmware.elf"
    elf.write_bytes(DAMAGES[damage](elf.read_bytes()))
    for verb in ("verify", "bench"):
        refused(verb, project, "--on", "unicorn", where="firmware.elf", problem="")


def test_a_source_that_does_not_compile_is_refused(project):
    source = project / "src" / "model.c"
    source.write_text(source.read_text(encoding="utf-8") + "int syntax(\n", encoding="utf-8")
    refused("verify", project, "--on", "host", where="", problem="error:", fix="compile the model again")


def test_the_firmware_of_another_model_is_refused(project):
    compile_digits(Path("other"), target="ch32v003")
    shutil.copy("other/firmware.elf", project / "firmware.elf")
    told = {"where": "unicorn", "problem": "runs the model 'four_view_64_16_10'", "fix": "mcucompile flash"}
    refused("verify", project, "--on", "unicorn", **told)
