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


def plan_model(graph: Graph, *, has_multiplier: bool, streamed: bool = False, optimize: str = "size") -> Model:
    """Plan an integer graph with a fixed digest.

    Args:
        graph: of integers.
        has_multiplier: and the build may use it.
        streamed: row by row wherever that saves memory.
        optimize: as of `select_kernels`: the small kernels are the plain ones, the others have tests of their own.
    """
    arena = plan_arena(graph, choose_streams(graph) if streamed else ())
    planned = select_kernels(graph, Core(has_multiplier), optimize=optimize)
    return Model(graph, planned, arena, bytes(range(16)), not has_multiplier)


def build_model(
    model: Model, directory: Path, *, compiler: str = "gcc", flags: tuple[str, ...] = ("-O2",), main: str = _MAIN
) -> Path:
    """Write and compile a model around a program; every warning is an error."""
    for name, text in {**emit_model(model), "src/main.c": main}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert headers(model)
    program = directory / "run"
    runtime = resource_dir("runtime_c")
    sources = [directory / "src/model.c", directory / "src/main.c"]
    includes = [f"-I{directory / 'include'}", f"-I{runtime}"]
    subprocess.run([compiler, *WARNINGS, *flags, *includes, "-o", program, *sources], check=True, timeout=120)
    return program


def build_models(models: list[Model], directory: Path, *, flags: tuple[str, ...] = ("-O1",)) -> Path:
    """Compile several models with one call; their graphs have different names. The program takes the number of one."""
    names, sources = [], []
    for number, model in enumerate(models):
        folder = directory / f"model_{number}"
        folder.mkdir(parents=True)
        # Beside each other: a quoted include looks there first.
        for name, text in emit_model(model).items():
            (folder / Path(name).name).write_text(text)
        (folder / "loop.c").write_text(
            _MAIN.replace("int main(void)", f"int loop_{number}(void);\nint loop_{number}(void)")
        )
        names.append(f"loop_{number}")
        sources += [folder / "model.c", folder / "loop.c"]
    calls = "".join(f"    case {number}: return {name}();\n" for number, name in enumerate(names))
    (directory / "main.c").write_text(
        "#include <stdlib.h>\n"
        + "".join(f"int {name}(void);\n" for name in names)
        + "int main(int count, char **arguments)\n{\n    switch (count > 1 ? atoi(arguments[1]) : -1) {\n"
        + f"{calls}    default: return 2;\n    }}\n}}\n"
    )
    program = directory / "run"
    command = [
        "gcc",
        *WARNINGS,
        *flags,
        f"-I{resource_dir('runtime_c')}",
        "-o",
        program,
        directory / "main.c",
        *sources,
    ]
    subprocess.run(command, check=True, timeout=120)
    return program


def run_model(program: Path, graph: Graph, codes: Array, number: int | None = None) -> Array:
    """Run input codes (n, *input shape) and return the results (n, *result shape)."""
    source, result = graph.input, graph.result
    command = [program] if number is None else [program, str(number)]
    data = codes.astype(source.stored.dtype).tobytes()
    done = subprocess.run(command, input=data, capture_output=True, check=True, timeout=120)
    return np.frombuffer(done.stdout, dtype=result.stored.dtype).reshape(len(codes), *result.shape).astype(np.int64)


_OBSERVER = """#include "model.h"
#include "mcu_link.h"
#include <stdio.h>

static MCU_MODEL_INPUT_TYPE in[MCU_MODEL_INPUT_COUNT];
static MCU_MODEL_OUTPUT_TYPE out[MCU_MODEL_OUTPUT_COUNT];

void mcu_link_observe_layer(uint32_t layer, const void *data, uint32_t bytes)
{
    (void)layer;
    fwrite(data, bytes, 1, stdout);
}

int main(void)
{
    while (fread(in, sizeof in, 1, stdin) == 1) {
        if (MCU_MODEL_RUN(in, out) != 0) {
            return 1;
        }
    }
    return 0;
}
"""


def build_observed(model: Model, directory: Path, *, flags: tuple[str, ...]) -> Path:
    """Write and compile a model whose program writes every layer's output."""
    return build_model(
        model,
        directory,
        flags=("-DMCU_OBSERVE_LAYERS", f"-I{resource_dir('runtime_c') / 'firmware'}", *flags),
        main=_OBSERVER,
    )


def run_observed(program: Path, graph: Graph, codes: Array) -> list[Array]:
    """Run input codes (n, *input shape) and return the output of every layer, each (n, *shape)."""
    data = codes.astype(graph.input.stored.dtype).tobytes()
    done = subprocess.run([program], input=data, capture_output=True, check=True, timeout=120).stdout
    tensors = [graph.tensors[op.output] for op in graph.layers]
    runs = np.frombuffer(done, np.uint8).reshape(len(codes), sum(tensor.bytes for tensor in tensors))
    outputs, start = [], 0
    for tensor in tensors:
        taken = np.ascontiguousarray(runs[:, start : start + tensor.bytes])
        outputs.append(taken.view(tensor.stored.dtype).reshape(len(codes), *tensor.shape).astype(np.int64))
        start += tensor.bytes
    return outputs
