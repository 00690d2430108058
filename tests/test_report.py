"""The report: what it says, and what a real browser makes of it at two widths, by day and by night."""

import html
import json
import re
import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command_line import compile_digits, refuse, succeed, unchanged
from firmware_builds import require_emulator
from mcucompile.report import render_page
from mcucompile.targets.boards import load_board
from models_factory import make_model, node

HOSTILE = '<script>alert("x")</script>&lt;\u202e{{ 7 * 7 }}'
# What could load something.
EXTERNAL = re.compile(r"src=|href|url\(|@import|https?:|//[a-z]", re.IGNORECASE)
# Measures a page in frames of different widths, from outside: the page itself may run no scripts.
HARNESS = """<!doctype html><meta charset="utf-8"><title>harness</title>{frames}
<pre id="measured"></pre><script>
addEventListener("load", () => {{
  const measured = [...document.querySelectorAll("iframe")].map((frame) => {{
    const page = frame.contentDocument, width = frame.clientWidth;
    const wide = [...page.body.querySelectorAll("*")].filter((element) => {{
      for (let parent = element.parentElement; parent; parent = parent.parentElement)
        if (page.defaultView.getComputedStyle(parent).overflowX === "hidden") return false;  // it is cut off there
      const box = element.getBoundingClientRect();
      return box.right > width + 0.5 || box.left < -0.5;
    }});
    return {{
      width,
      scroll: page.documentElement.scrollWidth,
      height: page.documentElement.scrollHeight,
      wide: wide.map((element) => element.outerHTML.slice(0, 200)),
      small: [...page.body.querySelectorAll("p, td, th, li, text, span, dd")]
        .filter((element) => parseFloat(page.defaultView.getComputedStyle(element).fontSize) < 11.5).length,
      scripts: page.scripts.length,
      title: page.title,
      text: page.body.innerText,
    }};
  }});
  document.getElementById("measured").textContent = JSON.stringify(measured);
}});
</script>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is not on PATH: apt-get install chromium")
    return found


def browse(chromium: str, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page without a window, in a profile of its own, and end the browser after a time."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
    profile = page.parent / "profile"
    command = [chromium, *flags, f"--user-data-dir={profile}", *options, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert not re.search(r"CONSOLE|Uncaught|Refused to", done.stderr), done.stderr
    return done


def measure(chromium: str, text: str, directory: Path, *widths: int) -> list[dict[str, Any]]:
    """Return what a browser makes of a page in frames of the given widths."""
    source = html.escape(text, quote=True)
    frames = "".join(f'<iframe style="border:0;width:{w}px;height:900px" srcdoc="{source}"></iframe>' for w in widths)
    page = directory / "harness.html"
    page.write_text(HARNESS.format(frames=frames), encoding="utf-8")
    found = re.search(r'<pre id="measured">(.*?)</pre>', browse(chromium, page, "--dump-dom").stdout, re.DOTALL)
    assert found
    measured: list[dict[str, Any]] = json.loads(html.unescape(found[1]))
    assert [frame["width"] for frame in measured] == list(widths)
    return measured


def pixels(path: Path) -> tuple[int, int, "np.ndarray[Any, Any]"]:
    """Decode a browser's PNG (8 bits, RGB or RGBA, not interlaced): (width, height, (h, w, 3))."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    position, body, head = 8, b"", b""
    while position < len(data):
        (size,), kind = struct.unpack_from(">I", data, position), data[position + 4 : position + 8]
        content = data[position + 8 : position + 8 + size]
        head = content if kind == b"IHDR" else head
        body += content if kind == b"IDAT" else b""
        position += 12 + size
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    assert (depth, interlaced) == (8, 0)
    channels = {2: 3, 6: 4}[colour]
    lines = np.frombuffer(zlib.decompress(body), dtype=np.uint8).reshape(height, 1 + width * channels)
    image = np.zeros((height, width * channels), dtype=np.uint8)
    for row, line in enumerate(lines):
        above = image[row - 1] if row else np.zeros(width * channels, dtype=np.uint8)
        image[row] = _unfiltered(int(line[0]), line[1:], above, channels)
    return width, height, image.reshape(height, width, channels)[:, :, :3]


