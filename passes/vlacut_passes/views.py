"""Operators that only look at a tensor otherwise, and those that do nothing at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from vlacut.ir.rewriting import constant, replace_value

_VIEWS = frozenset(("Flatten", "Reshape", "Squeeze", "Unsqueeze"))


def drop_without_effect(graph: ir.Graph) -> int:
    """Bypass operators that do nothing: readers read their inputs. A CastLike becomes a Cast.

    Returns how many of both there were.
    """
    dropped = 0
    for node in list(graph):
        dropped += _cast_plainly(node)
        rule = _WITHOUT_EFFECT.get(node.op_type) if node.domain == "" else None
        if rule is None or not _same(node) or not rule(node):
            continue
        value = node.inputs[0]
        assert value is not None, f"{node.name} has no input"  # `_same` looked at it
        if _needed(node, value):
            continue
        replace_value(node.outputs[0], value)
        graph.remove(node, safe=True)
        dropped += 1
    return dropped


def join_views(graph: ir.Graph) -> int:
    """Join two views or transpositions in a row into one. Returns how many were removed."""
    joined = 0
    for node in graph:
        before = _only_read_here(node)
        if before is None:
            continue
        if node.op_type in _VIEWS and before.op_type in _VIEWS:
            joined += _join_reshapes(graph, before, node)
        elif node.op_type == before.op_type == "Transpose":
            _join_transpositions(before, node)
            joined += 1
    return joined


def _needed(node: ir.Node, value: ir.Value) -> bool:
    """Whether a node without effect gives an output its name, and nothing else could."""
    return node.outputs[0].is_graph_output() and (
        value.producer() is None or value.is_graph_output()
    )


def _cast_plainly(node: ir.Node) -> bool:
    """CastLike reads a tensor for its type alone; Cast does not. Whether it was one."""
    if node.op_type != "CastLike" or node.domain != "" or node.outputs[0].dtype is None:
        return False
    node.op_type = "Cast"
    node.attributes.add(ir.AttrInt64("to", node.outputs[0].dtype.value))
    node.resize_inputs(1)
    return True


def _same(node: ir.Node) -> bool:
    """Whether the output has the type and static shape of the first input."""
    value = node.inputs[0] if node.inputs else None
    output = node.outputs[0]
    if value is None or value.dtype != output.dtype or any(_read(o) for o in node.outputs[1:]):
        return False
    return value.shape is not None and value.shape == output.shape and value.shape.is_static()


def _read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _always(_: ir.Node) -> bool:
    return True


def _keeps_order(node: ir.Node) -> bool:
    permutation = _permutation(node)
    return permutation == sorted(permutation)


def _slices_all(node: ir.Node) -> bool:
    """A slice of the input's own shape keeps the order if it steps forward."""
    if len(node.inputs) < 5 or node.inputs[4] is None:
        return True
    steps = _content(node.inputs[4])
    return steps is not None and bool(np.all(steps > 0))


def _pads_nothing(node: ir.Node) -> bool:
    pads = _content(node.inputs[1]) if len(node.inputs) > 1 else None
    return pads is not None and not pads.any()


def _joins_one(node: ir.Node) -> bool:
    return len(node.inputs) == 1


def _is_inference(node: ir.Node) -> bool:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    training = _content(node.inputs[2])
    return training is not None and not training.any()


def _by_one(node: ir.Node) -> bool:
    """X * 1 and x / 1 are x, bit for bit, in floats too; x + 0 is not, for x = -0."""
    factor = _content(node.inputs[1])
    return factor is not None and bool(np.all(factor == 1))


def _of_integer_zero(node: ir.Node) -> bool:
    term = _content(node.inputs[1])
    return term is not None and term.dtype.kind in "iu" and not term.any()


_WITHOUT_EFFECT: Mapping[str, Callable[[ir.Node], bool]] = {
    "Add": _of_integer_zero,
    "Cast": _always,
    "Concat": _joins_one,
    "Div": _by_one,
    "Dropout": _is_inference,
    "Expand": _always,
    "Flatten": _always,
    "Identity": _always,
    "Mul": _by_one,
    "Pad": _pads_nothing,
    "Reshape": _always,
    "Slice": _slices_all,
    "Squeeze": _always,
    "Sub": _of_integer_zero,
    "Tile": _always,
    "Transpose": _keeps_order,
    "Unsqueeze": _always,
}


def _content(value: ir.Value | None) -> np.ndarray | None:
    """A small constant's elements; None for weights, which are not looked at."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return value.const_value.numpy() if value.const_value.size <= 64 else None


def _permutation(node: ir.Node) -> list[int]:
    value = node.inputs[0]
    assert value is not None, f"{node.name} has no input"
    assert value.shape is not None, f"{value.name} has no shape"
    backwards = range(len(value.shape) - 1, -1, -1)
    return list(node.attributes.get_ints("perm", tuple(backwards)))


def _only_read_here(node: ir.Node) -> ir.Node | None:
    """The maker of a node's first input, if nothing else reads what it makes."""
    value = node.inputs[0] if node.inputs else None
    maker = value.producer() if value is not None else None
    if value is None or maker is None or maker.graph is not node.graph or node.domain != "":
        return None
    alone = len(value.uses()) == 1 and not value.is_graph_output() and maker.domain == ""
    return maker if alone else None


def _join_reshapes(graph: ir.Graph, first: ir.Node, second: ir.Node) -> bool:
    output = second.outputs[0]
    if output.shape is None or not output.shape.is_static() or 0 in output.shape:
        return False
    shape = constant(graph, ir.tensor(np.array(output.shape.numpy(), dtype=np.int64)))
    second.op_type = "Reshape"
    second.attributes.clear()
    second.resize_inputs(2)
    second.replace_input_with(0, first.inputs[0])
    second.replace_input_with(1, shape)
    return True


def _join_transpositions(first: ir.Node, second: ir.Node) -> None:
    inner, outer = _permutation(first), _permutation(second)
    second.attributes.add(ir.AttrInt64s("perm", [inner[axis] for axis in outer]))
    second.replace_input_with(0, first.inputs[0])
