"""Loads the scripts of benchmarks/, which is no package, for tests of what they measure."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def load_benchmark(name: str) -> ModuleType:
    """Return benchmarks/<name>.py, loaded once, under a name that no other module has."""
    module = f"benchmark_{name}"
    if module not in sys.modules:
        spec = importlib.util.spec_from_file_location(module, BENCHMARKS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[module] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[module])
    return sys.modules[module]