def _unfiltered(kind: int, line: Any, above: Any, channels: int) -> Any:
    """Undo one filter of PNG (ISO/IEC 15948, 9.2)."""
    if kind == 0:
        return line
    if kind == 2:
        return line + above
    out = [0] * len(line)
    for i, value in enumerate(line.tolist()):
        left = out[i - channels] if i >= channels else 0
        up = int(above[i])
        corner = int(above[i - channels]) if i >= channels else 0
        if kind == 1:
            guess = left
        elif kind == 3:
            guess = (left + up) // 2
        else:
            base = left + up - corner
            guess = min((left, up, corner), key=lambda near: abs(base - near))
        out[i] = (value + guess) & 255
    return np.array(out, dtype=np.uint8)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_digits(tmp_path_factory.mktemp("report") / "project", "--weights", "int8,fc2=dlq4")


def residual(name: str) -> onnx.ModelProto:
    """Return a network with a branch around two layers, its layers named `name` and a number."""
    random = np.random.default_rng(4)
    constants = {f"w{i}": random.normal(0, 0.3, (24, 24)).astype(np.float32) for i in range(3)}
    nodes = [
        node("MatMul", "x w0", "a"),
        node("Relu", "a", "b"),
        node("MatMul", "b w1", "c"),
        node("Relu", "c", "d"),
        node("MatMul", "d w2", "e"),
        node("Add", "e b", "y"),
    ]
    for i, one in enumerate(nodes):
        one.name = f"{name}{i}"
    return make_model(nodes, (1, 24), constants)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("hostile")
    onnx.save(residual(HOSTILE), directory / "model.onnx")
    samples = np.random.default_rng(5).normal(0, 1, (20, 24)).astype(np.float32)
    np.save(directory / "samples.npy", samples)
    succeed(directory / "model.onnx", "--samples", directory / "samples.npy", "-o", directory / "project")
    return directory / "project"


def test_json_says_what_compiling_found(project: Path, tmp_path: Path) -> None:
    with unchanged(project):
        facts = succeed("report", project, "-o", tmp_path, "--json").json
    assert json.loads((tmp_path / "report.json").read_text()) == facts
    compiled = json.loads((project / "reference" / "facts.json").read_text())
    assert facts["flash"]["bytes"] == compiled["flash_bytes"]
    assert facts["flash"]["weights_bytes"] + facts["flash"]["code_bytes"] == facts["flash"]["bytes"]
    ram = facts["ram"]
    assert ram["arena_bytes"] + ram["stack_bytes"] + ram["other_bytes"] == ram["bytes"] == compiled["ram_bytes"]
    assert [layer["inputs"] for layer in facts["layers"]] == [[-1], [0], [1]]
    # The arena: 64 bytes of features and 16 hidden values, alive together while fc1 runs.
    assert [layer["live_bytes"] for layer in facts["layers"]] == [64, 80, 16]
    assert max(layer["live_bytes"] for layer in facts["layers"]) == facts["arena"]["lower_bound_bytes"] == 80
    assert facts["arena"]["peak_layer"] == "fc1"
    assert facts["instructions"]["source"] == "estimate"
    assert facts["instructions"]["total"] == sum(layer["instructions"] for layer in facts["layers"])
    assert [w["encoding"] for layer in facts["layers"] for w in layer["weight_statistics"]] == ["int8", "dlq4"]


@pytest.mark.parametrize("emulator", ["qemu", "unicorn"])
def test_instructions_are_counted(emulator: str, project: Path, tmp_path: Path) -> None:
    require_emulator(load_board("hifive1"), emulator)
    facts = succeed("report", project, "-o", tmp_path, "--on", emulator, "--json").json
    bench = succeed("bench", project, "--on", emulator, "--limit", 4, "--json").json
    assert facts["instructions"] == {"source": emulator, "total": bench["instructions"], "inputs": 4}
    assert [layer["instructions"] for layer in facts["layers"]] == [c["instructions"] for c in bench["layers"]]
    page = (tmp_path / "report.html").read_text()
    assert f"counted in {emulator}" in page
    assert "estimates" not in page


