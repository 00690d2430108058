"""The node tests of the ONNX project that passed when they were last counted pass still."""

import json
from pathlib import Path
from types import ModuleType

import onnx
import pytest
from benchmark_scripts import BENCHMARKS, load_benchmark
from host_model import plan_model
from kernel_models import wrong_on_host
from mcucompile.driver import Compiled, analyze_model
from mcucompile.ir import Array, Graph
from merged_graphs import merged

_STORED = json.loads((BENCHMARKS / "results" / "conformance.json").read_text(encoding="utf-8"))
_SHARDS = 16
# What the README promises; the stored results may only grow.
_PROMISED = 1082


def _conformance() -> ModuleType:
    return load_benchmark("conformance")


def test_as_many_as_promised_and_none_wrong() -> None:
    assert len(_STORED["tests"]) == len(set(_STORED["tests"])) == _STORED["passed"] >= _PROMISED
    assert _STORED["wrong"] == 0
    assert _STORED["found"] >= 1000


def test_the_loader_finds_the_tests() -> None:
    found = set(_conformance().cases())
    assert len(found) >= 1000
    missing = set(_STORED["tests"]) - found
    # Other versions of onnx rename a few.
    assert len(missing) <= (0 if onnx.__version__ == _STORED["onnx"] else 20), sorted(missing)


@pytest.mark.parametrize("shard", range(_SHARDS))
def test_what_passed_passes(shard: int, tmp_path: Path) -> None:
    """The C of all models together is compared; benchmarks/conformance.py builds each as a user does."""
    conformance = _conformance()
    graphs: list[Graph] = []

    def analyze(path: Path, samples: Array) -> Compiled:
        compiled = analyze_model(path, samples=samples)
        graphs.append(compiled.graph)
        return compiled

    # Every other one: benchmarks/conformance.py runs them all.
    names = [name for name in _STORED["tests"][shard :: 2 * _SHARDS] if name in conformance.cases()]
    assert names
    outcomes = [conformance.run(name, analyze) for name in names]
    assert [f"{outcome.name}: {outcome.reason}" for outcome in outcomes if not outcome.passed] == []
    assert len(graphs) >= len(names)
    model = plan_model(merged(graphs), has_multiplier=True, optimize="balanced")
    assert wrong_on_host(model, tmp_path, flags=("-O1",)) == []
