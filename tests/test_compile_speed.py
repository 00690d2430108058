"""The benchmark of the compiler's own speed: it measures what it says, and its stored curve is a straight line."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "compile_speed.py"
spec = importlib.util.spec_from_file_location("compile_speed", SCRIPT)
assert spec is not None
assert spec.loader is not None
compile_speed = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compile_speed)


def test_network_is_valid_and_as_large_as_it_says() -> None:
    model = compile_speed.network(4, 6)
    onnx.checker.check_model(model, full_check=True)
    weights = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name.startswith("w")]
    assert sum(weight.size for weight in weights) == 4 * 6 * 6
    assert [node.op_type for node in model.graph.node].count("Add") == 1


@pytest.mark.parametrize("options", [(), ("--builds",)])
def test_one_measurement(options: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--one", "4", "6", *options], capture_output=True, text=True, timeout=120, check=True
    )
    point = json.loads(done.stdout)
    assert (point["layers"], point["parameters"]) == (5, 144)
    assert point["seconds"] > 0
    assert 20 < point["peak_mebibytes"] < 1000


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_exponent(power: float) -> None:
    points = [{"size_ratio": size, "time_ratio": 3 * size**power} for size in np.array([1.0, 2.0, 7.0, 30.0])]
    assert compile_speed.exponent(points) == pytest.approx(power, abs=0.01)


def test_stored_curve_is_linear_up_to_ten_million_parameters() -> None:
    results = json.loads(compile_speed.RESULTS.read_text(encoding="utf-8"))
    assert results.keys() == compile_speed.SERIES.keys()
    for name, series in results.items():
        assert len(series["points"]) == len(compile_speed.SERIES[name])
        assert series["exponent"] == compile_speed.exponent(series["points"])
        assert series["exponent"] < 1.1, name
        assert all(point["peak_mebibytes"] < 1024 for point in series["points"])
    assert results["weights"]["points"][-1]["parameters"] > 9_990_000