def test_page_is_the_same_each_time_and_stands_alone(project: Path, tmp_path: Path) -> None:
    said = succeed("report", project, "-o", tmp_path / "a").out
    assert str(tmp_path / "a" / "report.html") in said
    succeed("report", project, "-o", tmp_path / "b")
    pages = [(tmp_path / name / "report.html").read_bytes() for name in "ab"]
    assert pages[0] == pages[1]
    text = pages[0].decode()
    assert not EXTERNAL.search(text)
    assert str(tmp_path) not in text
    assert "estimates" in text
    assert "default-src 'none'" in text


def test_project_is_the_default_place(tmp_path: Path) -> None:
    directory = compile_digits(tmp_path / "project", target="host")
    succeed("report", directory)
    assert (directory / "report.html").is_file()
    assert (directory / "report.json").is_file()
    succeed("verify", directory, "--on", "host", "--limit", 2)
    # It can still be replaced by another compilation.
    compile_digits(directory, target="host")
    assert not (directory / "report.html").exists()


def test_mistakes_are_the_users(project: Path, tmp_path: Path) -> None:
    refuse("report", tmp_path, where=str(tmp_path), problem="no compiled project")
    (tmp_path / "file").write_text("")
    refuse("report", project, "-o", tmp_path / "file", where=str(tmp_path / "file"), problem="cannot be written")
    old = tmp_path / "old"
    shutil.copytree(project, old)
    manifest = json.loads((old / "manifest.json").read_text())
    del manifest["files"]["reference/facts.json"]
    (old / "manifest.json").write_text(json.dumps(manifest))
    for content, problem in (("{", "is damaged"), ("{}", "is damaged"), ("[]", "is damaged")):
        (old / "reference" / "facts.json").write_text(content)
        refuse("report", old, where="facts.json", problem=problem, fix="compile the model again")
    (old / "reference" / "facts.json").unlink()
    refuse("report", old, where=str(old), problem="there is no reference/facts.json")


def test_overlaps_and_streams(project: Path, tmp_path: Path) -> None:
    """Bytes that two buffers share are in use once; layers that run row by row are marked."""
    changed = tmp_path / "changed"
    shutil.copytree(project, changed)
    manifest = json.loads((changed / "manifest.json").read_text())
    del manifest["files"]["reference/facts.json"]
    (changed / "manifest.json").write_text(json.dumps(manifest))
    path = changed / "reference" / "facts.json"
    facts = json.loads(path.read_text())
    places = [(0, 64, 0, 1), (40, 16, 1, 2), (60, 16, 1, 1), (100, 4, 1, 1)]
    keys = ("offset", "size", "first", "last")
    facts["buffers"] = [{"tensor": f"t{i}", **dict(zip(keys, place, strict=True))} for i, place in enumerate(places)]
    facts["streams"] = [{"first": "fc1", "last": "fc2", "rings_bytes": 20}]
    path.write_text(json.dumps(facts))
    shown = succeed("report", changed, "--json").json
    assert [layer["live_bytes"] for layer in shown["layers"]] == [64, 80, 16]
    assert [layer["row_by_row"] for layer in shown["layers"]] == [False, True, True]
    text = (changed / "report.html").read_text()
    assert text.count("row by row</div>") == 2
    assert "layers run row by row" in text


def test_browser_shows_the_page(chromium: str, project: Path, tmp_path: Path) -> None:
    succeed("report", project, "-o", tmp_path)
    frames = measure(chromium, (tmp_path / "report.html").read_text(), tmp_path, 1280, 400)
    for frame in frames:
        assert frame["title"] == "four_view_64_16_10 on hifive1"
        assert frame["scroll"] <= frame["width"]
        assert frame["wide"] == []
        assert frame["small"] == 0
        assert frame["scripts"] == 0
        for text in ("Budget", "Graph", "Memory over time", "Layers", "Weights", "Build"):
            assert text in frame["text"]
        for text in (
            "four_view",
            "fc1",
            "fc2",
            "1 \u00d7 28 \u00d7 28",
            "dlq4",
            "int8",
            "loses most",
            "exact",
            "12,582,912",
        ):
            assert text in frame["text"]


