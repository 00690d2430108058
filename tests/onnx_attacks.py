"""A small ONNX model with everything in it, and hostile variants of it with what must be said of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from mcucompile.ops.four_view_function import four_view_function
from models_factory import make_model, node
from onnx import AttributeProto, NodeProto, TensorProto, helper


def network() -> onnx.ModelProto:
    """Return a small model with everything in it: functions, external-looking shapes, constants of every form."""
    random = np.random.default_rng(7)
    local = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    twice = helper.make_function("local", "Twice", ["x"], ["y"], [node("Add", "x x")], local)
    flatten = helper.make_node("Flatten", ["t"], ["y"])
    flatten.attribute.append(AttributeProto(name="axis", ref_attr_name="start", type=AttributeProto.INT))
    outer = helper.make_function(
        "local", "Outer", ["x"], ["y"], [node("Twice", "x", "t", domain="local"), flatten], local, ["start"]
    )
    filling = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.5])
    nodes = [
        node("FourView", "x", "v", domain="mcucompile", zone_height=2, zone_width=2, shift=1),
        node("Outer", "v", "f", domain="local", start=1),
        node("ConstantOfShape", "sizes", "filled", value=filling),
        node("Add", "f filled", "g"),
        node("Shape", "g", "shape"),
        node("Reshape", "g shape", "r"),
        node("Gemm", "r w1 b1", "h", transB=1, alpha=0.5),
        node("BatchNormalization", "h s o m s", "n", epsilon=0.01),
        node("Relu", "n", "a"),
        node("Transpose", "a", "p", perm=[1, 0]),
        node("Transpose", "p", "q", perm=[1, 0]),
        node("Unsqueeze", "q one", "u"),
        node("Squeeze", "u one", "z"),
        node("Reshape", "z image", "i"),
        node("Conv", "i w3 b3", "j", pads=[1, 1, 1, 1], strides=[1, 1]),
        node("MaxPool", "j", "e", kernel_shape=[2, 1], strides=[1, 1], pads=[0, 0, 1, 0]),
        node("Flatten", "e", "flat"),
        node("MatMul", "flat w2", "k"),
        helper.make_node("Constant", [], ["c"], value_floats=[0.5, 1.0, -1.0]),
        node("Mul", "k c", "l"),
        node("Dropout", "l", "d"),
        node("Softmax", "d", "y", axis=-1),
    ]
    constants = {
        "sizes": np.array([1, 16]),
        "one": np.array([1]),
        "w1": random.normal(size=(5, 16)).astype(np.float32),
        "b1": random.normal(size=5).astype(np.float32),
        **{name: random.uniform(0.5, 2, 5).astype(np.float32) for name in "som"},
        "image": np.array([1, 1, 1, 5]),
        "w3": random.normal(size=(2, 1, 3, 3)).astype(np.float32),
        "b3": random.normal(size=2).astype(np.float32),
        "w2": random.normal(size=(10, 3)).astype(np.float32),
    }
    functions = [four_view_function(), twice, outer]
    return make_model(
        nodes, ("N", 4, 4), constants, opset=21, element_type=TensorProto.UINT8, functions=functions
    )  # fmt: skip


VALID = network()
VALID_BYTES = VALID.SerializeToString()


def edited(edit: Callable[[onnx.ModelProto], None]) -> bytes:
    """Return the valid model's bytes after an edit."""
    model = onnx.ModelProto()
    model.CopyFrom(VALID)
    edit(model)
    return bytes(model.SerializeToString())


def named(items: Any, name: str) -> Any:
    """Return the node, tensor, function or attribute of a name."""
    return next(item for item in items if item.name == name)


def weight(**fields: Any) -> bytes:
    """Return the model with other fields in its first weight matrix."""

    def edit(model: onnx.ModelProto) -> None:
        tensor = named(model.graph.initializer, "w1")
        for name, value in fields.items():
            tensor.ClearField(name)
            if isinstance(value, list):
                getattr(tensor, name).extend(value)
            else:
                setattr(tensor, name, value)

    return edited(edit)


def external(**entries: str) -> bytes:
    """Return the model with its first weight matrix in another file."""

    def edit(model: onnx.ModelProto) -> None:
        tensor = named(model.graph.initializer, "w1")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)

    return edited(edit)


def input_shape(*sizes: int) -> bytes:
    """Return the model with another input shape."""

    def edit(model: onnx.ModelProto) -> None:
        del model.graph.input[0].type.tensor_type.shape.dim[:]
        for size in sizes:
            model.graph.input[0].type.tensor_type.shape.dim.add(dim_value=size)

    return edited(edit)


def attribute(of: str, name: str, **fields: Any) -> bytes:
    """Return the model with another attribute; without fields, without it."""

    def edit(model: onnx.ModelProto) -> None:
        owner = named(model.graph.node, of)
        kept = [a for a in owner.attribute if a.name != name]
        del owner.attribute[:]
        owner.attribute.extend(kept)
        if fields:
            owner.attribute.append(AttributeProto(name=name, **fields))

    return edited(edit)


