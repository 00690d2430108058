"""The similarities as ONNX nodes: model-local functions of standard operators, run unchanged by any runtime.

Each similarity but dot has two: `AdderConv` (x, w) with the attributes strides, pads, dilations and group
of ONNX's Conv, always written out, for one and two spatial axes; and `AdderLinear` (x, w). A bias is an Add
after the node: (o, 1) or (o, 1, 1) for convolutions, (n_out,) for Linear. What they compute is documented
at `mcucompile.similarities.onnx_bodies.OnnxFace`; inputs and outputs are float32.
"""

import functools
from typing import Literal

import onnx
import onnx.parser

from mcucompile.similarities.adder.onnx_face import FACE as ADDER
from mcucompile.similarities.binary.onnx_face import FACE as BINARY
from mcucompile.similarities.euclid.onnx_face import FACE as EUCLID
from mcucompile.similarities.mfo.onnx_face import FACE as MFO
from mcucompile.similarities.minconv.onnx_face import FACE as MINCONV
from mcucompile.similarities.onnx_bodies import CONV_ATTRIBUTES
from mcucompile.similarities.ternary.onnx_face import FACE as TERNARY
from mcucompile.similarities.trig.onnx_face import FACE as TRIG

DOMAIN = "mcucompile"
VERSION = 1
OPSET = 21
Kind = Literal["Conv", "Linear"]

ONNX_FACES = {
    "adder": ADDER,
    "binary": BINARY,
    "euclid": EUCLID,
    "mfo": MFO,
    "minconv": MINCONV,
    "ternary": TERNARY,
    "trig": TRIG,
}
_OPERATORS: dict[str, tuple[str, Kind]] = {
    f"{name.capitalize()}{kind}": (name, kind) for name in ONNX_FACES for kind in ("Conv", "Linear")
}


def node_type(similarity: str, kind: Kind) -> str:
    """Return the operator of a layer: ("adder", "Conv") -> "AdderConv".

    Raises:
        KeyError: the similarity has no function; dot is an ordinary Conv or Gemm.
    """
    if similarity not in ONNX_FACES:
        raise KeyError(similarity)
    return f"{similarity.capitalize()}{kind}"


def parse_node_type(op_type: str) -> tuple[str, Kind] | None:
    """Return similarity and kind of an operator of domain "mcucompile"; None if it is another one."""
    return _OPERATORS.get(op_type)


@functools.cache
def function_of(op_type: str) -> onnx.FunctionProto:
    """Return the model-local function of an operator, domain "mcucompile", opset 21; treat it as constant.

    Raises:
        KeyError: the operator is none of `node_type`.
    """
    similarity, kind = _OPERATORS[op_type]
    face = ONNX_FACES[similarity]
    body = face.conv if kind == "Conv" else face.linear
    attributes = f"<{', '.join(CONV_ATTRIBUTES)}>" if kind == "Conv" else ""
    return onnx.parser.parse_function(
        f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>\n{op_type} {attributes} (x, w) => (y)\n{{{body}}}'
    )
