"""How the compiler's own time and memory grow with layers and with weights, up to ten million parameters.

    python benchmarks/compile_speed.py

Compiles synthetic networks for the host: analysis with 64 calibration samples and C text, without a C compiler
but for the series "with build". Each network runs in a process of its own, so that its peak memory (compilers
included) is its own. Time is that of the processor, on one core, the shorter of three runs; it depends on the
computer and is stored only as multiples of the first of a series, all from one run. Writes
benchmarks/results/compile_speed.json.
"""

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from mcucompile.driver import Options, analyze_model, compile_model, model_of
from mcucompile.emit import emit_model
from onnx import TensorProto, helper, numpy_helper

RESULTS = Path(__file__).resolve().parent / "results" / "compile_speed.json"
SAMPLES = 64
RUNS = 3
TIME_LIMIT_S = 900
KINDS = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
# (blocks, width): a block is a dense layer, batch normalisation, a rectifier and, each fourth, an addition.
SERIES: Mapping[str, tuple[tuple[int, int], ...]] = {
    "layers": ((25, 64), (50, 64), (100, 64), (200, 64), (400, 64), (800, 64)),
    "weights": ((8, 200), (8, 354), (8, 500), (8, 707), (8, 1000), (8, 1118)),
    "with build": ((8, 64), (8, 125), (8, 250), (8, 500)),
}


def network(blocks: int, width: int) -> onnx.ModelProto:
    """Return a residual network of dense blocks with random weights."""
    random = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    x = "x"
    for i in range(blocks):
        weight = random.normal(0, 1 / math.sqrt(width), (width, width)).astype(np.float32)
        constants.append(numpy_helper.from_array(weight, f"w{i}"))
        for name in ("scale", "bias", "mean", "variance"):
            values = np.abs(random.normal(1, 0.1, width)).astype(np.float32)
            constants.append(numpy_helper.from_array(values, f"{name}{i}"))
        normal = [f"{name}{i}" for name in ("scale", "bias", "mean", "variance")]
        nodes += [
            helper.make_node("MatMul", [x, f"w{i}"], [f"dense{i}"]),
            helper.make_node("BatchNormalization", [f"dense{i}", *normal], [f"normal{i}"]),
            helper.make_node("Relu", [f"normal{i}"], [f"relu{i}"]),
        ]
        x = f"relu{i}"
        if i % 4 == 3:
            nodes.append(helper.make_node("Add", [x, f"relu{i - 2}"], [f"sum{i}"]))
            x = f"sum{i}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, width)) for name in ("x", x)]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def processor_seconds() -> float:
    """Return what this process and those that it ran and that ended have taken."""
    used = [resource.getrusage(kind) for kind in KINDS]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(blocks: int, width: int, *, builds: bool) -> dict[str, Any]:
    """Compile one network in this process and return what it took."""
    samples = np.random.default_rng(1).normal(0, 1, (SAMPLES, width)).astype(np.float32)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "network.onnx"
        onnx.save(network(blocks, width), path)
        start = processor_seconds()
        if builds:
            compiled = compile_model(path, samples=samples, output=Path(directory) / "project")
        else:
            compiled = analyze_model(path, samples=samples)
            emit_model(model_of(compiled, Options()))
        seconds = processor_seconds() - start
    return {
        "layers": len(compiled.layers),
        "parameters": blocks * width * width,
        "seconds": seconds,
        # Linux counts in KiB. The compiler and the C compiler take turns.
        "peak_mebibytes": round(max(resource.getrusage(kind).ru_maxrss for kind in KINDS) / 1024),
    }


def run(blocks: int, width: int, *, builds: bool) -> dict[str, Any]:
    """Measure one network in a process of its own, and return the shorter of several runs."""
    one = ["--one", str(blocks), str(width), *(["--builds"] if builds else [])]
    # Threads that wait for each other would count as work.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    outcomes = []
    for _ in range(RUNS):
        done = subprocess.run(
            [sys.executable, __file__, *one],
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            check=True,
        )
        outcomes.append(json.loads(done.stdout))
    best: dict[str, Any] = min(outcomes, key=lambda outcome: float(outcome["seconds"]))
    return best


def series(name: str) -> dict[str, Any]:
    """Return the points of a series, time as a multiple of the first's, and how it grows with size."""
    size = "layers" if name == "layers" else "parameters"
    points = [run(*case, builds=name == "with build") for case in SERIES[name]]
    first = points[0]
    for point in points:
        point["size_ratio"] = round(point[size] / first[size], 2)
        point["time_ratio"] = round(point["seconds"] / first["seconds"], 2)
    plain = [{key: value for key, value in point.items() if key != "seconds"} for point in points]
    return {"points": plain, "exponent": exponent(plain)}


def exponent(points: list[dict[str, Any]]) -> float:
    """Return e where time grows as size to the power of e: the least-squares slope of the logarithms."""
    sizes, times = (np.log([point[key] for point in points]) for key in ("size_ratio", "time_ratio"))
    return round(float(np.polyfit(sizes, times, 1)[0]), 2)


@click.command(help=__doc__)
@click.option("--one", nargs=2, type=int, help="Measure one network (blocks, width) and print JSON.")
@click.option("--builds", is_flag=True, help="With --one: run the C compiler, too.")
def main(one: tuple[int, int] | None, builds: bool) -> None:
    """Measure and write the results."""
    if one is not None:
        print(json.dumps(measure(*one, builds=builds)))
        return
    results = {}
    for name in SERIES:
        results[name] = series(name)
        print(name, json.dumps(results[name], indent=1), flush=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
