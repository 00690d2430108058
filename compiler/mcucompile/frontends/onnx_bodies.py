"""Standard operators that ONNX itself defines by others: the nodes that one of them stands for.

Source: the function bodies in the schemas of the onnx package (onnx.defs).
"""

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, helper

from mcucompile.frontends.builder import Activation, Kind, Value

_KIND_TYPES = {
    Kind.REAL: TensorProto.FLOAT,
    Kind.BYTES: TensorProto.UINT8,
    Kind.INDEX: TensorProto.INT64,
    Kind.TRUTH: TensorProto.BOOL,
}


def has_body(op_type: str, opset: int) -> bool:
    """Return whether the specification of a standard operator defines it by others."""
    if not onnx.defs.has(op_type, opset, ""):
        return False
    schema = _schema(op_type, opset)
    return bool(schema.has_function or schema.has_context_dependent_function)


def body_of(node: onnx.NodeProto, opset: int, inputs: Sequence[Value | None]) -> onnx.FunctionProto | None:
    """Return the function that a standard node stands for, None if it is not defined for such inputs.

    Args:
        node: of an operator that `has_body`.
        opset: version of the standard domain.
        inputs: as in the node; None where an optional input is absent.

    Returns:
        The body with the node's attributes put in.
    """
    schema = _schema(node.op_type, opset)
    version = schema.since_version
    if schema.has_function:
        data = schema.get_function_with_opset_version(version)
    else:
        types = [_type_of(value).SerializeToString() for value in inputs]
        data = schema.get_context_dependent_function_with_opset_version(version, node.SerializeToString(), types)
    function = onnx.FunctionProto()
    function.ParseFromString(data)
    if not function.node:
        return None
    given = {name: definition.default_value for name, definition in schema.attributes.items()}
    given |= {attribute.name: attribute for attribute in node.attribute}
    for inner in function.node:
        attributes = [_resolved(attribute, given) for attribute in inner.attribute]
        del inner.attribute[:]
        inner.attribute.extend(attribute for attribute in attributes if attribute is not None)
    return function


def _schema(op_type: str, opset: int) -> Any:
    """Return a schema; the package's type stubs lack what it says of bodies."""
    return onnx.defs.get_schema(op_type, opset, "")


def _type_of(value: Value | None) -> onnx.TypeProto:
    if value is None:
        return onnx.TypeProto()
    if isinstance(value, Activation):
        return helper.make_tensor_type_proto(_KIND_TYPES[value.kind], value.shape)
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def _resolved(attribute: AttributeProto, given: dict[str, AttributeProto]) -> AttributeProto | None:
    """Return an attribute of a body's node with the value that it refers to; None if there is none."""
    if not attribute.ref_attr_name:
        return attribute
    value = given.get(attribute.ref_attr_name)
    if value is None or value.type == AttributeProto.UNDEFINED:
        return None
    named = AttributeProto()
    named.CopyFrom(value)
    named.name = attribute.name
    return named
