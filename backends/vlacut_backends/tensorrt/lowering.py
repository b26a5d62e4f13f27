"""Lowering to an older ONNX operator set, so that an older parser reads the part.

Later versions of most operators only take more element types or attributes. Operators that the
older set lacks are replaced by their definition, which ONNX gives as a function of older operators:
Attention, RMSNormalization, RotaryEmbedding (opset 23), Swish (24). Types that the older version
lacks are computed in float32, cast before and after: convolutions and sines of bfloat16.
"""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from vlacut.errors import BackendError
from vlacut.ir.rewriting import name_uniquely

_NEW_MEANING = frozenset({"GroupNormalization"})  # scale a group before 21, a channel from it on
_INLINED = "vlacut.inlined"
_IR_VERSION = 10  # that of opset 21; TensorRT 10.3 was built with ONNX 1.16
_FLOAT = ir.DataType.FLOAT
_MOST_ROUNDS = 4  # a definition may use operators that have one


def lower_opset(model: ir.Model, opset: int, where: str) -> None:
    """Rewrite a model, in place, so that it needs no later operator set.

    Raises BackendError naming `where` and the operator that has no older equivalent.
    """
    given = model.graph.opset_imports.get("", opset)
    if given <= opset:
        return
    for _ in range(_MOST_ROUNDS):
        if not _inline_definitions(model, given, opset, where):
            break
    for node in list(model.graph.all_nodes()):
        if node.domain == "":
            _check_meaning(node, given, opset, where)
            _compute_in_float32(node, opset, where)
    model.graph.opset_imports[""] = opset
    model.ir_version = min(model.ir_version, _IR_VERSION)
    name_uniquely(model, where)


def _schema(node: ir.Node, opset: int) -> onnx.defs.OpSchema | None:
    if not onnx.defs.has(node.op_type, opset):
        return None
    return onnx.defs.get_schema(node.op_type, opset)


def _inline_definitions(model: ir.Model, given: int, opset: int, where: str) -> bool:
    """Replace operators that the older set lacks by their definitions; whether there was one."""
    found = [
        node
        for node in model.graph.all_nodes()
        if node.domain == "" and _schema(node, opset) is None and _schema(node, given) is not None
    ]
    for number, node in enumerate(found):
        function = _definition(node, given, where)
        function.domain, function.name = _INLINED, f"{node.op_type}.{number}"
        model.functions[function.identifier()] = function
        node.domain, node.op_type = _INLINED, function.name
        if not function.attributes:
            node.attributes.clear()  # they are in the body
    if found:
        model.graph.opset_imports[_INLINED] = 1
        common.InlinePass()(model)
        model.functions.clear()
        model.graph.opset_imports.pop(_INLINED, None)
        common.ShapeInferencePass()(model)
        _check_typed(model, where)
    return bool(found)


def _definition(node: ir.Node, opset: int, where: str) -> ir.Function:
    schema: Any = onnx.defs.get_schema(node.op_type, opset)
    proto = ir.to_proto(node)
    types = [_type_proto(value).SerializeToString() for value in node.inputs]
    body = b""
    if schema.has_function:
        body = schema.function_body.SerializeToString()
    elif schema.has_context_dependent_function:
        body = schema.get_context_dependent_function(proto.SerializeToString(), types)
    if not body:
        raise BackendError(
            f"{where}: {node.op_type} {node.name} came with opset {opset}, and ONNX defines it by "
            f"no older operators; export the model at a lower opset"
        )
    function = onnx.FunctionProto.FromString(body)
    made = {name for item in function.node for name in item.output} | set(function.input)
    while function.output and function.output[-1] not in made:
        function.output.pop()  # an optional output that this use has not
    if any(
        value.uses() or value.is_graph_output() for value in node.outputs[len(function.output) :]
    ):
        raise BackendError(f"{where}: {node.op_type} {node.name} is read beyond its first outputs")
    node.resize_outputs(len(function.output))
    for name in function.attribute:
        if name not in node.attributes:
            node.attributes[name] = ir.from_proto(schema.attributes[name].default_value)
    return ir.serde.deserialize_function(function)


def _type_proto(value: ir.Value | None) -> onnx.TypeProto:
    if value is None or value.dtype is None:
        return onnx.TypeProto()
    shape = None if value.shape is None else [int(str(dim)) for dim in value.shape]
    return onnx.helper.make_tensor_type_proto(int(value.dtype), shape)


def _check_typed(model: ir.Model, where: str) -> None:
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value.name and value.dtype is None:
                raise BackendError(
                    f"{where}: the type of {value.name}, made by {node.op_type}, is not known; "
                    f"export the model at a lower opset"
                )


def _check_meaning(node: ir.Node, given: int, opset: int, where: str) -> None:
    new, old = _schema(node, given), _schema(node, opset)
    if new is None or old is None:
        raise BackendError(f"{where}: {node.op_type} {node.name} is not in opset {opset}")
    if new.since_version == old.since_version:
        return
    odd = sorted(set(node.attributes) - set(old.attributes))
    if node.op_type in _NEW_MEANING or odd or len(node.inputs) > old.max_input:
        what = f"with {', '.join(odd)}" if odd else "as it is used here"
        raise BackendError(
            f"{where}: {node.op_type} {node.name} {what} needs opset {new.since_version}, the "
            f"TensorRT of the recipe is known to read {opset}; where a newer one runs, write its "
            f"release as `oldest` under [cuda] of the device's file; else do without it"
        )


def _compute_in_float32(node: ir.Node, opset: int, where: str) -> None:
    """Cast around an operator whose older version lacks a type that it is used with."""
    schema = _schema(node, opset)
    assert schema is not None, "_check_meaning found it"
    reads = [*zip(range(len(node.inputs)), node.inputs, schema.inputs, strict=False)]
    for index, value, formal in reads:
        if _lacks(value, formal):
            assert value is not None
            before = ir.node("Cast", [value], {"to": int(_FLOAT)})
            before.outputs[0].shape, before.outputs[0].type = value.shape, ir.TensorType(_FLOAT)
            _graph(node).insert_before(node, before)
            node.replace_input_with(index, before.outputs[0])
    for value, formal in zip(node.outputs, schema.outputs, strict=False):
        if _lacks(value, formal):
            _cast_after(node, value)


def _lacks(value: ir.Value | None, formal: onnx.defs.OpSchema.FormalParameter) -> bool:
    if value is None or value.dtype is None or not value.dtype.is_floating_point():
        return False
    return f"tensor({value.dtype.name.lower()})" not in formal.types and (
        "tensor(float)" in formal.types
    )


def _cast_after(node: ir.Node, value: ir.Value) -> None:
    """Let the operator make float32 under another name, and a cast what it made before."""
    assert value.dtype is not None
    after = ir.node("Cast", [value], {"to": int(value.dtype)})
    made = after.outputs[0]
    made.shape, made.type = value.shape, ir.TensorType(value.dtype)
    graph = _graph(node)
    graph.insert_after(node, after)
    for index, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[index] = made
    ir.convenience.replace_all_uses_with(value, made)
    after.replace_input_with(0, value)
    made.name, value.name = value.name, f"{value.name}.float32"
    value.type = ir.TensorType(_FLOAT)


def _graph(node: ir.Node) -> ir.Graph:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    return graph
