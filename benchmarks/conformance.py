"""The ONNX project's own node tests: which of them compile, and whether they are right.

    python benchmarks/conformance.py

A node test is a model of one operator, its inputs and the outputs it must give. It gives every operand as an
input; here the first one that can be stays the model's input, all others become constants. A test passes if, for
every one of its outputs,

  * the float execution of the imported model equals the expected output, up to FLOAT_TOLERANCE of its largest value
    (float16 and outputs that the test gives with four decimals: up to one unit of theirs);
  * the model compiles for the host with int8 weights and activations, calibrated on samples around the test's input;
  * the C program equals the integer reference in every layer, for the samples and for random codes;
  * the dequantized result differs from the float execution, root mean square, by at most ERROR_BOUND of its range or
    one step of its format, whichever is more; of indices and truth values (0 and 1) at most WRONG_BOUND differ.

Writes benchmarks/results/conformance.json: what passed, and the others grouped by reason. "outside" is no static,
small network on real numbers, "refused" is not covered, "inaccurate" is right in float but beyond 8 bits, "wrong"
must stay empty. With --check nothing is written; exits 1 if a test that the file lists as passed does not pass.
"""

import json
import os
import re
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from mcucompile.driver import Compiled, compile_model
from mcucompile.errors import UserError
from mcucompile.frontends.onnx import graph_from_model
from mcucompile.ir import Array, Format
from mcucompile.ops import ArgMax
from mcucompile.project import load_project
from mcucompile.targets.host import open_host
from mcucompile.verify import verify_devices
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

RESULT = Path(__file__).resolve().parent / "results" / "conformance.json"
# Fewer means that the loader, not the compiler, changed.
MINIMUM_FOUND = 1000
FLOAT_TOLERANCE = 1e-5
# float16 tests are computed in float32 here; their expected outputs have 11 bits.
HALF_TOLERANCE = 2e-3
# Some tests write their expected outputs with this many decimals.
DECIMALS = 4
ERROR_BOUND = 0.05
# Of an index or a truth value: the share that differs, since quantization makes ties.
WRONG_BOUND = 0.1
# Larger tests take long and show nothing that smaller ones do not.
MAXIMUM_VALUES = 1 << 16
SAMPLES = 24
RANDOM_INPUTS = 8
PASSED = "passed"
# The first of the nodes that an UnsupportedError lists: its type and the reason.
_REFUSED_NODE = re.compile(r"cannot be compiled: '[^']*' \((\w+)\): ([^;]*)")
_PARTICULAR = re.compile(r"'[^']*'|[(\[][-\d, ]*[)\]]|-?\d+")
_SEED = 20240501


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one test.

    Attributes:
        name: of the test.
        operators: of its model.
        reason: PASSED, or why it does not count.
        error: the largest share of the range that a dequantized output is off, root mean square.
        layers: of the compiled models.
    """

    name: str
    operators: tuple[str, ...]
    reason: str
    error: float = 0.0
    layers: int = 0

    @property
    def passed(self) -> bool:
        """Whether the test counts."""
        return self.reason == PASSED


class _OutsideError(Exception):
    """The test is not one of a static, small network on real numbers; the message says why."""


class _WrongError(Exception):
    """The test compiles and is wrong; the message says where."""


class _InaccurateError(Exception):
    """The test compiles, is right in float and exact in C, but eight bits are too few; the message says for what."""


@cache
def cases() -> dict[str, TestCase]:
    """Return the node tests by name; exit if the loader finds too few."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {case.name: case for case in load_model_tests(kind="node")}
    if len(found) < MINIMUM_FOUND:
        raise SystemExit(f"the onnx package has {len(found)} node tests, at least {MINIMUM_FOUND} are expected")
    return found


def compile_and_verify(path: Path, samples: Array) -> Compiled:
    """Compile a model for the host and compare every layer of the C program with the reference."""
    project = path.parent / "project"
    compiled = compile_model(path, target="host", samples=samples, output=project)
    _verify(project, samples)
    return compiled


def run(name: str, compile_one: Callable[[Path, Array], Compiled] = compile_and_verify) -> Outcome:
    """Try one test; `compile_one` is given a model's file and samples."""
    case = cases()[name]
    operators = () if case.model is None else tuple(sorted({n.op_type for n in case.model.graph.node}))
    try:
        models = _models(case)
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tried = [_try(Path(scratch) / f"{name}_{i}", *model, compile_one) for i, model in enumerate(models)]
    except _OutsideError as outside:
        return Outcome(name, operators, f"outside: {outside}")
    except _WrongError as wrong:
        return Outcome(name, operators, f"wrong: {wrong}")
    except _InaccurateError as inaccurate:
        return Outcome(name, operators, f"inaccurate: {inaccurate}")
    except UserError as refusal:
        return Outcome(name, operators, f"refused: {_general(refusal)}")
    return Outcome(name, operators, PASSED, max(error for error, _ in tried), sum(layers for _, layers in tried))


