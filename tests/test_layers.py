"""A firmware that computes one value wrong: `verify` names the layer and the index, and shows both values."""

import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import compile_digits, run, succeed
from firmware_builds import require_emulator
from graphs import BYTES, SOURCE, affine, dense, graph
from host_model import plan_model
from mcucompile.calibrate import calibrate
from mcucompile.emit import emit_model, headers
from mcucompile.ir import Array, Graph
from mcucompile.ops import Reshape
from mcucompile.project import load_project
from mcucompile.quantize import parse_activations, parse_weights, quantize
from mcucompile.resources import resource_dir
from mcucompile.targets.boards import load_board
from mcucompile.targets.firmware import firmware_files
from mcucompile.targets.host import open_host
from mcucompile.targets.link import Observation
from mcucompile.targets.toolchain import build_firmware
from mcucompile.verify import verify_devices

HASH = bytes(range(16))


def spoil(text: str, layer: int, byte: int, *, change: str = "^= 1u") -> str:
    """Return model.c with one byte of a layer's output changed as soon as it is computed."""
    found = re.search(rf"^ *MCU_OBSERVE_LAYER\({layer}, ([^,]+), \d+\);$", text, re.MULTILINE)
    assert found
    return text.replace(found[0], f"    ((uint8_t *)({found[1]}))[{byte}] {change};\n{found[0]}")


@pytest.mark.parametrize("device", ["host", "qemu", "unicorn"])
def test_first_difference_on_every_device(device: str, tmp_path: Path) -> None:
    project = compile_digits(tmp_path / "project")
    if device != "host":
        require_emulator(load_board("hifive1"), device)
    source = project / "src" / "model.c"
    right = source.read_text()
    reference = load_project(project).graph
    for layer, index in ((0, 63), (1, 0), (2, 9)):
        op = reference.layers[layer]
        stored = reference.tensors[op.output].stored
        source.write_text(spoil(right, layer, index * stored.item_bytes))
        build_firmware(project, load_board("hifive1"))
        outcome = run("verify", project, "--on", device, "--limit", 5, "--json")
        assert outcome.code == 1, outcome.err
        facts = outcome.json
        assert facts["mismatches"] == 5
        first = facts["first"]
        assert (first["on"], first["input"], first["layer"], first["index"]) == (device, 0, op.name, index)
        assert first["device"] == first["reference"] ^ 1
        named = [entry["name"] for entry in facts["layers"]]
        assert named == [other.name for other in reference.layers]
        assert [entry["mismatches"] for entry in facts["layers"]][: layer + 1] == [0] * layer + [5]
        assert [entry["elements"] for entry in facts["layers"]] == [64, 16, 10]
        text = run("verify", project, "--on", device, "--limit", 5, "--layers")
        assert text.code == 1
        place = f"layer '{op.name}', index {index}: reference {first['reference']}, device {first['device']}"
        assert f"first: on {device}, input 0, {place}" in text.out
        assert re.search(rf"{op.name} .*\b5 +5 +differ", text.out)


def test_table_of_equal_layers(tmp_path: Path) -> None:
    project = compile_digits(tmp_path / "project", target="host")
    text = succeed("verify", project, "--on", "host", "--layers", "--limit", 3).out
    assert len(re.findall(r"\b3 +0 +equal", text)) == 3
    assert "first:" not in text
    assert "equal" not in succeed("verify", project, "--on", "host", "--limit", 3).out
    facts = json.loads(succeed("verify", project, "--on", "host", "--limit", 3, "--json").out)
    assert facts["first"] is None
    assert [layer["mismatches"] for layer in facts["layers"]] == [0, 0, 0]


def firmware(model: Graph, directory: Path, change: Callable[[str], str]) -> Path:
    """Build a graph's firmware for the host with its model.c changed, and the small packets of a board."""
    board = load_board("host")
    plan = plan_model(model, has_multiplier=True)
    runtime = resource_dir("runtime_c")
    files = {**emit_model(plan), **firmware_files(board)}
    files |= {f"include/{header}": (runtime / header).read_text() for header in headers(plan)}
    files["src/model.c"] = change(files["src/model.c"])
    small = "#undef MCU_LINK_CHUNK_BYTES\n#define MCU_LINK_CHUNK_BYTES 64u\n"
    files["src/mcu_link.c"] = small + files["src/mcu_link.c"]
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return build_firmware(directory, board)


