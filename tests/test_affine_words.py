"""Scales of four bytes at a time: every code on an emulated Cortex-M4 and on the host, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from firmware_builds import require_emulator, require_toolchain
from host_model import SANITIZERS, build_model, run_model
from mcucompile.ir import Format, Graph, Tensor, build_graph
from mcucompile.kernels import Core, Layer
from mcucompile.kernels.affine_words import AFFINE_WORDS
from mcucompile.numerics import Requantization
from mcucompile.ops import IntegerAffine
from mcucompile.plan import layers_of
from tile_firmware import build_tiles, check_layers, large_board
from tile_models import ELEMENTS, SOURCE, tile_model

BOARD = large_board("nucleo-f401re")
BYTES = Format(8, False)
# Sign, multiplier, offset without the rounding half, shift; each takes 0..255 to 0..255 again.
SCALES = ((1, 255, 0, 9), (1, 255, 200, 8), (-1, 127, 32385, 7), (1, 1, 0, 0), (0, 1, 4000, 5), (1, 3, 60000, 8))


def affine(name: str, x: str, y: str, sign: int, *numbers: int) -> IntegerAffine:
    """Return one factor for all values."""
    multiplier, offset, shift = (np.array([number]) for number in numbers)
    requantize = Requantization(multiplier, offset, shift, 0, 255)
    fields = {"name": name, "inputs": (x,), "output": y, "source": SOURCE, "axis": 1}
    return IntegerAffine(sign=np.array([sign]), requantize=requantize, **fields)  # type: ignore[arg-type]


def model_of(count: int) -> Graph:
    """Return all scales, each of the one before; the last of ELEMENTS values is left over by words."""
    ops = tuple(affine(f"scale_{i}", f"t{i}", f"t{i + 1}", *numbers) for i, numbers in enumerate(SCALES))
    graph = build_graph("net", (Tensor("t0", (1, count)),), (ops[-1].output,), ops, SOURCE)
    return graph.replaced(tensors={name: replace(tensor, format=BYTES) for name, tensor in graph.tensors.items()})


@pytest.mark.parametrize("count", [1, 3, 4, 7, 259])
def test_words_on_the_host(count: int, tmp_path: Path) -> None:
    graph = model_of(count)
    model = tile_model(graph, kernels=type(AFFINE_WORDS))
    program = build_model(model, tmp_path, flags=("-O1", *SANITIZERS))
    codes = (np.arange(256)[:, None] + np.arange(count)) % 256
    assert np.array_equal(run_model(program, graph, codes[:, None]), graph.run(codes[:, None]))


def test_words_on_the_core(tmp_path: Path) -> None:
    require_toolchain(BOARD, "gcc")
    require_emulator(BOARD, "unicorn")
    model = tile_model(model_of(ELEMENTS), kernels=type(AFFINE_WORDS))
    counts = check_layers(model, BOARD, build_tiles(model, BOARD, tmp_path, "gcc", "2"), inputs=2)
    assert counts[0] == pytest.approx(model.layers[0].cost.instructions, rel=0.1)


def test_what_words_refuse() -> None:
    layer = layers_of(model_of(8))[0]
    core = Core(True, "cortex-m4")

    def refusal(changed: Layer, **fields: object) -> str | None:
        assert isinstance(changed.op, IntegerAffine)
        requantize = replace(changed.op.requantize, **fields)  # type: ignore[arg-type]
        return AFFINE_WORDS.refusal(replace(changed, op=replace(changed.op, requantize=requantize)), core)

    assert refusal(layer) is None
    assert AFFINE_WORDS.refusal(layer, Core(True, "cortex-m0")) == "needs a core with DSP instructions"
    assert refusal(replace(layer, formats=(Format(8, True),))) == "needs 8-bit values, the input's without a sign"
    assert refusal(layer, offset=np.array([0, 1])) == "needs one factor and one offset for all values"
    assert refusal(layer, tie_window=1) == "rounds ties up only"
    # 255 * 255 + 255 + half is 65536; one less fits, then a code of 127 is beyond 126.
    assert refusal(layer, offset=np.array([255])) == "needs scaled values of 16 bits that are not negative"
    assert refusal(layer, offset=np.array([254])) is None
    assert refusal(layer, maximum=126) == "does not clamp"
    assert refusal(layer, offset=np.array([-257])) == "needs scaled values of 16 bits that are not negative"
