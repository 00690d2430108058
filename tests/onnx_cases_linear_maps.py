"""Uses of the ONNX operators that are constant matrices."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from models_factory import Array, Case, make_model, node

_GRID = np.random.default_rng(4).uniform(-1.3, 1.3, (2, 4, 3, 2)).astype(np.float32)


def _with(
    op_type: str,
    shape: tuple[int, ...],
    constants: Mapping[str, Array],
    oldest: int,
    inputs: str = "",
    newest: int = 1000,
    **attributes: Any,
) -> Case:
    """An operator of an activation and constants, which are its inputs in this order if none is named.

    onnxruntime's fast transform rounds in other places.
    """
    names = inputs or " ".join(["x", *constants])
    return Case(
        lambda opset, _random: make_model([node(op_type, names, **attributes)], shape, constants, opset=opset),
        shape,
        oldest,
        newest,
        tolerance=3e-5,
    )


def _numbers(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


LINEAR_MAP_CASES: dict[str, Case] = {
    "cumsum": _with("CumSum", (3, 5), {"a": np.array(1)}, 11),
    "cumsum_first": _with("CumSum", (3, 5), {"a": np.array(-2)}, 11, reverse=1),
    "cumsum_exclusive": _with("CumSum", (3, 5), {"a": np.array(1)}, 11, exclusive=1),
    "cumsum_exclusive_reverse": _with("CumSum", (3, 5), {"a": np.array(1)}, 11, exclusive=1, reverse=1),
    "dft_real": _with("DFT", (2, 6, 1), {}, 17, newest=19, axis=1),
    "dft_complex": _with("DFT", (1, 5, 2), {}, 20),
    "dft_middle": _with("DFT", (2, 6, 3, 2), {"a": np.array(1)}, 20, "x - a"),
    "dft_one_sided": _with("DFT", (2, 7, 1), {}, 20, onesided=1),
    "dft_inverse": _with("DFT", (1, 5, 2), {}, 20, inverse=1),
    "dft_longer": _with("DFT", (1, 5, 1), {"n": np.array(8)}, 20, "x n"),
    "dft_shorter": _with("DFT", (1, 5, 2), {"n": np.array(3)}, 20, "x n"),
    "stft": _with("STFT", (1, 40, 1), {"s": np.array(8), "n": np.array(16)}, 17, "x s - n"),
    "stft_window": _with(
        "STFT", (2, 40, 1), {"s": np.array(4), "w": np.hanning(12).astype(np.float32)}, 17, "x s w", onesided=0
    ),
    **{
        f"grid_sample_{mode}_{padding}_{corners}": _with(
            "GridSample", (2, 3, 5, 4), {"g": _GRID}, 20, mode=mode, padding_mode=padding, align_corners=corners
        )
        for mode in ("nearest", "linear", "cubic")
        for padding in ("zeros", "border", "reflection")
        for corners in (0, 1)
    },
    "grid_sample_16": _with("GridSample", (2, 3, 5, 4), {"g": _GRID}, 16, newest=19),
    "col2im": _with("Col2Im", (1, 12, 12), {"i": _numbers(4, 5), "b": _numbers(2, 2)}, 18),
    "col2im_all": _with(
        "Col2Im", (2, 6, 8), {"i": _numbers(5, 7), "b": _numbers(3, 2)}, 18,
        strides=[1, 2], pads=[1, 0, 0, 1], dilations=[2, 1],
    ),
}  # fmt: skip
