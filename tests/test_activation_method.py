"""Functions by CORDIC instead of tables: C equals the reference, CORDIC equals the table to the stated error."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import refuse, succeed
from graphs import GRAPHS, SOURCE
from host_model import SANITIZERS, build_models, plan_model, run_model
from mcucompile.calibrate import calibrate
from mcucompile.encodings import ENCODINGS
from mcucompile.errors import QuantizationError, UserError
from mcucompile.ir import Array, Format, Graph
from mcucompile.lowering import Lowered, Lowering
from mcucompile.ops import CORDIC_FUNCTIONS, IntegerCordic, Lookup, activation_method
from mcucompile.ops.cordic_function import fine_requantization
from mcucompile.ops.formula import Formula, Step, X, applied, evaluate
from mcucompile.passes import check_accumulators, simplify
from mcucompile.quantize import Choice, parse_activation_methods, parse_activations, parse_weights, quantize
from models_factory import make_model, node

_PARTS = 4
STEP = 2.0**-15


def _quantized(name: str, activations: str, *, by_cordic: bool) -> tuple[Graph, Array]:
    random = np.random.default_rng(20240501)
    real = simplify(GRAPHS[name](random))
    shape = (100, *real.input.shape)
    samples = random.integers(0, 256, shape).astype(np.uint8) if real.input.format else random.normal(0, 1, shape)
    calibration = calibrate(real, samples)
    bits = parse_activations(activations, real)
    weights = parse_weights("int8", real)
    integers = quantize(real, calibration, weights, 2, activations=bits, by_cordic=Choice(by_cordic, {}))
    source = integers.input.stored
    codes = random.integers(source.minimum, source.maximum + 1, (40, *real.input.shape))
    ends = [np.full((1, *real.input.shape), code) for code in (source.minimum, source.maximum)]
    return integers, np.concatenate([*ends, calibration.codes[:40], codes])


COVERED = [
    name for name in GRAPHS if "cordic" in map(activation_method, _quantized(name, "int8", by_cordic=True)[0].layers)
]


@pytest.mark.parametrize("part", range(_PARTS))
def test_c_equals_the_reference(part: int, tmp_path: Path) -> None:
    assert len(COVERED) >= 13
    cases = []
    for name in COVERED[part::_PARTS]:
        for activations in ("int8", "int16"):
            integers, codes = _quantized(name, activations, by_cordic=True)
            cases.append((name, replace(integers, name=f"net{len(cases)}"), codes))
    models = [plan_model(integers, has_multiplier=number % 4 > 1) for number, (_, integers, _) in enumerate(cases)]
    program = build_models(models, tmp_path, flags=("-O1", *SANITIZERS))
    for number, (name, integers, codes) in enumerate(cases):
        assert np.array_equal(run_model(program, integers, codes, number), integers.run(codes)), name


def test_the_choice_changes_the_graph_and_nothing_near_it() -> None:
    table, codes = _quantized("lookup_functions", "int8", by_cordic=False)
    computed, _ = _quantized("lookup_functions", "int8", by_cordic=True)
    assert {activation_method(op) for op in table.layers} == {None, "table"}
    assert [op.kind for op in computed.layers].count("cordic") == len(CORDIC_FUNCTIONS) == 5
    assert {name: tensor.format for name, tensor in table.tensors.items()} == {
        name: tensor.format for name, tensor in computed.tensors.items()
    }
    wanted, found = (graph.result.stored.dequantize(graph.run(codes)) for graph in (table, computed))
    assert 0 < np.abs(wanted - found).max() < 0.02


FORMULAS: dict[str, Formula] = {
    **{name: applied(name) for name in CORDIC_FUNCTIONS},
    "exp of minus x": (X, Step("affine", (-1.0, 0.0)), Step("exp")),
    "sigmoid of a x + b": (X, Step("affine", (1.7, -0.3)), Step("sigmoid")),
    "rectified sine": (X, Step("relu"), Step("sin")),
    "tanh clipped": (X, Step("clip", (-0.7, 2.0)), Step("affine", (-0.5, 0.1)), Step("tanh")),
}
SCALES = [1 / 1000, 1 / 256, 0.0123, 1 / 32, 0.05, 0.1]


def _lowered(formula: Formula, source: Format, *, bits: int, is_result: bool, by_cordic: bool) -> Lowered:
    """Lower a function whose samples are all codes of its input."""
    inputs = source.dequantize(np.arange(source.minimum, source.maximum + 1)[None])
    op = Lookup(name="y", inputs=("x",), output="y", source=SOURCE, formula=formula)
    output = evaluate(formula, inputs)
    return op.lower(Lowering((source,), (inputs,), output, is_result, ENCODINGS["int8"], bits, 2, False, by_cordic))


@pytest.mark.parametrize("zero_point", [None, 0, 100])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", FORMULAS)
def test_eight_bits_are_those_of_the_table_or_the_next_ones(name: str, scale: float, zero_point: int | None) -> None:
    source = Format(8, zero_point is None, scale, zero_point or 0)
    codes = np.arange(source.minimum, source.maximum + 1)
    table, computed = (
        _lowered(FORMULAS[name], source, bits=8, is_result=False, by_cordic=by_cordic) for by_cordic in (False, True)
    )
    assert isinstance(computed.op, IntegerCordic) != (
        FORMULAS[name][-1].function in ("sin", "cos") and scale == 0.1 and zero_point == 0
    )
    assert table.format == computed.format
    assert np.abs(table.op.run(codes) - computed.op.run(codes)).max() <= 1
    # Only where a value lies between two codes: 2 of 128 LSB.
    assert np.mean(table.op.run(codes) != computed.op.run(codes)) < 0.03


@pytest.mark.parametrize("is_result", [False, True])
@pytest.mark.parametrize("scale", [scale / 256 for scale in SCALES])
@pytest.mark.parametrize("name", FORMULAS)
def test_sixteen_bits_lie_within_two_steps_of_the_function(name: str, scale: float, is_result: bool) -> None:
    """The argument's rounding and the rotations' error: 2 LSB, 2**-15 of the largest value; the table adds its own.

    Far from 0 the argument of sine and cosine is exact to half an input step only.
    """
    source = Format(16, True, scale)
    codes = np.arange(source.minimum, source.maximum + 1)
    computed = _lowered(FORMULAS[name], source, bits=16, is_result=is_result, by_cordic=True)
    assert isinstance(computed.op, IntegerCordic)
    exact = evaluate(FORMULAS[name], source.dequantize(codes))
    peak = max(1.0, exact.max()) if FORMULAS[name][-1].function == "exp" else 1.0
    error = np.abs(computed.format.dequantize(computed.op.run(codes)) - exact) / (STEP * peak)
    is_wave = FORMULAS[name][-1].function in ("sin", "cos")
    assert error.max() < (2 + 0.5 * scale / STEP if is_wave else 2)
    if name not in ("sigmoid", "tanh", "sigmoid of a x + b"):
        # Straight lines are no match for a kink, many waves, or an exponential of large numbers.
        return
    table = _lowered(FORMULAS[name], source, bits=16, is_result=is_result, by_cordic=False)
    distance = computed.format.dequantize(computed.op.run(codes)) - table.format.dequantize(table.op.run(codes))
    assert np.abs(distance).max() < 2 * STEP * peak + 1.5 * table.format.scale


def test_a_multiplier_is_as_fine_as_it_must_be() -> None:
    for gain, start, at, reach in (
        (1638.4, 0.06, 0.0, 128),
        (0.0077, 0.0, 128.0, 2**15),
        (1.0, 0.0, 0.0, 2**15),
        (0.03, -100.5, 7.0, 2**15),
    ):
        found = fine_requantization(gain, (-reach, reach), (-(2**30), 2**30), start=start, at=at)
        assert found is not None
        acc = np.arange(-reach, reach + 1)
        assert np.abs(found.apply(acc) - (at + (acc - start) * gain)).max() <= 0.5 + 1 / 64
    assert fine_requantization(2.0**20, (-(2**15), 2**15), (-1, 1)) is None
    assert fine_requantization(2.0**-40, (-1, 1), (-1, 1)) is None


def test_what_cordic_does_not_cover_stays_a_table() -> None:
    source = Format(8, True, 0.05)
    for formula in (
        applied("gelu"),
        (X, Step("tanh"), Step("abs")),
        (X, Step("abs"), Step("tanh")),
        (X, X, Step("sigmoid"), Step("multiply")),
        (X, Step("affine", (0.0, 1.0)), Step("exp")),
        (X, Step("affine", (40.0, 0.0)), Step("sin")),
        (X, Step("affine", (1e9, 0.0)), Step("tanh")),
        (X, Step("affine", (1.0, -2000.0)), Step("exp")),
        (X,),
    ):
        lowered = _lowered(formula, source, bits=8, is_result=False, by_cordic=True)
        assert activation_method(lowered.op) == "table", formula


def test_the_proof_sees_the_argument() -> None:
    integers, _ = _quantized("lookup_tanh_result", "int8", by_cordic=True)
    check_accumulators(integers)
    (op,) = (op for op in integers.ops if isinstance(op, IntegerCordic))
    wide = replace(op, argument=replace(op.argument, multiplier=op.argument.multiplier << 8))
    ops = tuple(wide if other is op else other for other in integers.ops)
    with pytest.raises(QuantizationError, match="int32 holds"):
        check_accumulators(integers.replaced(ops=ops, tensors=integers.tensors))


def test_names_of_methods_and_layers() -> None:
    real = simplify(GRAPHS["lookup_functions"](np.random.default_rng(1)))
    assert parse_activation_methods("cordic", real) == Choice(True, {})
    assert parse_activation_methods("sine=cordic,y=cordic", real) == Choice(False, {"sine": True, "y": True})
    with pytest.raises(UserError, match="'taylor' is not an activation method"):
        parse_activation_methods("taylor", real)
    with pytest.raises(UserError, match="no layer with a function is called 'scores'"):
        parse_activation_methods("scores=cordic", real)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with two functions that CORDIC covers and one that it does not."""
    path = tmp_path_factory.mktemp("model") / "functions.onnx"
    weight = np.eye(4, dtype=np.float32)
    nodes = [
        *(node("MatMul", "x w", "p"), node("Tanh", "p", "a"), node("MatMul", "a w", "q"), node("Erf", "q", "b")),
        *(node("MatMul", "b w", "s"), node("Sigmoid", "s", "y")),
    ]
    onnx.save(make_model(nodes, (1, 4), {"w": weight}), path)
    np.save(path.with_name("samples.npy"), np.random.default_rng(1).normal(0, 1, (50, 1, 4)).astype(np.float32))
    return path


