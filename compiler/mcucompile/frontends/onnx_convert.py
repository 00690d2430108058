"""Turns one ONNX node into a value: checks it, evaluates it if it is constant, converts it otherwise."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, checker, helper, shape_inference

from mcucompile.errors import ModelError
from mcucompile.frontends import onnx_constants
from mcucompile.frontends.builder import MAX_ELEMENTS, Activation, Builder, Constant, Kind, Value
from mcucompile.frontends.dequantized import Dequantized
from mcucompile.frontends.names import first_line, label
from mcucompile.frontends.onnx_bodies import body_of, has_body
from mcucompile.frontends.onnx_node import Node, read_by
from mcucompile.frontends.onnx_ops import CONVERTERS, advice
from mcucompile.frontends.onnx_reader import Budget, TensorReader, canonical_domain
from mcucompile.frontends.refusals import RefusalError
from mcucompile.ir import Source

_Values = Mapping[str, Value | None]
_Outputs = tuple[Value | None, ...]
_PLAIN_ATTRIBUTES = {
    AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.STRING,
    AttributeProto.FLOATS, AttributeProto.INTS, AttributeProto.STRINGS,
}  # fmt: skip
# Their operands all have one element type (T in the operator's specification).
_OF_ONE_TYPE = {"Add", "BatchNormalization", "Div", "Gemm", "MatMul", "Mul", "Sub"}


@dataclass(frozen=True, slots=True)
class NodeReader:
    """Converts nodes one by one.

    Attributes:
        builder: gets the operators.
        tensors: reads the tensors of Constant nodes.
        opsets: version of each domain.
        read: the tensors that something needed reads.
        nodes: how many nodes operators may still be replaced by.
    """

    builder: Builder
    tensors: TensorReader
    opsets: Mapping[str, int]
    read: frozenset[str]
    nodes: Budget

    def convert(self, node: onnx.NodeProto, source: Source, values: _Values) -> _Outputs:
        """Return the node's outputs, none if an input is unknown because an earlier node was refused.

        Args:
            node: what it gives beyond the outputs returned is not read by any node.
            source: its place.
            values: of the tensors before it; None where unknown.

        Raises:
            RefusalError: the node cannot be compiled.
            ModelError: it contradicts itself, or its constants are not finite.
        """
        self._check_known(node, canonical_domain(node.domain))
        attributes = self._attributes(node, source)
        if any(values[name] is None for name in read_by(node)):
            return ()
        self.builder.at(source)
        outputs = self._outputs(node, source, attributes, values)
        named: dict[str, Activation] = {}
        for name, value in zip(node.output, outputs, strict=False):
            if name and isinstance(value, Activation) and value.tensor not in named:
                named[value.tensor] = self.builder.rename(value, label(name))
        return tuple(
            replace(value, tensor=named[value.tensor].tensor)
            if isinstance(value, Activation) and value.tensor in named
            else value
            for value in outputs
        )

    def _outputs(self, node: onnx.NodeProto, source: Source, attributes: dict[str, Any], values: _Values) -> _Outputs:
        """Return the outputs of a node whose inputs are known: constants, evaluated or converted."""
        domain = canonical_domain(node.domain)
        inputs = [values[name] if name else None for name in node.input]
        if domain == "" and node.op_type == "If":
            return self._by_branch(node, source, inputs[0], values)
        if domain == "" and node.op_type == "Constant":
            return (_constant(attributes),)
        if domain == "" and node.op_type == "Transpose" and isinstance(inputs[0], Dequantized):
            return (inputs[0].transpose(attributes.get("perm")),)
        constants = [value for value in inputs if not isinstance(value, Activation)]
        if domain == "" and len(constants) == len(inputs) and onnx_constants.can_evaluate(node.op_type):
            return (onnx_constants.evaluate(node, self.opsets[""], constants, self.tensors.budget),)
        return self._converted(node, source, attributes, inputs)

    def _converted(
        self, node: onnx.NodeProto, source: Source, attributes: dict[str, Any], inputs: Sequence[Value | None]
    ) -> _Outputs:
        """Return the outputs of a node by its converter, else by its definition."""
        domain = canonical_domain(node.domain)
        opset = self.opsets.get(domain, 1)
        if (domain, node.op_type) not in CONVERTERS:
            if domain == "" and has_body(node.op_type, opset):
                return self._by_body(node, source, inputs)
            raise RefusalError("is supported on constants only", advice(node.op_type))
        if domain == "" and node.op_type in _OF_ONE_TYPE:
            _check_one_type(source, inputs)
        view = Node(source, opset, attributes, tuple(inputs), len(node.output))
        converted = CONVERTERS[domain, node.op_type](view, self.builder)
        outputs = converted if isinstance(converted, tuple) else (converted,)
        extra = [name for name in node.output[len(outputs) :] if name in self.read]
        if extra and domain == "" and has_body(node.op_type, opset):
            return self._by_body(node, source, inputs)
        if extra:
            raise RefusalError(f"its further output '{label(extra[0])}' is used", "use only the node's first output")
        return outputs

    def _by_body(self, node: onnx.NodeProto, source: Source, inputs: Sequence[Value | None]) -> _Outputs:
        """Convert the nodes that a standard node stands for; they have the node's place."""
        function = body_of(node, self.opsets[""], inputs)
        if function is None:
            raise RefusalError("is not defined for these inputs", advice(node.op_type))
        results = [inner for inner, name in zip(function.output, node.output, strict=False) if name in self.read]
        opsets = {canonical_domain(entry.domain): entry.version for entry in function.opset_import}
        values = dict.fromkeys(function.input) | dict(zip(function.input, inputs, strict=False))
        inner = replace(self, opsets=opsets)._nested(function.node, source, values, results)
        return tuple(inner.get(name) for name in function.output)

    def _by_branch(self, node: onnx.NodeProto, source: Source, condition: Value | None, scope: _Values) -> _Outputs:
        """Convert the branch of an If that a constant condition chooses; it reads what the If could read."""
        if isinstance(condition, Activation) or condition is None or condition.size != 1:
            raise RefusalError("has a condition that is computed while the model runs", advice("If"))
        name = "then_branch" if condition.reshape(-1)[0] else "else_branch"
        branch = next((attribute.g for attribute in node.attribute if attribute.name == name), onnx.GraphProto())
        constants = {tensor.name: self.tensors.read(tensor, tensor.name) for tensor in branch.initializer}
        outputs = [output.name for output in branch.output]
        results = [inner for inner, name in zip(outputs, node.output, strict=False) if name in self.read]
        values = self._nested(branch.node, source, {**scope, **constants}, results)
        return tuple(values.get(name) for name in outputs)

    def _nested(
        self, nodes: Sequence[onnx.NodeProto], source: Source, scope: _Values, results: Sequence[str]
    ) -> _Values:
        """Convert those of the nodes inside of one that its results need; return all tensors."""
        if not self.nodes.spend(len(nodes)):
            raise RefusalError("stands for too many nodes", "simplify the model")
        needed = _needed(nodes, results)
        reader = replace(self, read=frozenset({*results, *(name for node in needed for name in read_by(node))}))
        values = dict(scope)
        for node in needed:
            try:
                reader._check_known(node, canonical_domain(node.domain))
                unknown = [name for name in read_by(node) if name not in values]
                if unknown:
                    raise ModelError(
                        source, f"reads tensor '{label(unknown[0])}', which nothing writes", "export again"
                    )
                outputs = reader._outputs(node, source, reader._attributes(node, source), values)
            except RefusalError as refusal:
                raise RefusalError(f"its part {label(node.op_type)} {refusal.reason}", refusal.fix) from refusal
            values |= dict(zip(node.output, outputs, strict=False))
        return values

    def placeholder(self, node: onnx.NodeProto, values: _Values) -> Activation | None:
        """Return what a refused node would give, so that the nodes after it are looked at too; None if unknown."""
        types: dict[str, onnx.TypeProto] = {}
        data: dict[str, TensorProto] = {}
        for name in filter(None, node.input):
            value = values[name]
            if isinstance(value, Activation):
                types[name] = helper.make_tensor_type_proto(TensorProto.FLOAT, value.shape)
            elif value is not None:
                data[name] = onnx.numpy_helper.from_array(value, name)
                types[name] = helper.make_tensor_type_proto(data[name].data_type, value.shape)
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opsets[""], canonical_domain(node.domain))
            inferred = shape_inference.infer_node_outputs(schema, node, types, data)
            shape = tuple(n.dim_value for n in inferred[node.output[0]].tensor_type.shape.dim)
        except Exception:
            # A refused node may be anything, and only a fuller error is at stake.
            return None
        is_sane = shape and min(shape) > 0 and math.prod(shape) <= MAX_ELEMENTS
        return Activation(node.output[0], shape) if is_sane else None

    def _check_known(self, node: onnx.NodeProto, domain: str) -> None:
        """Refuse operators that are not in the table, and nodes that their own specification forbids."""
        is_known = (domain, node.op_type) in CONVERTERS or (
            domain == ""
            and (
                node.op_type in ("Constant", "If")
                or onnx_constants.can_evaluate(node.op_type)
                or has_body(node.op_type, self.opsets[""])
            )
        )
        if not is_known:
            reason = "is not supported" if domain == "" else f"of domain '{label(domain)}' is not supported"
            raise RefusalError(reason, advice(node.op_type))
        # The checker does not know what the graphs inside of an If may read.
        if domain != "" or node.op_type == "If":
            return
        context = checker.C.CheckerContext()
        context.ir_version = onnx.IR_VERSION
        context.opset_imports = {"": self.opsets[""]}
        try:
            checker.check_node(node, context)
        except checker.ValidationError as error:
            raise RefusalError(
                f"is not valid in opset {self.opsets['']} ({first_line(error)})", "export the model again"
            ) from error

    def _attributes(self, node: onnx.NodeProto, source: Source) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                raise ModelError(
                    source,
                    f"takes its attribute '{label(attribute.name)}' from a function, but is in none",
                    "export the model again",
                )
            if attribute.type == AttributeProto.GRAPH and node.op_type == "If":
                continue
            is_external = attribute.t.data_location == TensorProto.EXTERNAL and node.op_type != "Constant"
            if attribute.type == AttributeProto.TENSOR and not is_external:
                value: Any = self.tensors.read(attribute.t, f"{source.node}.{attribute.name}", allow_infinite=True)
            elif attribute.type in _PLAIN_ATTRIBUTES:
                value = helper.get_attribute_value(attribute)
            else:
                raise RefusalError(
                    f"has an attribute '{label(attribute.name)}' of an unsupported type", advice(node.op_type)
                )
            attributes[attribute.name] = value
        return attributes


def _needed(nodes: Sequence[onnx.NodeProto], results: Iterable[str]) -> list[onnx.NodeProto]:
    """Return the nodes of a body that some of its outputs need, in order."""
    wanted = set(results)
    needed = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            wanted.update(read_by(node))
            needed.append(node)
    return needed[::-1]


def _check_one_type(source: Source, inputs: Sequence[Value | None]) -> None:
    """Refuse integer constants beside real activations: damaged data, or another operator's."""
    if any(isinstance(value, Activation) and value.kind is not Kind.REAL for value in inputs):
        return
    for value in inputs:
        if isinstance(value, np.ndarray) and value.dtype.kind != "f":
            raise ModelError(source, f"mixes real numbers with {value.dtype} constants", "export the model again")


def _constant(attributes: Mapping[str, Any]) -> Constant:
    """Return the value of a Constant node."""
    if "value" in attributes:
        return np.asarray(attributes["value"])
    for name, dtype in (("value_float", np.float32), ("value_int", np.int64)):
        for key in (name, f"{name}s"):
            if key in attributes:
                return np.asarray(attributes[key], dtype=dtype)
    raise RefusalError(f"holds {', '.join(attributes) or 'nothing'}", "use a dense constant of numbers")