def wide(activations: str) -> tuple[Graph, Array]:
    """Return an integer graph with 6000 elements between its layers, and inputs."""
    random = np.random.default_rng(11)
    real = graph((1, 3, 40, 50), (affine(random, "x", "a", 3, 1), dense(random, "a", "y", 50, 2)), BYTES)
    samples = random.integers(0, 256, (4, *real.input.shape)).astype(np.uint8)
    bits = parse_activations(activations, real)
    integers = quantize(real, calibrate(real, samples), parse_weights("int8", real), 2, activations=bits)
    return integers, samples.astype(np.int64)


@pytest.mark.parametrize("activations", ["int8", "int16"])
@pytest.mark.parametrize("index", [0, 1, 55, 2999, 3000, 5943, 5999])
def test_first_index_of_a_large_layer(index: int, activations: str, tmp_path: Path) -> None:
    model, codes = wide(activations)
    item = model.tensors["a"].stored.item_bytes
    # A later difference, too, which must not be named.
    elf = firmware(model, tmp_path, lambda text: spoil(spoil(text, 0, 5999 * item), 0, index * item, change="^= 2u"))
    result = verify_devices(model, codes, [("host", lambda: open_host(elf))], model_hash=HASH)
    assert result.first is not None
    assert (result.first.layer, result.first.index) == ("a", index)
    assert result.first.reference is not None
    assert result.first.device == result.first.reference ^ (3 if index == 5999 else 2)


def test_difference_in_what_is_read_back_only(tmp_path: Path) -> None:
    model, codes = wide("int8")
    elf = firmware(model, tmp_path, lambda text: text.replace("    return 0;\n}", "    out[7] += 1;\n    return 0;\n}"))
    result = verify_devices(model, codes, [("host", lambda: open_host(elf))], model_hash=HASH)
    assert result.first is not None
    assert (result.first.layer, result.first.index) == ("", 7)
    assert result.first.device == result.first.reference + 1 if result.first.reference is not None else False
    assert [layer.mismatches for layer in result.layers] == [0, 0]


def test_difference_that_does_not_come_again(tmp_path: Path) -> None:
    model, codes = wide("int8")

    def once(text: str) -> str:
        spoiled = spoil(text, 0, 5, change="^= (uint8_t)(runs++ == 0)")
        return spoiled.replace("int net_run(", "static int runs;\n\nint net_run(", 1)

    elf = firmware(model, tmp_path, once)
    result = verify_devices(model, codes, [("host", lambda: open_host(elf))], model_hash=HASH)
    assert result.mismatches == 1
    assert result.first is not None
    assert (result.first.layer, result.first.index, result.first.device) == ("a", None, None)


def test_views_are_not_layers(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    view = Reshape(name="v", inputs=("a",), output="v", source=SOURCE, shape=(1, 2, 4))
    real = graph((1, 6), (dense(random, "x", "a", 6, 8), view, dense(random, "v", "y", 4, 3)))
    samples = random.normal(size=(8, 1, 6)).astype(np.float32)
    model = quantize(real, calibrate(real, samples), parse_weights("int8", real), 2)
    elf = firmware(model, tmp_path, lambda text: spoil(text, 1, 4 * 5))
    codes = model.input.stored.quantize(samples)
    result = verify_devices(model, codes, [("host", lambda: open_host(elf))], model_hash=HASH)
    assert [layer.name for layer in result.layers] == ["a", "y"]
    assert result.first is not None
    assert (result.first.layer, result.first.index) == ("y", 5)


def test_layer_in_pieces(tmp_path: Path) -> None:
    """A layer may be observed piece by piece, as a kernel that makes it row by row does."""
    model, codes = wide("int8")

    def in_pieces(text: str) -> str:
        found = re.search(r"MCU_OBSERVE_LAYER\(0, ([^,]+), 6000\);", text)
        assert found
        pieces = [(0, 1), (1, 0), (1, 99), (100, 5900)]
        calls = [f"MCU_OBSERVE_LAYER(0, (const uint8_t *)({found[1]}) + {at}, {size});" for at, size in pieces]
        return text.replace(found[0], "\n    ".join(calls))

    elf = firmware(model, tmp_path, in_pieces)
    assert verify_devices(model, codes, [("host", lambda: open_host(elf))], model_hash=HASH).ok
    data = codes[0].astype(np.uint8).tobytes()
    whole = next(model.execute(codes[:1]))[1].astype(model.tensors["a"].stored.dtype).tobytes()
    with open_host(elf) as link:
        for offset in (0, 1, 50, 99, 100, 5990):
            part = whole[offset : offset + 10]
            assert link.observe(data, 0, offset, 10) == Observation(zlib.crc32(part), part)
