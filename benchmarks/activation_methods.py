"""A function of one activation on the HiFive1: flash and instructions of a table and of CORDIC.

    python benchmarks/activation_methods.py

Writes benchmarks/results/activation_methods.json. Scales of 64 values with a function after each but the last; flash
is that of the whole firmware, start-up and link included; instructions are those of the functions alone.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from mcucompile.bench import bench_project
from mcucompile.driver import compile_model
from mcucompile.project import load_project
from mcucompile.reference import load_samples
from mnist_data import RESULTS
from onnx import TensorProto, helper, numpy_helper

BOARD = "hifive1"
VALUES = 64
# Functions of one model share CORDIC's code.
MODELS = (("Sigmoid",), ("Tanh",), ("Exp",), ("Sin",), ("Sigmoid", "Tanh", "Exp"))


def save_model(path: Path, functions: tuple[str, ...]) -> None:
    """Save a model of 64 values: scales, and functions between them."""
    nodes, x = [helper.make_node("Mul", ["x", "scales"], ["scaled"], name="scale")], "scaled"
    for function in functions:
        nodes.append(helper.make_node(function, [x], [function], name=function))
        nodes.append(helper.make_node("Mul", [function, "scales"], [f"{function}_scaled"], name=f"{function}_scale"))
        x = f"{function}_scaled"
    scales = np.linspace(0.5, 2.0, VALUES, dtype=np.float32)[None]
    graph = helper.make_graph(
        nodes,
        "functions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, VALUES))],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(scales, "scales")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)


def measure(directory: Path, functions: tuple[str, ...], activations: str, method: str) -> dict[str, Any]:
    """Compile and count one model."""
    path = directory / "model.onnx"
    save_model(path, functions)
    samples = np.random.default_rng(0).normal(0, 1, (64, 1, VALUES)).astype(np.float32)
    compiled = compile_model(
        path,
        target=BOARD,
        samples=samples,
        output=directory / "project",
        activations=activations,
        activation_method=method,
        no_multiply=True,
    )
    project = load_project(directory / "project")
    counted = bench_project(project, "unicorn", load_samples(project.directory))
    own = sum(layer.instructions for layer in counted.layers if layer.name in functions)
    return {
        "functions": functions,
        "activations": activations,
        "method": method,
        "flash_bytes": compiled.budget.flash_bytes,
        "instructions_per_value": own / VALUES / len(functions),
    }


@click.command(help=__doc__)
def main() -> None:
    """Measure and write the results."""
    results: dict[str, Any] = {"board": BOARD, "runs": []}
    with tempfile.TemporaryDirectory() as scratch:
        for functions in MODELS:
            for activations in ("int8", "int16"):
                for method in ("table", "cordic"):
                    results["runs"].append(measure(Path(scratch), functions, activations, method))
                    print(results["runs"][-1], flush=True)
    (RESULTS / "activation_methods.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
