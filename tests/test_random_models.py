"""Random models: float execution is onnxruntime's, generated C is the integer reference, whatever the layers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from host_model import build_models, plan_model, run_model
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mcucompile.calibrate import calibrate
from mcucompile.encodings import ENCODINGS
from mcucompile.frontends.onnx import load_onnx
from mcucompile.ir import Graph
from mcucompile.passes import simplify
from mcucompile.quantize import Choice, quantize
from models_factory import run_onnxruntime
from random_models import RandomModel, random_models

# Models built by one call of the compiler, to be fast.
_TOGETHER = 5
_CODES = 20


def repeatable(examples: int) -> settings:
    """Return settings for the same examples on every run."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        # A smaller example would take minutes of builds to find.
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for models."""
    return tmp_path_factory.mktemp("random")


def _load(model: RandomModel, folder: Path) -> Graph:
    path = folder / "model.onnx"
    path.write_bytes(model.proto.SerializeToString())
    return load_onnx(path)


@repeatable(200)
@given(model=random_models())
def test_float_execution_equals_onnxruntime(folder: Path, model: RandomModel) -> None:
    graph = _load(model, folder)
    expected = run_onnxruntime(model.proto, model.samples)
    for form in (graph, simplify(graph)):
        found = form.run(model.samples.reshape(-1, *form.input.shape))
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-4, atol=2e-4)


@repeatable(16)
@given(
    models=st.lists(random_models(), min_size=_TOGETHER, max_size=_TOGETHER),
    weights=st.lists(st.sampled_from(sorted(ENCODINGS)), min_size=_TOGETHER, max_size=_TOGETHER),
    bits=st.lists(st.sampled_from((8, 8, 16)), min_size=_TOGETHER, max_size=_TOGETHER),
    has_multiplier=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_generated_c_equals_the_reference(
    tmp_path_factory: pytest.TempPathFactory,
    models: list[RandomModel],
    weights: list[str],
    bits: list[int],
    has_multiplier: bool,
    seed: int,
) -> None:
    directory = tmp_path_factory.mktemp("built")
    random = np.random.default_rng(seed)
    graphs = []
    for model, encoding, wide in zip(models, weights, bits, strict=True):
        real = simplify(_load(model, directory))
        if not real.layers:
            continue
        calibration = calibrate(real, model.samples.reshape(-1, *real.input.shape))
        chosen = Choice(ENCODINGS[encoding], {})
        integers = quantize(real, calibration, chosen, 2, activations=Choice(wide, {}))
        graphs.append(replace(integers, name=f"net{len(graphs)}"))
    program = build_models([plan_model(graph, has_multiplier=has_multiplier) for graph in graphs], directory)
    for number, graph in enumerate(graphs):
        source = graph.input.stored
        codes = random.integers(source.minimum, source.maximum + 1, (_CODES, *graph.input.shape))
        assert np.array_equal(run_model(program, graph, codes, number), graph.run(codes)), number
