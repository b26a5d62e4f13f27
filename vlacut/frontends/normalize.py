"""Normal form: what every graph obeys once a front end has handed it over.

- Operators and values have names, each its own; inputs, outputs and weights keep theirs.
- Every constant is an initializer. One that had no name of its own is named by its content, so that
  phases share it exactly where it is the same.
- Every output is made by an operator: Identity stands where it was an input, a weight or a second
  name of another output.
- Operators are sorted, functions are inlined, old graphs list no weight among their inputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from vlacut.errors import ModelError
from vlacut.graphs import dtype_name

_KEPT_METADATA = ("pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy")
_SHOWN_ELEMENTS = 8


def normalize(model: ir.Model, where: str) -> None:
    """Bring a model into normal form, in place; `where` starts the message of a ModelError."""
    if model.functions:
        common.InlinePass()(model)
    graph = model.graph
    _strip(model)
    _drop_weight_inputs(graph)
    for node in _all_nodes(graph):
        if node.op_type == "Constant" and node.domain == "":
            _constant_to_initializer(graph, node, where)
    common.RemoveUnusedNodesPass()(model)
    graph.sort()
    separate_outputs(graph)
    name_uniquely(graph, where)


def _strip(model: ir.Model) -> None:
    """Forget stack traces, doc strings and whatever else tells of the exporting machine."""
    model.metadata_props.clear()
    model.doc_string = None
    graph = model.graph
    graph.doc_string = None
    graph.metadata_props.clear()
    for value in (*graph.inputs, *graph.initializers.values()):
        _strip_value(value)
    for node in _all_nodes(graph):
        node.doc_string = None
        kept = {
            key: node.metadata_props[key] for key in _KEPT_METADATA if key in node.metadata_props
        }
        node.metadata_props.clear()
        node.metadata_props.update(kept)
        node.meta.clear()
        for value in node.outputs:
            _strip_value(value)


def _strip_value(value: ir.Value) -> None:
    value.doc_string = None
    value.metadata_props.clear()
    value.meta.clear()


def _all_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    yield from list(ir.traversal.RecursiveGraphIterator(graph))


def _drop_weight_inputs(graph: ir.Graph) -> None:
    """Before IR version 4 an initializer had to be listed as an input too."""
    kept = [value for value in graph.inputs if str(value.name) not in graph.initializers]
    if len(kept) != len(graph.inputs):
        graph.inputs.clear()
        graph.inputs.extend(kept)


def _constant_to_initializer(graph: ir.Graph, node: ir.Node, where: str) -> None:
    """Replace a Constant, in the graph or in a subgraph, by an initializer of the graph."""
    output = node.outputs[0]
    home = node.graph
    if home is None:
        return
    array = _constant_tensor(node, where)
    constant = constant_initializer(graph, array)
    if output.is_graph_output():
        identity = ir.node("Identity", [constant], name=node.name)
        _take_place(identity.outputs[0], output)
        home.insert_before(node, identity)
        ir.convenience.replace_all_uses_with(
            output, identity.outputs[0], replace_graph_outputs=True
        )
        identity.metadata_props.update(node.metadata_props)
    else:
        ir.convenience.replace_all_uses_with(output, constant)
    home.remove(node, safe=True)


def _take_place(new: ir.Value, old: ir.Value) -> None:
    new.name, new.type, new.shape = old.name, old.type, old.shape


def _constant_tensor(node: ir.Node, where: str) -> ir.TensorProtocol:
    (attribute,) = node.attributes.values()
    if attribute.type == ir.AttributeType.TENSOR:
        tensor: ir.TensorProtocol = attribute.as_tensor()
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


def constant_initializer(graph: ir.Graph, tensor: ir.TensorProtocol) -> ir.Value:
    """The graph's initializer with this content, added if there is none, named by its content."""
    name = content_name(tensor)
    found = graph.initializers.get(name)
    if found is None:
        tensor.name = name
        shape = ir.Shape(tensor.shape)
        found = ir.Value(
            name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        graph.initializers.add(found)
    return found


def content_name(tensor: ir.TensorProtocol) -> str:
    """A name that equal tensors share and others do not; it reads as the tensor if that is short."""
    array = tensor.numpy()
    dims = "x".join(map(str, array.shape)) or "scalar"
    stem = f"{dtype_name(tensor.dtype)}.{dims}"
    if array.dtype.kind in "iub" and array.ndim <= 1 and array.size <= _SHOWN_ELEMENTS:
        return f"{stem}[{','.join(str(int(item)) for item in array.reshape(-1))}]"
    digest = hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8)).hexdigest()
    return f"{stem}.{digest[:16]}"


def separate_outputs(graph: ir.Graph) -> None:
    """Put Identity where an output is an input, a weight, or there twice."""
    seen: set[ir.Value] = set()
    for index, value in enumerate(graph.outputs):
        if value.producer() is None or value in seen:
            _identity_output(graph, index, f"{value.name}_{index}")
        seen.add(graph.outputs[index])


def _identity_output(graph: ir.Graph, index: int, name: str) -> None:
    value = graph.outputs[index]
    identity = ir.node("Identity", [value], name=f"output_{index}")
    output = identity.outputs[0]
    output.name, output.type, output.shape = name, value.type, value.shape
    graph.append(identity)
    graph.outputs[index] = output


def name_uniquely(graph: ir.Graph, where: str) -> None:
    """Give every node and value a name of its own; those of the graph's interface stay."""
    fixed = [*graph.inputs, *graph.outputs, *graph.initializers.values()]
    names = _Names()
    for value in fixed:
        if not value.name or names.taken(value.name):
            raise ModelError(
                f"{where}: the name {value.name!r} of an input, output or weight is empty or there "
                f"twice; rename one"
            )
        names.take(value.name)
    interface = set(fixed)
    node_names = _Names()
    for node in _all_nodes(graph):
        node.name = node_names.take(node.name or f"node_{node.op_type}")
        for value in node.outputs:
            if value not in interface and value.name != "":
                value.name = names.take(value.name or f"{node.name}_out")


class _Names:
    """Hands out names, each once."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def taken(self, name: str) -> bool:
        return name in self._taken

    def take(self, name: str) -> str:
        """The name, or, if it is taken, the name with the first free number behind it."""
        wanted = name
        while name in self._taken:
            self._taken[wanted] += 1
            name = f"{wanted}_{self._taken[wanted]}"
        self._taken[name] = 0
        return name
