"""The way back: a graph of onnx-graphsurgeon in the place of a phase's."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from vlacut.errors import PassError
from vlacut.ir.graphs import dtype_name
from vlacut.ir.program import Phase
from vlacut_passes.operating.weights import Weights, location, same_weight


def put(
    phase: Phase, proto: onnx.ModelProto, weights: Weights, where: str, exact: bool
) -> set[str]:
    """Put the graph in the place of the phase's, with its weights and its operators' places; the
    names of weights that are not what they were. With `exact` no output may be marked.
    """
    old, made = phase.model.graph, ir.from_proto(proto).graph
    made.name = old.name
    by_name, changed = {tensor.name: tensor for tensor in proto.graph.initializer}, set()
    for name, value in made.initializers.items():
        if location(by_name[name]) is not None:
            value.const_value = weights.of(by_name[name])
        if not same_weight(value, old.initializers.get(name)):
            changed.add(name)
    for told, before, after in (
        ("inputs", old.inputs, made.inputs),
        ("outputs", old.outputs, made.outputs),
    ):
        wanted, found = [_port(one) for one in before], [_port(one) for one in after]
        if told == "outputs" and not exact:
            found = found[: len(wanted)]  # more may be marked, after those that others bind to
        if wanted != found:
            odd = next(iter([one for one in found if one not in wanted] or wanted))
            raise PassError(
                f"{where}: changed the {told}: {odd}; they were {'; '.join(wanted)}, and others "
                f"bind to them"
            )
    places = {str(node.name): dict(node.metadata_props) for node in old}
    for node in made:
        node.metadata_props.update(places.get(str(node.name), {}))
        _check_known(node, where)
    phase.model.graph = made
    return changed


def _check_known(node: ir.Node, where: str) -> None:
    """Every operand is made by something, and every result that is read has a type and a shape."""
    for value in node.inputs:
        if value is None or value.producer() is not None:
            continue
        if not (value.is_graph_input() or value.is_initializer()):
            raise PassError(
                f"{where}: {node.op_type} {node.name} reads {value.name}, which nothing makes"
            )
    for value in node.outputs:
        read = value.uses() or value.is_graph_output()
        static = value.shape is not None and value.shape.is_static()
        if read and (value.dtype is None or not static):
            raise PassError(
                f"{where}: {node.op_type} {node.name}: {value.name} has no type or shape, and none "
                f"can be inferred; give its gs.Variable a dtype and a shape"
            )


def _port(value: ir.Value) -> str:
    shape = "x".join(str(size) for size in value.shape or ())
    kind = dtype_name(value.dtype) if value.dtype is not None else "?"
    return f"{value.name} {kind}[{shape}]"
