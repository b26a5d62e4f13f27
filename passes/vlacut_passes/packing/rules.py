"""The rule of every operator that can be joined row by row, and of products."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vlacut_passes.packing import attending, moving, pointwise, reducing
from vlacut_passes.packing.alike import (
    Alike,
    Moved,
    Refusal,
    Stack,
    Together,
    differ_in,
    shape_of,
)

Rule = Callable[[Alike], Together]

ROW_BY_ROW: Mapping[str, Rule] = {
    **dict.fromkeys(pointwise.ELEMENTWISE, pointwise.elementwise),
    **dict.fromkeys(reducing.NORMALISING, reducing.normalising),
    **dict.fromkeys(reducing.SOFTMAX, reducing.along_axis),
    **dict.fromkeys(reducing.REDUCING, reducing.reducing),
    **dict.fromkeys(reducing.CHOOSING, reducing.choosing),
    "QuantizeLinear": reducing.rounding,
    "DequantizeLinear": reducing.rounding,
    "Reshape": moving.reshape,
    "Expand": moving.expand,
    "Transpose": moving.transpose,
    "Unsqueeze": moving.unsqueeze,
    "Squeeze": moving.squeeze,
    "Concat": moving.concat,
    "Slice": moving.cut,
    "Split": moving.divide,
    "Pad": moving.pad,
    "Gather": moving.gather,
    "MatMul": attending.over_batches,
}
# What these read at a place says in which way they work, so operators that differ there differ;
# of others an operand may be each instance's own.
SETTINGS: Mapping[str, tuple[int, ...]] = {
    "Unsqueeze": (1,),
    "Squeeze": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Pad": (1, 3),
    "Gather": (1,),
    **dict.fromkeys(reducing.REDUCING, (1,)),
}


def product(alike: Alike) -> Together:
    """MatMul or Gemm of rows with one weight, which all read."""
    values = alike.values(0)
    weight = alike.shared(1)
    rank = len(shape_of(values[0]))
    if weight is None or len(shape_of(weight)) != 2:
        raise Refusal("the weight is no matrix")
    if rank < 2:
        raise Refusal("a vector has no rows")
    shapes = tuple(shape_of(value) for value in values)
    joined = alike.joined.get(0)
    if alike.kind == "Gemm" and alike.has(2):
        bias = alike.shared(2)
        if bias is None or (len(shape_of(bias)) == 2 and shape_of(bias)[0] != 1):
            raise Refusal("a bias for each row")
    rest = tuple(
        alike.shared(place) if alike.has(place) else None
        for place in range(1, len(alike.nodes[0].inputs))
    )
    fits = [axis for axis in range(rank - 1) if differ_in(shapes, axis)]
    if joined is not None and not joined.slots and joined.axis < rank - 1:
        return Together((joined, *rest), (joined.axis,))
    if not fits:
        raise Refusal("their inputs differ in more than the number of rows")
    axis = fits[-1]  # also of what is in slots: other products have their rows there
    moved = Moved(joined, axis) if joined is not None and joined.slots else None
    rows = moved if moved is not None and moved.possible else Stack(values, axis, shapes)
    return Together((rows, *rest), (axis,))
