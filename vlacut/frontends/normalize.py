"""Normal form: what every graph obeys once a front end has handed it over.

- Operators and values have names, each its own; inputs, outputs and weights keep theirs. An output
  that was an input or a weight is called `NAME_out`, for a name stands for one value.
- Every constant is an initializer of the graph, weights of subgraphs included. One that had no
  name of its own is named by its content, so that phases share it exactly where it is the same.
- Every output is made by an operator: Identity stands where it was an input, a weight or a second
  name of another output.
- Operators are sorted, functions are inlined, weights are no inputs, and the opset is at least 18
  where ONNX knows how to convert the graph.
- No operator makes a sequence of tensors, and attributes are rounded to what a file can hold.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from vlacut.errors import ModelError
from vlacut.frontends.sequences import slice_sequences
from vlacut.ir.program import Phase
from vlacut.ir.rewriting import constant, content_name, name_uniquely, replace_value

OLDEST_OPSET = 18
_IR_VERSION = 10  # the first that every operator set from 18 to 22 may be written in
_KEPT_METADATA = ("pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy")


def normalize(model: ir.Model, where: str, outputs: Sequence[str] = ()) -> None:
    """Bring a model into normal form, in place; shapes are not looked at.

    Args:
        model: to change.
        where: starts the message of a ModelError.
        outputs: new names of the outputs, if given.
    """
    strip(model)
    if model.functions:
        common.InlinePass()(model)
    _drop_weight_inputs(model.graph)
    _lift_initializers(model)
    _convert(model)
    for graph in model.graphs():
        for node in list(graph):
            if node.op_type == "Constant" and node.domain == "":
                replace_value(node.outputs[0], constant(model.graph, _tensor_of(node, where)))
    _round_attributes(model)
    slice_sequences(model, where)
    model.graph.sort()
    _separate_outputs(model.graph, outputs)
    name_uniquely(model, where)


def strip(model: ir.Model) -> None:
    """Forget doc strings, stack traces and whatever else tells of the exporting machine."""
    model.metadata_props.clear()
    model.doc_string = None
    for graph in model.graphs():
        graph.doc_string = None
        graph.metadata_props.clear()
        for value in (*graph.inputs, *graph.initializers.values()):
            _strip_value(value)
        for node in graph:
            _strip_node(node)


def _strip_node(node: ir.Node) -> None:
    properties = node.metadata_props
    kept = {key: properties[key] for key in _KEPT_METADATA if key in properties}
    properties.clear()
    properties.update(kept)
    node.meta.clear()
    node.doc_string = None
    for value in node.outputs:
        _strip_value(value)


def _strip_value(value: ir.Value) -> None:
    value.doc_string = None
    value.metadata_props.clear()
    value.meta.clear()


def _round_attributes(model: ir.Model) -> None:
    """Let attributes that an exporter made of Python's numbers be what a file would hold."""
    for node in (node for graph in model.graphs() for node in graph):
        for name, attribute in node.attributes.items():
            if attribute.type == ir.AttributeType.FLOAT:
                node.attributes[name] = ir.AttrFloat32(name, float(np.float32(attribute.value)))
            elif attribute.type == ir.AttributeType.FLOATS:
                rounded = np.array(attribute.value, np.float32).tolist()
                node.attributes[name] = ir.AttrFloat32s(name, rounded)


def _drop_weight_inputs(graph: ir.Graph) -> None:
    """Before IR version 4 an initializer had to be listed as an input too."""
    kept = [value for value in graph.inputs if value.name not in graph.initializers]
    if len(kept) < len(graph.inputs):
        graph.inputs.clear()
        graph.inputs.extend(kept)


def _lift_initializers(model: ir.Model) -> None:
    """Move the weights of subgraphs to the graph."""
    for graph in list(model.graphs())[1:]:
        for name, value in list(graph.initializers.items()):
            if value in graph.inputs:
                continue
            del graph.initializers[name]
            while value.name in model.graph.initializers:
                value.name = f"{value.name}_inner"
            model.graph.initializers.add(value)