def _models(case: TestCase) -> list[tuple[onnx.ModelProto, Array, Array]]:
    """Return for each output a model of it and one input, that input and the expected output.

    Raises:
        _OutsideError: the test has nothing that could be the input, or values that are no tensors of numbers.
        UserError: whichever input is chosen, the model is refused; the error is that of the first choice.
    """
    if case.model is None or not case.data_sets:
        raise _OutsideError("no model or no data")
    inputs, outputs = (_arrays(values) for values in case.data_sets[0])
    if sum(values.size for values in (*inputs, *outputs)) > MAXIMUM_VALUES:
        raise _OutsideError(f"more than {MAXIMUM_VALUES:,} values")
    if not all(values.size for values in outputs):
        raise _OutsideError("an empty output")
    if not all(np.isfinite(values).all() for values in (*inputs, *outputs)):
        raise _OutsideError("values that are not finite")
    usable = [
        index for index, values in enumerate(inputs)
        if values.size and (values.dtype.kind == "f" or values.dtype.itemsize == 1) and values.dtype != bool
    ]  # fmt: skip
    if len(case.model.graph.input) != len(inputs) or not usable:
        raise _OutsideError("no input of real numbers or bytes")
    return [
        _with_some_input(case.model, inputs, usable, declared.name, output)
        for declared, output in zip(case.model.graph.output, outputs, strict=True)
    ]


def _arrays(values: Sequence[Any]) -> list[Array]:
    """Return a test's values as arrays; numpy's scalars and the smaller types are stored otherwise."""
    arrays = [numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else x for x in values]
    if not all(isinstance(x, np.ndarray | np.generic) and x.dtype.kind in "fiub" for x in arrays):
        raise _OutsideError("sequences, optional values, strings or types that numpy lacks")
    return [np.asarray(x) for x in arrays]


def _with_some_input(
    model: onnx.ModelProto, inputs: Sequence[Array], usable: Sequence[int], output: str, expected: Array
) -> tuple[onnx.ModelProto, Array, Array]:
    """Return the model of one output with the first input that it compiles with, that input and the output."""
    first: UserError | None = None
    for index in usable:
        single = _with_one_input(model, inputs, index, output)
        try:
            graph_from_model(single)
        except UserError as error:
            first = first or error
            continue
        return single, inputs[index], expected
    raise first or _OutsideError("no input")


def _with_one_input(model: onnx.ModelProto, inputs: Sequence[Array], index: int, output: str) -> onnx.ModelProto:
    single = onnx.ModelProto()
    single.CopyFrom(model)
    names = [value.name for value in model.graph.input]
    others = [numpy_helper.from_array(x, names[i]) for i, x in enumerate(inputs) if i != index]
    single.graph.initializer.extend(others)
    kept = [value for value in model.graph.output if value.name == output]
    del single.graph.output[:]
    single.graph.output.extend(kept)
    return single


def _try(
    directory: Path,
    model: onnx.ModelProto,
    given: Array,
    expected: Array,
    compile_one: Callable[[Path, Array], Compiled],
) -> tuple[float, int]:
    """Compile a model, compare it in float and in integers; return its error and its layers."""
    graph = graph_from_model(model)
    source, result = graph.input.format, graph.result.format
    (actual,) = graph.run(given[None] if source is None else source.dequantize(given[None]))
    actual = actual if result is None or expected.dtype.kind == "f" else result.quantize(actual)
    if actual.shape != expected.shape:
        raise _WrongError(f"float execution has the shape {actual.shape}, not {expected.shape}")
    tolerance = HALF_TOLERANCE if np.float16 in (given.dtype, expected.dtype) else FLOAT_TOLERANCE
    margin = tolerance * max(float(np.abs(expected).max()), 1e-30)
    if expected.dtype.kind == "f" and np.allclose(expected, np.round(expected, DECIMALS), rtol=1e-6, atol=0):
        margin = max(margin, 10.0**-DECIMALS)
    if not np.allclose(actual, expected, rtol=tolerance, atol=margin):
        raise _WrongError("float execution differs")
    directory.mkdir()
    path = directory / f"{directory.name}.onnx"
    onnx.save(model, path)
    samples = _samples(given)
    compiled = compile_one(path, samples)
    if expected.dtype == bool or isinstance(compiled.graph.producer(compiled.graph.result.name), ArgMax):
        return _share_wrong(compiled, samples), len(compiled.layers)
    return _error(compiled, samples), len(compiled.layers)


def _samples(given: Array) -> Array:
    """Return the test's input and others like it: its values at their places and at others, up to 30 % smaller."""
    random = np.random.default_rng(_SEED)
    samples = [given]
    for i in range(SAMPLES - 1):
        values = given if i % 2 else random.permutation(given.reshape(-1)).reshape(given.shape)
        shrunk = values * random.uniform(0.7, 1.0, given.shape)
        samples.append(shrunk.astype(np.float32) if given.dtype.kind == "f" else shrunk.astype(given.dtype))
    return np.stack(samples).astype(np.float32 if given.dtype.kind == "f" else given.dtype)


