"""Attention of several instances as one operator: each instance is a slot of an axis in front.

What mixes rows cannot run over all rows at once, but instances of the same shapes can be a batch:
queries, keys and values are stacked along their first axis, which has one entry. The masks of the
instances are stacked with them, so each sees as much of its own cache as before. Stacking copies
keys and values once, so this is worth it where launching an operator takes longer than that.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import onnx_ir as ir

from vlacut_passes.packing.alike import (
    Alike,
    Feed,
    Joined,
    Refusal,
    Stack,
    Together,
    differ_in,
    shape_of,
)

_MATRIX = 2  # axes of a product, behind those that it repeats over


def slot_key(node: ir.Node, pieces: Mapping[ir.Value, tuple[Joined, int]]) -> Hashable | None:
    """What products of two things that an instance made have in common, if they can be slots of
    one; None for what is none.

    One of the two at least is a piece, of the same as the others': so they are of instances of one
    layer.
    """
    if node.domain or node.op_type != "MatMul":
        return None
    given = [value for value in node.inputs if value is not None]
    read = tuple(id(pieces[value][0]) if value in pieces else 0 for value in given)
    if not any(read):
        return None
    try:
        shapes = tuple(map(shape_of, given))
    except Refusal:
        return None
    if any(len(shape) <= _MATRIX or shape[0] != 1 for shape in shapes):
        return None
    if len({len(shape) for shape in shapes}) > 1:
        return None
    return read, shapes, tuple(value.dtype for value in given)


def slots(nodes: Sequence[ir.Node]) -> Together:
    """The first product of an attention: what each instance reads, stacked."""
    feeds = []
    for place in range(len(nodes[0].inputs)):
        values = tuple(value for node in nodes if (value := node.inputs[place]) is not None)
        feeds.append(Stack(values, 0, tuple(map(shape_of, values))))
    return Together(tuple(feeds), (0,), slots=True)


def over_batches(alike: Alike) -> Together:
    """A product whose instances are joined along an axis that it repeats over."""
    lead = alike.lead
    from_end = len(shape_of(lead.pieces[0])) - lead.axis
    if from_end <= _MATRIX:
        raise Refusal("MatMul mixes rows")
    feeds = tuple(_repeated(alike, place, from_end) for place in range(2))
    return Together(feeds, (len(alike.outputs()[0]) - from_end,))


def _repeated(alike: Alike, place: int, from_end: int) -> Feed:
    values = alike.values(place)
    shapes = tuple(map(shape_of, values))
    axis = len(shapes[0]) - from_end
    joined = alike.joined.get(place)
    if joined is not None:
        if (joined.axis, joined.rows) != (axis, alike.rows):
            raise Refusal("MatMul reads rows in two axes")
        return joined
    shared = alike.shared(place)
    if shared is not None and (axis < 0 or shapes[0][axis] == 1):
        return shared
    fits = axis >= 0 and differ_in(shapes, axis)
    if not fits or tuple(shape[axis] for shape in shapes) != alike.rows:
        raise Refusal("MatMul reads operands of other shapes")
    return Stack(values, axis, shapes)
