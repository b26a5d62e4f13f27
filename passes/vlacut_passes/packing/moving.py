"""Rules of operators that move elements: views, slices, and rows of a table."""

from __future__ import annotations

import math

import numpy as np

from vlacut_passes.packing.alike import (
    Alike,
    Feed,
    Refusal,
    Stack,
    Together,
    differ_in,
    shape_of,
    with_rows,
)
from vlacut_passes.packing.reducing import row_axis, shared_rest


def reshape(alike: Alike) -> Together:
    """Rows stay rows where as many elements lie before them, and a row stays one entry."""
    axis, _ = row_axis(alike)
    before = shape_of(alike.joined[0].pieces[0])
    outputs = alike.outputs()
    ahead = math.prod(before[:axis])
    fits = [
        at
        for at in range(len(outputs[0]))
        if math.prod(outputs[0][:at]) == ahead
        and differ_in(outputs, at)
        and tuple(shape[at] for shape in outputs) == alike.rows
    ]
    if not fits:
        raise Refusal("Reshape mixes rows with what lies beside them")
    at = axis if axis in fits and not alike.lead.slots else fits[-1]
    return Together((alike.joined[0], _shape(alike, at)), (at,))


def expand(alike: Alike) -> Together:
    """Other axes are repeated; new ones come in front."""
    axis, rank = row_axis(alike)
    outputs = alike.outputs()
    at = axis + len(outputs[0]) - rank
    if not differ_in(outputs, at) or tuple(shape[at] for shape in outputs) != alike.rows:
        raise Refusal("Expand repeats rows")
    return Together((alike.joined[0], _shape(alike, at)), (at,))


def _shape(alike: Alike, axis: int) -> np.ndarray:
    """The shape of the output, all rows together."""
    return np.array(with_rows(alike.outputs()[0], axis, sum(alike.rows)), np.int64)


def transpose(alike: Alike) -> Together:
    """The axis of the rows goes where it is sent."""
    axis, rank = row_axis(alike)
    found = alike.nodes[0].attributes.get("perm")
    order = list(found.as_ints()) if found is not None else list(range(rank))[::-1]
    return Together((alike.joined[0],), (order.index(axis),))


def unsqueeze(alike: Alike) -> Together:
    """New axes of one entry."""
    axis, rank = row_axis(alike)
    axes = alike.numbers(1)
    new = {one % (rank + len(axes)) for one in axes}
    left = [at for at in range(rank + len(axes)) if at not in new]
    return Together(shared_rest(alike), (left[axis],))


def squeeze(alike: Alike) -> Together:
    """Axes of one entry go, but not that of the rows."""
    axis, rank = row_axis(alike)
    gone = {one % rank for one in alike.numbers(1)} if alike.has(1) else {axis}
    if axis in gone:
        raise Refusal("Squeeze takes the axis of the rows away")
    return Together(shared_rest(alike), (axis - sum(one < axis for one in gone),))


def concat(alike: Alike) -> Together:
    """Beside each other along another axis than the rows'."""
    axis, rank = alike.lead.axis, len(shape_of(alike.lead.pieces[0]))
    if alike.attribute("axis", 0) % rank == axis:
        raise Refusal("Concat puts rows behind each other")
    feeds: list[Feed] = []
    for place in range(len(alike.nodes[0].inputs)):
        joined = alike.joined.get(place)
        shapes = tuple(shape_of(value) for value in alike.values(place))
        if joined is not None and (joined.axis, joined.rows) == (axis, alike.rows):
            feeds.append(joined)
        elif joined is None and differ_in(shapes, axis) and _rows(shapes, axis) == alike.rows:
            feeds.append(Stack(alike.values(place), axis, shapes))
        else:
            raise Refusal("Concat reads other rows")
    return Together(tuple(feeds), (axis,))


def _rows(shapes: tuple[tuple[int, ...], ...], axis: int) -> tuple[int, ...]:
    return tuple(shape[axis] for shape in shapes)


def cut(alike: Alike) -> Together:
    """Slice, along other axes than the rows'."""
    axis, rank = row_axis(alike)
    if not alike.has(3) or axis in {one % rank for one in alike.numbers(3)}:
        raise Refusal("Slice takes some of the rows")
    return Together(shared_rest(alike), (axis,))


def divide(alike: Alike) -> Together:
    """Split, along another axis than the rows'."""
    axis, rank = row_axis(alike)
    if alike.attribute("axis", 0) % rank == axis:
        raise Refusal("Split takes rows apart")
    return Together(shared_rest(alike), (axis,) * len(alike.nodes[0].outputs))


def pad(alike: Alike) -> Together:
    """More entries in other axes than the rows'."""
    axis, rank = row_axis(alike)
    amounts = alike.numbers(1)
    axes = [one % rank for one in alike.numbers(3)] if alike.has(3) else list(range(rank))
    if any(amount and axes[at % len(axes)] == axis for at, amount in enumerate(amounts)):
        raise Refusal("Pad adds rows")
    return Together(shared_rest(alike), (axis,))


def gather(alike: Alike) -> Together:
    """Rows of a table that all read, by indices that are joined; or entries of another axis."""
    if 0 not in alike.joined:
        table = alike.shared(0)
        if table is None:
            raise Refusal("Gather reads another table in each instance")
        over = alike.attribute("axis", 0) % len(shape_of(table))
        return Together((table, alike.joined[1]), (over + alike.joined[1].axis,))
    axis, rank = row_axis(alike)
    over = alike.attribute("axis", 0) % rank
    index = alike.shared(1)
    if over == axis or index is None:
        raise Refusal("Gather takes some of the rows")
    moved = axis if over > axis else axis + len(shape_of(index)) - 1
    return Together((alike.joined[0], index), (moved,))
