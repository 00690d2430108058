"""Builds emitted C with the host's compiler around a loop over standard input, for tests of the model alone."""

import subprocess
from pathlib import Path

import numpy as np
from mcucompile.emit import Model, emit_model, headers
from mcucompile.ir import Array, Graph
from mcucompile.kernels import Core
from mcucompile.plan import choose_streams, plan_arena, select_kernels
from mcucompile.resources import resource_dir

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror")
SANITIZERS = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all")

_MAIN = """#include "model.h"
#include <stdio.h>

static MCU_MODEL_INPUT_TYPE in[MCU_MODEL_INPUT_COUNT];
static MCU_MODEL_OUTPUT_TYPE out[MCU_MODEL_OUTPUT_COUNT];

int main(void)
{
    while (fread(in, sizeof in, 1, stdin) == 1) {
        if (MCU_MODEL_RUN(in, out) != 0) {
            return 1;
        }
        fwrite(out, sizeof out, 1, stdout);
    }
    return 0;
}
"""


def plan_model(graph: Graph, *, has_multiplier: bool, streamed: bool = False) -> Model:
    """Plan an integer graph with a fixed digest; streamed: row by row wherever that saves memory."""
    arena = plan_arena(graph, choose_streams(graph) if streamed else ())
    return Model(graph, select_kernels(graph, Core(has_multiplier)), arena, bytes(range(16)), not has_multiplier)


def build_model(model: Model, directory: Path, *, compiler: str = "gcc", flags: tuple[str, ...] = ("-O2",)) -> Path:
    """Write and compile a model; every warning is an error."""
    for name, text in {**emit_model(model), "src/main.c": _MAIN}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert headers(model)
    program = directory / f"run{''.join(flags).replace('/', '')[:40]}"
    runtime = resource_dir("runtime_c")
    sources = [directory / "src/model.c", directory / "src/main.c"]
    includes = [f"-I{directory / 'include'}", f"-I{runtime}"]
    subprocess.run([compiler, *WARNINGS, *flags, *includes, "-o", program, *sources], check=True, timeout=120)
    return program


def run_model(program: Path, graph: Graph, codes: Array) -> Array:
    """Run input codes (n, *input shape) and return the results (n, *result shape)."""
    source, result = graph.input, graph.result
    done = subprocess.run(
        [program], input=codes.astype(source.stored.dtype).tobytes(), capture_output=True, check=True, timeout=120
    )
    return np.frombuffer(done.stdout, dtype=result.stored.dtype).reshape(len(codes), *result.shape).astype(np.int64)
