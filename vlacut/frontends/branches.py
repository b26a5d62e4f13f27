"""`If` whose condition is a constant: what it chooses stands in its place."""

from __future__ import annotations

import onnx_ir as ir

from vlacut.ir.rewriting import replace_value


def inline_branches(model: ir.Model) -> int:
    """Put the chosen branch in the place of every If of a constant condition, in place.

    The Ifs stay behind unread, for `rewriting.remove_unused`; their number is returned.
    """
    found = [node for node in model.graph.all_nodes() if node.op_type == "If" and not node.domain]
    return sum(_inline(node) for node in found)


def forget_graph(graph: ir.Graph) -> None:
    """Let a graph that nothing runs any more read nothing, so that what it read can go."""
    graph.outputs.clear()
    for node in graph.all_nodes():
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)


def _inline(node: ir.Node) -> bool:
    condition = node.inputs[0]
    known = ir.convenience.get_const_tensor(condition) if condition is not None else None
    if known is None or known.size != 1 or not _read(node):
        return False
    names = ("then_branch", "else_branch")
    taken, left = names if known.numpy().item() else names[::-1]
    chosen = node.attributes[taken].as_graph()
    outputs, nodes = list(chosen.outputs), list(chosen)
    chosen.outputs.clear()
    chosen.remove(nodes)
    assert node.graph is not None
    node.graph.insert_before(node, nodes)
    for old, new in zip(list(node.outputs), outputs, strict=True):
        replace_value(old, new)
    forget_graph(node.attributes[left].as_graph())
    return True


def _read(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.outputs if value.uses() or value.is_graph_output()]