def _share_wrong(compiled: Compiled, samples: Array) -> float:
    """Return the share of indices or truth values that are not those of the float execution, or refuse it."""
    found, exact = _results(compiled, samples)
    wrong = float(np.mean(np.round(found) != exact))
    if wrong > WRONG_BOUND:
        raise _InaccurateError(f"more than {100 * WRONG_BOUND:.0f} % of the indices or truth values differ")
    return wrong


def _error(compiled: Compiled, samples: Array) -> float:
    """Return how far the dequantized results are from the float execution, or say that it is too far."""
    found, exact = _results(compiled, samples)
    error = float(np.sqrt(np.mean(np.square(found - exact))))
    extent = float(exact.max() - exact.min())
    if error > max(ERROR_BOUND * extent, compiled.graph.result.stored.scale):
        raise _InaccurateError(f"off by more than {100 * ERROR_BOUND:.0f} % of the range")
    return error / extent if extent else 0.0


def _results(compiled: Compiled, samples: Array) -> tuple[Array, Array]:
    """Return the dequantized results of the integer reference and those of the float execution."""
    source, result = compiled.graph.input.stored, compiled.graph.result
    codes = samples.astype(np.int64) if samples.dtype.kind in "iu" else source.quantize(samples)
    found = result.stored.dequantize(compiled.graph.run(codes))
    # A model that gives its formats is compared from what its input's codes mean.
    reals = samples if compiled.real.input.format is None else source.dequantize(codes)
    return found, compiled.real.run(reals.astype(np.float32)).astype(np.float64)


def _verify(directory: Path, samples: Array) -> None:
    """Compare every layer of the C program with the reference."""
    project = load_project(directory)
    source: Format = project.graph.input.stored
    random = np.random.default_rng(_SEED)
    codes = samples.astype(np.int64) if samples.dtype.kind in "iu" else source.quantize(samples)
    any_codes = random.integers(source.minimum, source.maximum + 1, (RANDOM_INPUTS, *project.graph.input.shape))
    inputs = np.concatenate([codes, any_codes])
    host = ("host", lambda: open_host(project.elf))
    checked = verify_devices(project.graph, inputs, [host], model_hash=project.digest)
    if not checked.ok:
        raise _WrongError("C differs from the reference")


def _general(error: UserError) -> str:
    """Return the first reason of an error without what is particular to a test: names and numbers."""
    found = _REFUSED_NODE.search(error.problem)
    text = f"{found[1]} {found[2]}" if found else error.problem
    return _PARTICULAR.sub("...", text)


def run_all(names: Sequence[str], workers: int) -> Iterator[Outcome]:
    """Try tests in parallel, in order."""
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(run, names, chunksize=8)


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the published results."""
    passed = [outcome for outcome in outcomes if outcome.passed]
    counts = Counter(outcome.reason.split(":")[0] for outcome in outcomes)
    operators = sorted({operator for outcome in passed for operator in outcome.operators})
    errors = sorted(outcome.error for outcome in passed) or [0.0]
    return {
        "onnx": onnx.__version__,
        "found": len(outcomes),
        "passed": len(passed),
        "wrong": counts["wrong"],
        "inaccurate": counts["inaccurate"],
        "refused": counts["refused"],
        "outside": counts["outside"],
        "layers": sum(outcome.layers for outcome in passed),
        "operators": operators,
        "median_error": round(errors[len(errors) // 2], 5),
        "largest_error": round(errors[-1], 5),
        "tests": [outcome.name for outcome in passed],
        "not_covered": {
            kind: dict(sorted(_grouped(outcomes, kind).items(), key=lambda item: (-len(item[1]), item[0])))
            for kind in ("wrong", "inaccurate", "refused", "outside")
        },
    }


def _grouped(outcomes: Sequence[Outcome], kind: str) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.reason.startswith(f"{kind}: "):
            groups.setdefault(outcome.reason.removeprefix(f"{kind}: "), []).append(outcome.name)
    return groups


@click.command(help=__doc__)
@click.option("--check", is_flag=True, help="Compare with the stored results instead of writing them.")
@click.option("--workers", default=os.cpu_count() or 1, show_default=True)
@click.option("--only", default="", help="Only tests with this in their name; writes nothing.")
def main(check: bool, workers: int, only: str) -> None:
    """Try every node test."""
    names = [name for name in cases() if only in name]
    outcomes = list(run_all(names, workers))
    for outcome in outcomes:
        if only or outcome.reason.startswith(("wrong", "inaccurate")):
            print(f"{outcome.name}: {outcome.reason} ({', '.join(outcome.operators)}) {outcome.error:.4f}")
    results = summary(outcomes)
    print(f"{results['passed']} of {results['found']} node tests pass")
    if results["wrong"]:
        raise SystemExit(f"{results['wrong']} are wrong")
    if only:
        return
    if check:
        stored = json.loads(RESULT.read_text(encoding="utf-8"))
        lost = sorted(set(stored["tests"]) - set(results["tests"]))
        print(*(f"no longer passes: {name}" for name in lost), sep="\n")
        sys.exit(bool(lost))
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