def test_the_command_line_says_what_is_computed_how(model: Path, tmp_path: Path) -> None:
    options = ("--samples", model.with_name("samples.npy"), "--target", "hifive1", "--no-multiply")
    digests = []
    for method, expected, kept in (
        ("table", ["table", "table", "table"], []),
        ("cordic", ["cordic", "table", "cordic"], ["b_node"]),
        ("a_node=cordic", ["cordic", "table", "table"], []),
    ):
        output = tmp_path / str(len(digests))
        arguments = (model, *options, "--activation-method", method, "-o", output)
        facts = succeed(*arguments, "--json").json
        assert [layer["activation_method"] for layer in facts["layers"] if "activation_method" in layer] == expected
        assert facts["kept_tables"] == kept
        manifest = json.loads((output / "manifest.json").read_text())
        assert manifest["options"]["activation_method"] == method
        digests.append(manifest["digest"])
        assert succeed("verify", output, "--on", "emulator", "--json").json["mismatches"] == 0
    assert len(set(digests)) == 3
    text = succeed("analyze", model, *options, "--activation-method", "cordic").out
    assert "CORDIC does not cover, and tables compute: b_node" in text


def test_mistakes_are_refused(model: Path, tmp_path: Path) -> None:
    samples = ("--samples", model.with_name("samples.npy"), "-o", tmp_path / "out")
    refuse(
        *(model, *samples, "--activation-method", "taylor"),
        where="--activation-method taylor",
        problem="'taylor' is not an activation method",
        fix="table, cordic",
    )
    refuse(
        *(model, *samples, "--activation-method", "b_node=cordic"),
        where="node 'b_node' (Erf)",
        problem="CORDIC covers sin, cos, exp, sigmoid, tanh",
        fix="b_node=table",
    )
    assert not (tmp_path / "out").exists()
