"""Operators of several instances that do the same, and what one operator in their place reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Union

import numpy as np
import onnx_ir as ir

Shape = tuple[int, ...]


class Refusal(Exception):
    """Why operators are not joined; it never leaves this room."""


@dataclass(frozen=True, eq=False)
class Joined:
    """A value that holds, along an axis, what a value of each instance held.

    Attributes:
        value: that.
        pieces: what the instances had, in the order of their rows.
        axis: of the rows.
        slots: whether that is the first axis, with one entry for each instance: attention has its
            rows in another, and they are mixed.
    """

    value: ir.Value
    pieces: tuple[ir.Value, ...]
    axis: int
    slots: bool = False

    @property
    def rows(self) -> tuple[int, ...]:
        """How many rows each piece has."""
        return tuple(shape_of(piece)[self.axis] for piece in self.pieces)


@dataclass(frozen=True)
class Stack:
    """Values one behind the other along an axis, each first expanded to a shape."""

    values: tuple[ir.Value, ...]
    axis: int
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Moved:
    """What is joined, with its rows in another axis: no element moves, or every piece has one entry
    in either axis.
    """

    joined: Joined
    axis: int

    @property
    def views(self) -> bool:
        """Whether no element moves: what lies before the axis has one entry in a piece."""
        return self.joined.slots and math.prod(shape_of(self.joined.pieces[0])[: self.axis]) == 1

    @property
    def possible(self) -> bool:
        """Whether it can be had so."""
        shapes = {shape_of(piece) for piece in self.joined.pieces}
        axes = self.joined.axis, self.axis
        one = all(shape[axis] == 1 for shape in shapes for axis in axes)
        return len(shapes) == 1 and (self.views or one)


# What the one operator reads: a value as it is, one that is joined already, one that is to be, or
# a constant.
Feed = Union[ir.Value, Joined, Moved, Stack, np.ndarray, None]


@dataclass(frozen=True)
class Together:
    """One operator in the place of several.

    Attributes:
        feeds: what it reads.
        axes: of the rows, in each of its outputs.
        slots: whether these are slots, see `Joined`.
    """

    feeds: tuple[Feed, ...]
    axes: tuple[int, ...]
    slots: bool = False


@dataclass(frozen=True)
class Alike:
    """Operators of one type and the same attributes, one of each instance.

    Attributes:
        nodes: in the order of the rows.
        joined: by place, what they read that is joined already: the i-th reads the i-th piece.
    """

    nodes: tuple[ir.Node, ...]
    joined: Mapping[int, Joined]

    @property
    def kind(self) -> str:
        """Type of the operators."""
        return self.nodes[0].op_type

    @property
    def lead(self) -> Joined:
        """The first that is joined already."""
        return self.joined[min(self.joined)]

    @property
    def rows(self) -> tuple[int, ...]:
        """How many rows each has."""
        return self.lead.rows

    def values(self, place: int) -> tuple[ir.Value, ...]:
        """What each reads at a place. Refuses where one reads nothing there."""
        found = tuple(
            node.inputs[place] if place < len(node.inputs) else None for node in self.nodes
        )
        if any(value is None for value in found):
            raise Refusal("one of them reads less")
        return found  # type: ignore[return-value]

    def has(self, place: int) -> bool:
        """Whether any reads something at a place."""
        return any(
            place < len(node.inputs) and node.inputs[place] is not None for node in self.nodes
        )

    def shared(self, place: int) -> ir.Value | None:
        """What all of them read at a place; None if it is not the same, or joined."""
        found = self.values(place)
        same = place not in self.joined and all(value is found[0] for value in found)
        return found[0] if same else None

    def numbers(self, place: int) -> tuple[int, ...]:
        """The constant whole numbers that all read at a place. Refuses other values."""
        value = self.shared(place)
        if value is None or value.const_value is None:
            raise Refusal(f"{self.kind}: what it reads at {place} is no constant of all")
        return tuple(int(one) for one in value.const_value.numpy().reshape(-1))

    def attribute(self, name: str, default: int) -> int:
        """A whole number that is an attribute."""
        found = self.nodes[0].attributes.get(name)
        return default if found is None else found.as_int()

    def outputs(self, index: int = 0) -> tuple[Shape, ...]:
        """Shape of an output of each."""
        return tuple(shape_of(node.outputs[index]) for node in self.nodes)


def shape_of(value: ir.Value) -> Shape:
    """The static shape of a value. Refuses others."""
    if value.shape is None or not value.shape.is_static():
        raise Refusal(f"the shape of {value.name} is not known")
    return tuple(int(str(size)) for size in value.shape)


def differ_in(shapes: Sequence[Shape], axis: int) -> bool:
    """Whether shapes are alike in all but one axis."""
    without = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    return len(without) == 1 and len({len(shape) for shape in shapes}) == 1


def with_rows(shape: Shape, axis: int, rows: int) -> Shape:
    """A shape with another number of rows."""
    return (*shape[:axis], rows, *shape[axis + 1 :])