@pytest.mark.parametrize(("width", "scheme"), [(1280, 1), (1280, 0), (500, 1)])
def test_screenshot_is_not_blank(chromium: str, width: int, scheme: int, project: Path, tmp_path: Path) -> None:
    succeed("report", project, "-o", tmp_path)
    shot = tmp_path / "shot.png"
    # Blink's PreferredColorScheme: 0 dark, 1 light.
    options = (f"--window-size={width},1600", f"--blink-settings=preferredColorScheme={scheme}")
    browse(chromium, tmp_path / "report.html", f"--screenshot={shot}", *options)
    found_width, height, image = pixels(shot)
    assert (found_width, height) == (width, 1600)
    brightness = image.mean(axis=2)
    assert (brightness.mean() > 200) == (scheme == 1)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 30
    # Ink in every quarter of the page's height.
    for quarter in np.split(brightness, 4):
        assert np.ptp(quarter) > 100


def test_hostile_names_stay_text(chromium: str, hostile: Path, tmp_path: Path) -> None:
    facts = succeed("report", hostile, "-o", tmp_path, "--json").json
    assert all("{{ 7 * 7 }}" in layer["name"] for layer in facts["layers"])
    # The front-end has made names printable; the page does not rely on it.
    for layer in facts["layers"]:
        layer["name"] = HOSTILE
    facts["arena"]["buffers"][0] |= {"tensor": HOSTILE, "name": HOSTILE}
    facts["arena"]["peak_layer"] = facts["compiler"] = HOSTILE
    facts["file"] = facts["board"]["name"] = facts["board"]["description"] = facts["options"]["weights"] = HOSTILE
    facts["accuracy"]["loses_most"] = [HOSTILE]
    text = render_page(facts)
    assert "<script" not in text
    assert "\u202e" not in text
    assert "{{ 7 * 7 }}" in text
    for frame in measure(chromium, text, tmp_path, 1280, 400):
        assert frame["scripts"] == 0
        assert frame["wide"] == []
        assert '<script>alert("x")' in frame["text"]
        assert "\\u202e" in frame["text"]


def test_residual_branch_is_drawn(hostile: Path, tmp_path: Path) -> None:
    facts = succeed("report", hostile, "-o", tmp_path, "--json").json
    assert [layer["inputs"] for layer in facts["layers"]] == [[-1], [0], [1], [2, 0]]
    text = (tmp_path / "report.html").read_text()
    assert text.count('<path class="branch"') == 1
    assert text.count("<path d=") == 4
    assert "reads 3 and 1" in text


def deep(layers: int) -> Iterator[dict[str, Any]]:
    """Yield the layers of an imagined network in which every layer also reads one that is far away."""
    for i in range(layers):
        yield {
            "inputs": sorted({i - 1, max(i - 20, -1)}),
            "name": f"layer{i}" * 20,
            "op": "add",
            "kernel": "plain",
            "output_shape": [1, 2, 3],
            "output_format": "uint8 x 1",
            "flash_bytes": 10**9 * i,
            "live_bytes": i,
            "row_by_row": i % 2 == 0,
            "instructions": 10**11,
            "sqnr_db": None,
            "own_sqnr_db": 30.0,
            "range": [-1e-30, 1e30],
            "weight_statistics": [],
        }


def test_large_networks_stay_in_their_place(chromium: str, project: Path, tmp_path: Path) -> None:
    facts = succeed("report", project, "-o", tmp_path, "--json").json
    layers = list(deep(120))
    buffers = [
        {
            "tensor": "t",
            "name": "t" * 300,
            "offset": 4 * (i % 7),
            "size": 4,
            "layer": i,
            "first": i,
            "last": min(i + 6, 119),
        }
        for i in range(120)
    ]
    large = facts | {"layers": layers, "arena": facts["arena"] | {"buffers": buffers, "bytes": 28}}
    for frame in measure(chromium, render_page(large), tmp_path, 1280, 400):
        assert frame["wide"] == []
        assert frame["scroll"] <= frame["width"]


def test_network_without_buffers(tmp_path: Path) -> None:
    onnx.save(make_model([node("Relu", "x")], (1, 8)), tmp_path / "relu.onnx")
    succeed(tmp_path / "relu.onnx", "-o", tmp_path / "project")
    succeed("report", tmp_path / "project")
    text = (tmp_path / "project" / "report.html").read_text()
    assert "there is no arena" in text
    assert "No samples were given" in text