def constants_from(nodes: list[NodeProto], **constants: Any) -> bytes:
    """Return a small model whose nodes compute on constants that are made here."""
    arrays = {name: np.array(values) for name, values in constants.items()}
    return bytes(make_model(nodes, (1, 4), arrays).SerializeToString())


def calling_itself() -> bytes:
    """Return a model with two functions that call each other."""

    def edit(model: onnx.ModelProto) -> None:
        call = named(model.functions, "Twice").node.add(op_type="Outer", domain="local")
        call.input.append("x")
        call.output.append("again")

    return edited(edit)


def laughing(levels: int) -> bytes:
    """Return a model of 2 ** levels additions in a few hundred bytes: each function calls the one before twice."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    functions = [helper.make_function("local", "F0", ["x"], ["y"], [node("Add", "x x")], opsets)]
    for i in range(1, levels + 1):
        calls = [node(f"F{i - 1}", "x", "t", domain="local"), node(f"F{i - 1}", "t", domain="local")]
        functions.append(helper.make_function("local", f"F{i}", ["x"], ["y"], calls, opsets))
    last = node(f"F{levels}", "x", domain="local")
    return bytes(make_model([last], (1, 4), functions=functions).SerializeToString())


def nested(depth: int) -> bytes:
    """Return a model with graphs in graphs in graphs, as bytes: protobuf refuses to make it."""
    graph = b""
    # GraphProto.node = 1, NodeProto.attribute = 5, AttributeProto.g = 6, ModelProto.graph = 7; all length-delimited.
    for tags in [(0x32, 0x2A, 0x0A)] * depth + [(0x3A,)]:
        for tag in tags:
            length = len(graph)
            size = bytearray()
            while length > 127:
                size.append(length & 127 | 128)
                length >>= 7
            graph = bytes([tag, *size, length]) + graph
    return VALID_BYTES + graph


def written_twice() -> bytes:
    """Return a model with two nodes of one name that write one tensor."""

    def edit(model: onnx.ModelProto) -> None:
        model.graph.node.add().CopyFrom(named(model.graph.node, "h_node"))

    return edited(edit)


def doubled(what: str) -> bytes:
    """Return a model with an initializer, function, input or output twice."""

    def edit(model: onnx.ModelProto) -> None:
        items = model.functions if what == "functions" else getattr(model.graph, what)
        items.add().CopyFrom(items[0])

    return edited(edit)


FLOATS = AttributeProto.FLOATS
ATTACKS: dict[str, tuple[bytes, str]] = {
    "input_of_2_40": (input_shape(1, 2**40), "has the shape (1, 1099511627776)"),
    "input_of_2_62_squared": (input_shape(2**62, 2**62), "has the shape (4611686018427387904, 46"),
    "negative_input": (input_shape(1, -4, 4), "has the shape (1, -4"),
    "empty_input": (input_shape(1, 0, 4), "has the shape (1, 0"),
    "no_input_shape": (input_shape(), "has no shape"),
    "many_axes": (input_shape(*[1] * 3000), "'v_node' (FourView)"),
    "tensor_of_2_40": (weight(dims=[2**40]), "a model may have 67,108,864 constants"),
    "tensor_of_2_120": (weight(dims=[2**60, 2**60]), "a model may have 67,108,864 constants"),
    "tensor_of_2_40_by_0": (weight(dims=[2**40, 0]), "does not hold the 0 values"),
    "negative_tensor": (weight(dims=[-5, -16]), "has the negative shape (-5, -16)"),
    "long_tensor": (weight(dims=[5, 17]), "does not hold the 85 values of its shape (5, 17)"),
    "short_tensor": (weight(dims=[5, 15]), "does not hold the 75 values of its shape (5, 15)"),
    "odd_raw_data": (weight(raw_data=b"abcde"), "does not hold the 80 values"),
    "no_data": (weight(raw_data=b""), "does not hold the 80 values"),
    "other_data": (weight(raw_data=b"", int64_data=[1] * 80), "does not hold the 80 values"),
    "wrong_type": (weight(data_type=TensorProto.DOUBLE), "does not hold the 80 values"),
    "integer_weights": (weight(data_type=TensorProto.INT32), "mixes real numbers with int32"),
    "unknown_type": (weight(data_type=999), "has no known element type (999)"),
    "strings": (weight(data_type=TensorProto.STRING), "holds string values"),
    "not_finite": (weight(raw_data=np.full(80, np.nan, np.float32).tobytes()), "holds nan at [0, 0]"),
    "external_missing": (external(location="nothing.bin"), "'nothing.bin', which does not exist"),
    "external_no_location": (external(), "points outside of the model's folder ('')"),
    "external_outside": (external(location="../../../../../../etc/passwd"), "points outside of the model's folder"),
    "external_absolute": (external(location="/etc/passwd"), "points outside of the model's folder"),
    "external_folder": (external(location="."), "does not exist beside the model"),
    "external_nul": (external(location="a\0b"), "cannot be read"),
    "external_self": (external(location="model.onnx", offset="8", length="9"), "does not hold the 80 values"),
    "external_offset": (external(location="model.onnx", offset="-5"), "cannot be read"),
    "external_offset_2_80": (external(location="model.onnx", offset=str(2**80)), "cannot be read"),
    "external_offset_text": (external(location="model.onnx", offset="a"), "cannot be read"),
    "attribute_of_other_type": (attribute("h_node", "transB", type=FLOATS, floats=[1.0]), "Mismatched attribute type"),
    "attribute_type_only": (attribute("p_node", "perm", type=AttributeProto.INTS), "Transpose"),
    "attribute_of_no_type": (attribute("p_node", "perm", ints=[1, 0]), "Field 'type' of 'attr' is required"),
    "attribute_missing": (attribute("v_node", "zone_height"), "lacks the integer attribute 'zone_height'"),
    "attribute_huge": (attribute("y_node", "axis", type=AttributeProto.INT, i=2**62), "uses axis 4611686018427387904"),
    "zone_negative": (attribute("v_node", "zone_height", type=AttributeProto.INT, i=-2), "zones of -2x2 pixels"),
    "zone_huge": (attribute("v_node", "zone_height", type=AttributeProto.INT, i=2**62), "cannot divide an image"),
    "shift_huge": (attribute("v_node", "shift", type=AttributeProto.INT, i=2**62), "shift 4611686018427387904"),
    "perm_twice": (attribute("p_node", "perm", type=AttributeProto.INTS, ints=[1, 1]), "use each axis once"),
    "perm_huge": (attribute("p_node", "perm", type=AttributeProto.INTS, ints=[2**62, 0]), "use each axis once"),
    "reference_outside": (
        attribute("p_node", "perm", type=AttributeProto.INTS, ref_attr_name="x"), "from a function, but is in none",
    ),
    "filled_2_40": (
        constants_from([node("ConstantOfShape", "s", "c"), node("Add", "x c")], s=[2**40]), "1.1e+12 constants",
    ),
    "filled_negative": (
        constants_from([node("ConstantOfShape", "s", "c"), node("Add", "x c")], s=[-(2**40)]), "1.1e+12 constants",
    ),
    "expanded_2_40": (
        constants_from([node("Expand", "o s", "c"), node("Add", "x c")], o=[1.0], s=[2**20, 2**20]), "e+12 constants",
    ),
    "range_2_40": (
        constants_from([node("Range", "a b c", "r"), node("Add", "x r")], a=0, b=2**40, c=1), "1.1e+12 constants",
    ),
    "range_without_end": (
        constants_from([node("Range", "a b c", "r"), node("Add", "x r")], a=0, b=9, c=0), "inf constants",
    ),
    "outer_product_2_40": (
        constants_from(
            [node("ConstantOfShape", "s", "c"), node("ConstantOfShape", "t", "d"), node("Mul", "c d", "e"),
             node("Add", "x e")], s=[2**20, 1], t=[1, 2**20],
        ), "e+12 constants",
    ),
    "gathered_2_40": (
        constants_from(
            [node("ConstantOfShape", "s", "c"), node("ConstantOfShape", "s", "d"), node("Cast", "d", "i", to=7),
             node("Gather", "c i", "e"), node("Add", "x e")], s=[2**20],
        ), "e+12 constants",
    ),
    "reshape_overflow": (constants_from([node("Reshape", "x s")], s=[2**62, 2**62, -1]), "cannot give (1, 4)"),
    "reshape_huge": (constants_from([node("Reshape", "x s")], s=[2**62, 16]), ""),
    "unsqueeze_huge": (constants_from([node("Unsqueeze", "x s")], s=[2**62]), "uses axis 4611686018427387904"),
    "unsqueeze_many": (constants_from([node("Unsqueeze", "x s")], s=list(range(100_000))), "no short list"),
    "calls_itself": (calling_itself(), "calls itself"),
    "a_billion_laughs": (laughing(40), "1,099,511,627,776 nodes with its functions inlined"),
    "functions_too_deep": (laughing(60), "more than 50 deep"),
    "nested_graphs": (nested(4000), "is not an ONNX file, or is truncated or damaged"),
    "written_twice": (written_twice(), "writes tensor 'h' a second time"),
    "two_initializers": (doubled("initializer"), "has two initializers"),
    "two_functions": (doubled("functions"), "cannot be inlined"),
    "two_inputs": (doubled("input"), "has 2 inputs"),
    "two_outputs": (doubled("output"), "has 2 outputs"),
    "too_many_nodes": (constants_from([node("Relu", "x", f"y{i}") for i in range(10_001)]), "has 10,001 nodes"),
}  # fmt: skip
