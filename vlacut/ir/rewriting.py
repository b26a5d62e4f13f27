"""What passes and front ends do to an onnx_ir graph: constants, names, replacement of values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from vlacut.errors import ModelError
from vlacut.ir.graphs import dtype_name

_SHOWN_ELEMENTS = 8


def content_name(tensor: ir.TensorProtocol) -> str:
    """A name that equal tensors share and others do not.

    A short tensor is written out: `int64.2[1,-1]`, `float32.scalar[0.5]`. Other names end in a
    digest.
    """
    array = tensor.numpy()
    stem = f"{dtype_name(tensor.dtype)}.{'x'.join(map(str, array.shape)) or 'scalar'}"
    flat = np.ascontiguousarray(array).reshape(-1)
    if array.ndim <= 1 and array.size <= _SHOWN_ELEMENTS and _reads_back(flat):
        return f"{stem}[{','.join(str(item) for item in flat.tolist())}]"
    return f"{stem}.{hashlib.sha256(flat.view(np.uint8).data).hexdigest()[:16]}"


def _reads_back(flat: np.ndarray) -> bool:
    """Whether the decimal text of the elements tells them apart from all others."""
    if flat.dtype.kind in "iub":
        return True
    return flat.dtype.kind == "f" and bool(np.isfinite(flat).all())


def is_named_by_content(value: ir.Value) -> bool:
    """Whether an initializer is a constant without a name of its own."""
    if value.const_value is None or value.dtype is None:
        return False
    return str(value.name).startswith(dtype_name(value.dtype) + ".")


def constant(graph: ir.Graph, tensor: ir.TensorProtocol) -> ir.Value:
    """The graph's initializer with this content, added if there is none, named by its content."""
    name = content_name(tensor)
    found = graph.initializers.get(name)
    if found is None:
        found = ir.Value(
            name=name,
            shape=ir.Shape(tensor.numpy().shape),
            type=ir.TensorType(tensor.dtype),
            const_value=_with_name(tensor, name),
        )
        graph.initializers.add(found)
    return found


def _with_name(tensor: ir.TensorProtocol, name: str) -> ir.TensorProtocol:
    tensor.name = name
    return tensor


def copy_of(
    node: ir.Node, inputs: Sequence[ir.Value | None], outputs: Sequence[ir.Value]
) -> ir.Node:
    """An operator that does what another does, to other values; it is in no graph yet."""
    return ir.Node(
        node.domain,
        node.op_type,
        inputs,
        list(node.attributes.values()),
        overload=node.overload,
        outputs=outputs,
        version=node.version,
        name=node.name,
        metadata_props=dict(node.metadata_props),
    )


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Put `new` in the place of `old`, for all its readers and as an output of the graph.

    A graph's output keeps its name: `new` takes the name if it can, otherwise an Identity makes
    the output. The node that made `old` stays, unread.
    """
    maker = old.producer()
    assert maker is not None, f"{old.name} is made by no operator"
    graph = maker.graph
    assert graph is not None
    if old.is_graph_output():
        source = new.producer()
        if source is None or source.graph is not graph or new.is_graph_output():
            new = _identity_before(maker, new)
        _swap_names(old, new)
        for index, value in enumerate(graph.outputs):
            if value is old:
                graph.outputs[index] = new
    ir.convenience.replace_all_uses_with(old, new)


def _identity_before(node: ir.Node, value: ir.Value) -> ir.Value:
    identity = ir.node("Identity", [value], name=node.name)
    node.name = f"{node.name}_replaced"
    identity.metadata_props.update(node.metadata_props)
    output = identity.outputs[0]
    output.name, output.type, output.shape = f"{value.name}_out", value.type, value.shape
    assert node.graph is not None
    node.graph.insert_before(node, identity)
    return output


def _swap_names(one: ir.Value, other: ir.Value) -> None:
    one.name, other.name = other.name, one.name


def remove_unused(model: ir.Model) -> None:
    """Remove operators and initializers that no output depends on; inputs and outputs stay."""
    common.RemoveUnusedNodesPass()(model)


def name_uniquely(model: ir.Model, where: str) -> None:
    """Give every node and value a name of its own that prints; those of the graph's interface keep
    theirs.

    Raises ModelError, starting with `where`, if two of the interface share a name, or one of them
    does not print: it would move the cursor of whoever reads it in a table or a log.
    """
    graph = model.graph
    interface = [*graph.inputs, *graph.outputs, *graph.initializers.values()]
    values, nodes = _Names(), _Names()
    for value in interface:
        if not value.name or value.name in values.taken:
            raise ModelError(
                f"{where}: {value.name!r} names two of its inputs, outputs and weights; rename one"
            )
        if not value.name.isprintable():
            raise ModelError(f"{where}: the name {value.name!r} does not print; rename it")
        values.take(value.name)
    settled = set(interface)
    for inner in model.graphs():
        _name_values((value for value in inner.inputs if value not in settled), values, "in")
        for node in inner:
            node.name = nodes.take(node.name or f"node_{node.op_type}")
            made = (value for value in node.outputs if value not in settled and value.name != "")
            _name_values(made, values, f"{node.name}_out")


def _name_values(found: Iterable[ir.Value], names: _Names, default: str) -> None:
    for value in found:
        value.name = names.take(value.name or default)


class _Names:
    """Hands out names, each once."""

    def __init__(self) -> None:
        self.taken: dict[str, int] = {}

    def take(self, wanted: str) -> str:
        """The name, or, where it is taken, the name with the first free number behind it.

        Characters that do not print become `_`.
        """
        if not wanted.isprintable():
            wanted = "".join(each if each.isprintable() else "_" for each in wanted)
        name = wanted
        while name in self.taken:
            self.taken[wanted] += 1
            name = f"{wanted}_{self.taken[wanted]}"
        self.taken[name] = 0
        return name
