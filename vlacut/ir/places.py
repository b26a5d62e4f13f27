"""Writes of one place: a Where that puts a value at a position that the graph computes.

A decoder whose cache has a fixed size writes its new key as `Where(slots == position, new, cache)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

_SAME_ORDER = ("Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity")  # of elements
_WHOLE = (ir.DataType.INT64, ir.DataType.INT32)


@dataclass(frozen=True)
class Write:
    """What such a Where does.

    Attributes:
        new: what is written, of the shape of `old` but for 1 along the axis.
        old: the tensor.
        position: whole numbers, one for all or one for each of the batch. Nothing is written for
            one that is no place of the tensor.
        shape: of the tensor.
        axis: along which the position counts.
        batch: shape in which positions stand before the axis: all 1, or as the tensor's.
    """

    new: ir.Value
    old: ir.Value
    position: ir.Value
    shape: tuple[int, ...]
    axis: int
    batch: tuple[int, ...]


def written_place(node: ir.Node) -> Write | None:
    """What an operator writes if it writes one place of a tensor; None of others."""
    if (node.domain, node.op_type) != ("", "Where"):
        return None
    found = [_static(value) for value in node.inputs]
    if any(shape is None for shape in found):
        return None
    where, one, shape = (shape or () for shape in found)
    axis = place_axis(where, one, shape)
    if axis is None:
        return None
    chosen, new, old = node.inputs
    assert chosen is not None
    assert new is not None
    assert old is not None
    position = _position(chosen, shape[axis])
    if position is None or _size(position) != math.prod(where[:axis]):
        return None
    return Write(new, old, position, shape, axis, where[:axis])


def place_axis(where: tuple[int, ...], new: tuple[int, ...], old: tuple[int, ...]) -> int | None:
    """The axis along which a condition of this shape chooses where all else is whole.

    None if there is none: the condition has to be of one number for each place of the axis, and for
    each of the batch before it, and what is written of one place.
    """
    if not len(where) == len(new) == len(old):
        return None
    for axis, size in enumerate(old):
        before = zip(where[:axis], old[:axis], strict=True)
        if (
            size > 1
            and where[axis] == size
            and new == (*old[:axis], 1, *old[axis + 1 :])
            and math.prod(where[axis + 1 :]) == 1
            and all(one in (1, many) for one, many in before)
        ):
            return axis
    return None


def _static(value: ir.Value | None) -> tuple[int, ...] | None:
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return tuple(int(size) for size in value.shape.numpy())


def _size(value: ir.Value) -> int:
    shape = _static(value)
    return -1 if shape is None else math.prod(shape)


def _position(chosen: ir.Value, places: int) -> ir.Value | None:
    """The whole number that a condition compares the places 0, 1, ... with; None of others."""
    maker = chosen.producer()
    while maker is not None and not maker.domain and maker.op_type in _SAME_ORDER:
        source = maker.inputs[0]
        maker = source.producer() if source is not None else None
    if maker is None or (maker.domain, maker.op_type) != ("", "Equal"):
        return None
    compared = _static(maker.outputs[0])
    for slots, position in (maker.inputs, maker.inputs[::-1]):
        if slots is None or position is None or position.dtype not in _WHOLE:
            continue
        one_each = _size(position) == 1 or (_static(position) or (0,))[-1] == 1
        if one_each and compared and compared[-1] == places and _counts(slots, places):
            return None if position.const_value is not None else position
    return None


def _counts(slots: ir.Value, places: int) -> bool:
    """Whether they are the numbers of the places, in order."""
    tensor = slots.const_value
    if tensor is None or not slots.is_initializer() or _size(slots) != places:
        return False
    counted = np.asarray(tensor.numpy())
    return counted.shape[-1:] == (places,) and bool((counted.ravel() == np.arange(places)).all())
