"""Uses of the recurrent ONNX operators."""

from typing import Any

import numpy as np
import onnx
from models_factory import Array, Case, make_model, node
from onnx.helper import make_node

_GATES = {"LSTM": 4, "GRU": 3}


def _recurrent(
    op_type: str, x: tuple[int, int, int], hidden: int, inputs: str, outputs: str, **attributes: Any
) -> Case:
    """A layer as its inputs are named: w, r, b, l (lengths), h, c; - for an absent one."""
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    steps, batch, n_in = x
    count = _GATES[op_type] * hidden
    state = (directions, batch, hidden)
    shapes = {
        "w": (directions, count, n_in), "r": (directions, count, hidden), "b": (directions, 2 * count),
        "h": state, "c": state,
    }  # fmt: skip

    def model(opset: int, random: np.random.Generator) -> onnx.ModelProto:
        constants: dict[str, Array] = {
            name: random.normal(0, 0.6, shape).astype(np.float32) for name, shape in shapes.items() if name in inputs
        }
        if "l" in inputs:
            constants["l"] = np.full(batch, steps, dtype=np.int32)
        names = ["" if name == "-" else name for name in outputs.split()]
        made = make_node(op_type, ["x", *("" if name == "-" else name for name in inputs.split())], names,
                         name="cell", hidden_size=hidden, **attributes)  # fmt: skip
        return make_model([made, node("Identity", "z")], x, constants, opset=opset)

    return Case(model, x)


RECURRENT_CASES: dict[str, Case] = {
    f"{op.lower()}_{name}": _recurrent(op, x, 4, inputs.replace("c", "") if op == "GRU" else inputs, outputs, **given)
    for op in ("LSTM", "GRU")
    for name, x, inputs, outputs, given in (
        ("plain", (6, 1, 3), "w r", "z", {}),
        ("biased", (6, 2, 3), "w r b", "z", {}),
        ("initial", (5, 2, 3), "w r b l h c", "z", {}),
        ("last", (5, 1, 3), "w r b - h c", "- z", {}),
        ("last_reverse", (5, 1, 3), "w r b - h c", "h_unread z", {"direction": "reverse"}),
        ("last_both", (5, 2, 3), "w r b - h c", "- z", {"direction": "bidirectional"}),
        ("reverse", (5, 2, 3), "w r b", "z", {"direction": "reverse"}),
        ("both", (5, 1, 3), "w r b - h c", "z", {"direction": "bidirectional"}),
    )
}
RECURRENT_CASES |= {
    "lstm_cell": _recurrent("LSTM", (5, 2, 3), 4, "w r b - h c", "- - z", direction="bidirectional"),
    "lstm_named_gates": _recurrent("LSTM", (4, 1, 3), 2, "w r", "z", activations=["Sigmoid", "Tanh", "Tanh"]),
    "lstm_no_cell": _recurrent("LSTM", (4, 1, 3), 2, "w r - - h", "z"),
    **{
        f"gru_resets_sum_{direction}": _recurrent(
            "GRU", (5, 2, 3), 4, "w r b - h", "z", linear_before_reset=1, direction=direction
        )
        for direction in ("forward", "reverse", "bidirectional")
    },
}
