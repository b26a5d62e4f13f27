"""The graph while operators are joined: one in the place of several, and rows taken apart again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from vlacut.ir.graphs import node_inputs
from vlacut.ir.rewriting import constant, copy_of
from vlacut_passes.packing.alike import (
    Alike,
    Feed,
    Joined,
    Moved,
    Shape,
    Stack,
    Together,
    shape_of,
    with_rows,
)

_ROUNDING = ("QuantizeLinear", "DequantizeLinear")


class Joining:
    """Puts operators in a new order; what is joined is taken apart where somebody reads a piece.

    Args:
        graph: whose operators they are. `finish` leaves it in the new order.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._order: list[ir.Node] = []
        self._replaced: list[ir.Node] = []
        self._apart: dict[ir.Value, ir.Value] = {}  # piece -> what a Split makes of it
        self._stacks: dict[tuple[object, ...], ir.Value] = {}
        self.piece: dict[ir.Value, tuple[Joined, int]] = {}

    def keep(self, node: ir.Node) -> None:
        """An operator that stays as it is comes next."""
        for value in node_inputs(node):
            self._real(value, node)
        self._order.append(node)

    def join(self, alike: Alike, together: Together) -> None:
        """One operator in the place of several comes next."""
        first = alike.nodes[0]
        inputs = [self._fed(feed, first) for feed in together.feeds]
        made = copy_of(first, inputs, [ir.Value() for _ in first.outputs])
        self._order.append(made)
        self._replaced += alike.nodes
        for index, (value, axis) in enumerate(zip(made.outputs, together.axes, strict=True)):
            pieces = tuple(node.outputs[index] for node in alike.nodes)
            if not any(piece.uses() or piece.is_graph_output() for piece in pieces):
                continue
            joined = Joined(value, pieces, axis, together.slots)
            like = pieces[0]
            value.type, value.name = like.type, f"{like.name}_packed"
            value.shape = ir.Shape(with_rows(shape_of(like), axis, sum(joined.rows)))
            self.piece.update({piece: (joined, at) for at, piece in enumerate(pieces)})

    def finish(self) -> None:
        """Leave the graph in the new order, with those operators replaced."""
        graph = self._graph
        for value in graph.outputs:
            if value in self.piece:
                self._real(value, self._replaced[0])
        for piece, made in self._apart.items():
            if piece.is_graph_output():
                made.name, piece.name = piece.name, f"{piece.name}_apart"
                for place, value in enumerate(graph.outputs):
                    if value is piece:
                        graph.outputs[place] = made
            ir.convenience.replace_all_uses_with(piece, made)
        graph.remove(self._replaced, safe=True)
        graph.remove([node for node in self._order if node.graph is graph])
        graph.extend(self._order)

    def _fed(self, feed: Feed, like: ir.Node) -> ir.Value | None:
        if isinstance(feed, Joined):
            return feed.value
        if isinstance(feed, Moved):
            return self._moved(feed, like)
        if isinstance(feed, Stack):
            return self._stacked(feed, like)
        if isinstance(feed, np.ndarray):
            return constant(self._graph, ir.tensor(feed))
        return feed if feed is None else self._real(feed, like)

    def _moved(self, moved: Moved, like: ir.Node) -> ir.Value:
        joined, axis = moved.joined, moved.axis
        if moved.views:
            rows = sum(shape_of(piece)[axis] for piece in joined.pieces)
            return self._viewed(
                joined.value, with_rows(shape_of(joined.pieces[0]), axis, rows), like
            )
        order = list(range(len(shape_of(joined.value))))
        order[axis], order[joined.axis] = order[joined.axis], order[axis]
        shape = tuple(shape_of(joined.value)[at] for at in order)
        (made,) = self._new("Transpose", [joined.value], {"perm": order}, like, [shape])
        return made

    def _stacked(self, stack: Stack, like: ir.Node) -> ir.Value:
        key = (*map(id, stack.values), stack.axis, stack.shapes)
        if key not in self._stacks and (moved := self._other_axis(stack)) is not None:
            self._stacks[key] = self._moved(moved, like)
        if key not in self._stacks and (rounded := self._rounded(stack, like)) is not None:
            self._stacks[key] = rounded
        if key not in self._stacks:
            values = [
                self._expanded(self._real(value, like), shape, like)
                for value, shape in zip(stack.values, stack.shapes, strict=True)
            ]
            rows = sum(shape[stack.axis] for shape in stack.shapes)
            shape = with_rows(stack.shapes[0], stack.axis, rows)
            (made,) = self._new("Concat", values, {"axis": stack.axis}, like, [shape])
            self._stacks[key] = made
        return self._stacks[key]

    def _other_axis(self, stack: Stack) -> Moved | None:
        """What is to be stacked, if it is all that is joined already, a row of each instance."""
        joined, _ = self.piece.get(stack.values[0], (None, 0))
        if joined is None or joined.pieces != stack.values:
            return None
        if any(shape != shape_of(joined.pieces[0]) for shape in stack.shapes):
            return None
        moved = Moved(joined, stack.axis)
        return moved if moved.possible else None

    def _rounded(self, stack: Stack, like: ir.Node) -> ir.Value | None:
        """Of values that went through fewer bits by the same scale: what was rounded, one behind
        the other, and then rounded. So that an executor still finds both beside the product.
        """
        makers = [value.producer() for value in stack.values]
        first = makers[0]
        if first is None or first.op_type not in _ROUNDING or first.inputs[1] is None:
            return None
        if set(first.attributes) - {"axis"}:
            return None
        look = first.op_type, list(first.inputs[1:]), shape_of(first.inputs[1]) in ((), (1,))
        if any(one is None or (one.op_type, list(one.inputs[1:]), True) != look for one in makers):
            return None
        sources = tuple(one.inputs[0] for one in makers if one is not None)
        if tuple(shape_of(value) for value in sources if value is not None) != stack.shapes:
            return None
        given = tuple(value for value in sources if value is not None)
        joined = self._stacked(Stack(given, stack.axis, stack.shapes), like)
        rest = [value for value in first.inputs[1:] if value is not None]
        (made,) = self._new(first.op_type, [joined, *rest], {}, first, [shape_of(joined)])
        made.type = stack.values[0].type
        return made

    def _viewed(self, value: ir.Value, shape: Shape, like: ir.Node) -> ir.Value:
        to = constant(self._graph, ir.tensor(np.array(shape, np.int64)))
        (made,) = self._new("Reshape", [value, to], {}, like, [shape])
        return made

    def _expanded(self, value: ir.Value, shape: Shape, like: ir.Node) -> ir.Value:
        if shape_of(value) == shape:
            return value
        to = constant(self._graph, ir.tensor(np.array(shape, np.int64)))
        (made,) = self._new("Expand", [value, to], {}, like, [shape])
        return made

    def _real(self, value: ir.Value, like: ir.Node) -> ir.Value:
        """A value that somebody can read: of a piece, what its rows are when taken apart."""
        if value not in self.piece:
            return value
        if value not in self._apart:
            joined, _ = self.piece[value]
            sizes = constant(self._graph, ir.tensor(np.array(joined.rows, np.int64)))
            shapes = [shape_of(piece) for piece in joined.pieces]
            made = self._new("Split", [joined.value, sizes], {"axis": joined.axis}, like, shapes)
            self._apart.update(zip(joined.pieces, made, strict=True))
        return self._apart[value]

    def _new(
        self,
        kind: str,
        inputs: list[ir.Value],
        attributes: Mapping[str, int | list[int]],
        like: ir.Node,
        shapes: Iterable[Shape],
    ) -> list[ir.Value]:
        """An operator in the place of the model where another one is; what it makes."""
        sizes = list(shapes)
        node = ir.node(kind, inputs, attributes, num_outputs=len(sizes))
        node.name = f"{like.name}_{kind.lower()}"
        node.metadata_props.update(like.metadata_props)
        for value, shape in zip(node.outputs, sizes, strict=True):
            value.type, value.shape = inputs[0].type, ir.Shape(shape)
        self._order.append(node)
        return list(node.outputs)