def _convert(model: ir.Model) -> None:
    """Lift an old opset to 18; one that ONNX cannot convert stays as it is."""
    opset = model.graph.opset_imports.get("", OLDEST_OPSET)
    if opset < OLDEST_OPSET:
        from onnxscript import version_converter  # a program of the cache needs it never

        with _no_log("onnxscript"), _no_log("onnx_ir"):
            version_converter.convert_version(model, OLDEST_OPSET, fallback=True)
    model.ir_version = max(model.ir_version, _IR_VERSION)


@contextmanager
def _no_log(name: str) -> Iterator[None]:
    """Keep a library's log from the user while a failure of it is ours to judge."""
    logger = logging.getLogger(name)
    disabled, logger.disabled = logger.disabled, True
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.disabled = disabled
        logger.setLevel(level)


def _tensor_of(node: ir.Node, where: str) -> ir.TensorProtocol:
    (attribute,) = node.attributes.values()
    if attribute.type == ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        if tensor.dtype != ir.DataType.STRING:
            return tensor
    elif attribute.name in ("value_int", "value_ints"):
        return ir.tensor(np.array(attribute.value, dtype=np.int64))
    elif attribute.name in ("value_float", "value_floats"):
        return ir.tensor(np.array(attribute.value, dtype=np.float32))
    raise ModelError(
        f"{where}: constant {node.name} is a {attribute.name} of {attribute.type.name.lower()}; "
        f"only dense tensors of numbers can be compiled"
    )


def _separate_outputs(graph: ir.Graph, names: Sequence[str]) -> None:
    """Put Identity where an output is an input, a weight, or there twice; then name them."""
    seen: set[ir.Value] = set()
    for index, value in enumerate(graph.outputs):
        if value.producer() is None or value in seen:
            identity = ir.node("Identity", [value], name=f"output_{index}")
            output = identity.outputs[0]
            output.name, output.type, output.shape = f"{value.name}_out", value.type, value.shape
            graph.append(identity)
            graph.outputs[index] = output
        seen.add(graph.outputs[index])
    for value, name in zip(graph.outputs, names, strict=bool(names)):
        value.name = name


def name_by_content(value: ir.Value) -> None:
    """Rename an initializer, and join it with the one of the same content if there is one."""
    graph, tensor = value.graph, value.const_value
    if graph is None or tensor is None:
        return
    name = content_name(tensor)
    if name in graph.initializers:
        ir.convenience.replace_all_uses_with(
            value, graph.initializers[name], replace_graph_outputs=True
        )
        del graph.initializers[str(value.name)]
    else:
        value.name = name


def separate_weights(phases: Sequence[Phase]) -> None:
    """Rename, in the later phase, a weight that shares its name but not its content.

    Phases share a weight by its name. Two that are known by shape alone are taken to be the same.
    """
    seen: dict[str, ir.Value] = {}
    for phase in phases:
        for name, value in list(phase.model.graph.initializers.items()):
            if not _same(seen.setdefault(name, value), value):
                value.name = f"{phase.name}:{name}"


def _same(one: ir.Value, other: ir.Value) -> bool:
    if one is other:
        return True
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    first, second = one.const_value, other.const_value
    if first is None or second is None:
        return True
    return _same_place(first, second) or _same_content(first.numpy(), second.numpy())


def _same_place(one: ir.TensorProtocol, other: ir.TensorProtocol) -> bool:
    if isinstance(one, ir.ExternalTensor) and isinstance(other, ir.ExternalTensor):
        return (one.path, one.offset) == (other.path, other.offset)
    return False


def _same_content(one: np.ndarray, other: np.ndarray) -> bool:
    if one.ctypes.data == other.ctypes.data and one.strides == other.strides:
        return True  # views of one storage: nothing to read
    first, second = (np.ascontiguousarray(array).reshape(-1) for array in (one, other))
    return np.array_equal(first.view(np.uint8), second.view(np.uint8))
