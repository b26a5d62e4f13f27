"""`Loop`: shapes of what it makes, and its trips one after the other where shapes need that.

A Loop that stays one is a single operator for the cut. It makes static shapes where every trip
makes the shapes that it is given, and where the trips are a constant if it collects something.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir._cloner import Cloner

from vlacut.errors import ModelError
from vlacut.frontends.branches import forget_graph
from vlacut.frontends.known_shapes import is_known, take_type
from vlacut.ir.folding import follow_constants
from vlacut.ir.rewriting import constant, name_uniquely, replace_value

_MOST_NODES = 1 << 13  # of a graph with its loops unrolled: three times those of a 7B model


@dataclass(frozen=True)
class _Loop:
    """A Loop by ONNX's rules: body(trip, condition, *carried) -> condition, *carried, *made."""

    node: ir.Node

    @property
    def body(self) -> ir.Graph:
        return self.node.attributes["body"].as_graph()

    @property
    def first(self) -> list[ir.Value]:
        """What is carried into the first trip."""
        return [value for value in self.node.inputs[2:] if value is not None]

    @property
    def carried(self) -> list[tuple[ir.Value, ir.Value, ir.Value, ir.Value]]:
        """Of everything carried: at first, in the body, out of the body, out of the loop."""
        inside, behind = self.body.inputs[2:], self.body.outputs[1:]
        return list(zip(self.first, inside, behind, self.node.outputs, strict=False))

    @property
    def collected(self) -> list[tuple[ir.Value, ir.Value]]:
        """Of everything collected: what a trip makes, and what the loop makes of it."""
        count = len(self.first)
        return list(zip(self.body.outputs[1 + count :], self.node.outputs[count:], strict=True))

    @property
    def most(self) -> int | None:
        """Trips at most, where that is a constant."""
        known = _known(self.node.inputs[0])
        return None if known is None else int(known.reshape(-1)[0])

    @property
    def trips(self) -> int | None:
        """Trips, where they are a constant and nothing in the body decides on going on."""
        begins = self.node.inputs[1]
        known = None if begins is None else _known(begins)
        if begins is not None and known is None:
            return None
        if known is not None and not known.all():
            return 0
        again = _source(self.body.outputs[0])
        told = _known(again)
        goes_on = again is self.body.inputs[1] or (told is not None and bool(told.all()))
        return self.most if goes_on else None


def loops_of(model: ir.Model) -> Iterator[ir.Node]:
    """The Loops of a model, an outer one before those in it."""
    nodes = model.graph.all_nodes()
    return (node for node in nodes if node.op_type == "Loop" and not node.domain)


def assume_shapes(model: ir.Model) -> list[ir.Node]:
    """Let what is carried have in a body the shape that it has at first, where none is known.

    The loops where that was done, to be handed to `settle_shapes` when shapes were inferred.
    """
    found = []
    for node in loops_of(model):
        for first, inside, _, _ in _Loop(node).carried:
            if not is_known(inside) and is_known(first):
                take_type(inside, first)
                found.append(node)
    return list(dict.fromkeys(found))


def settle_shapes(model: ir.Model, assumed: list[ir.Node]) -> int:
    """Give Loops the shapes that follow from their bodies; the number of values that got one.

    What was assumed and is not so is forgotten.
    """
    settled = 0
    for node in loops_of(model):
        loop = _Loop(node)
        keeps = all(_alike(inside, behind) for _, inside, behind, _ in loop.carried)
        if not keeps:
            if node in assumed:
                _forget(loop)
            continue
        for first, inside, _, made in loop.carried:
            if not is_known(made) and _alike(first, inside):
                take_type(made, inside)
                settled += 1
        for one, made in loop.collected:
            if not is_known(made) and is_known(one) and loop.trips is not None:
                take_type(made, one, loop.trips)
                settled += 1
    return settled


def unroll_loops(model: ir.Model, where: str) -> int:
    """Put the trips of Loops one after the other, where their number is a constant, in place.

    A loop stays as it is if the graph would have more than `_MOST_NODES` operators, or if a trip
    decides on going on by what is no constant. The number of those that went.
    """
    return sum(_unroll(model, _Loop(node), where) for node in list(loops_of(model)))


def _unroll(model: ir.Model, loop: _Loop, where: str) -> bool:
    inside = sum(1 for _ in loop.body.all_nodes())
    room = _MOST_NODES - sum(1 for _ in model.graph.all_nodes())
    if not any(value.uses() or value.is_graph_output() for value in loop.node.outputs):
        return False
    if loop.trips is not None and loop.trips * inside > room:
        return False
    trips = _Trips(model, loop)
    while trips.goes_on and trips.count < room // max(inside, 1):
        trips.add()
    if trips.goes_on is not False:
        trips.forget()
        return False
    for old, new in zip(list(loop.node.outputs), trips.outputs(), strict=True):
        replace_value(old, new)
    forget_graph(loop.body)
    name_uniquely(model, where)
    return True


class _Trips:
    """The trips of a loop, written before it one after the other.

    Attributes:
        count: of the trips written.
        goes_on: whether there is another one; None where that is no constant.
    """

    def __init__(self, model: ir.Model, loop: _Loop) -> None:
        assert isinstance(loop.node.graph, ir.Graph)
        self._model, self._loop, self._graph = model, loop, loop.node.graph
        self._known: dict[ir.Value, np.ndarray] = {}
        self._nodes: list[ir.Node] = []
        self._carried = loop.first
        self._collected: list[list[ir.Value]] = [[] for _ in loop.collected]
        self.count = 0
        self.goes_on = self._goes_on(loop.node.inputs[1])

    def _goes_on(self, condition: ir.Value | None) -> bool | None:
        if self.count == self._loop.most:
            return False
        if condition is None or self._loop.trips:
            return True
        known = self._known.get(condition, _known(condition))
        return None if known is None else bool(known.all())

    def add(self) -> None:
        """Write one trip."""
        body = self._loop.body
        given = [self._constant(self.count, np.int64), self._constant(True, np.bool_)]
        values: dict[ir.Value, ir.Value | None] = dict(
            zip(body.inputs, [*given, *self._carried], strict=True)
        )
        cloner = Cloner(
            attr_map={},
            value_map=values,
            metadata_props=dict(self._loop.node.metadata_props),
            post_process=self._rename,
            allow_outer_scope_values=True,
        )
        nodes = [cloner.clone_node(node) for node in body]
        self._write(nodes)
        follow_constants(nodes, self._known, self._model.graph.opset_imports.get("", 1))
        again, *made = [values.get(value) or value for value in body.outputs]
        count = len(self._carried)
        self._carried = made[:count]
        for one, all_ in zip(made[count:], self._collected, strict=True):
            all_.append(one)
        self.count += 1
        self.goes_on = self._goes_on(again)

    def outputs(self) -> list[ir.Value]:
        """What the loop makes, after the last trip."""
        behind = [value for _, value in self._loop.collected]
        collected = zip(self._collected, behind, strict=True)
        return [*self._carried, *(self._stack(made, value) for made, value in collected)]

    def forget(self) -> None:
        """Take back what was written."""
        self._graph.remove(self._nodes, safe=True)

    def _stack(self, made: list[ir.Value], value: ir.Value) -> ir.Value:
        """One output of what the trips made; nothing was made where there was no trip."""
        if not made:
            raise ModelError(f"{value.name}: collected by a loop that never runs")
        axis = self._constant([0], np.int64)
        rows = [ir.node("Unsqueeze", [one, axis], name=f"{value.name}_row") for one in made]
        stacked = ir.node("Concat", [row.outputs[0] for row in rows], {"axis": 0}, name=value.name)
        self._write([*rows, stacked])
        return stacked.outputs[0]

    def _write(self, nodes: list[ir.Node]) -> None:
        self._graph.insert_before(self._loop.node, nodes)
        self._nodes += nodes

    def _constant(self, content: int | bool | list[int], dtype: type) -> ir.Value:
        return constant(self._model.graph, ir.tensor(np.array(content, dtype)))

    def _rename(self, node: ir.Node) -> None:
        """The shapes of one trip need not be those of another."""
        node.name = f"{node.name}_trip_{self.count}"
        for value in node.outputs:
            value.name, value.shape = f"{value.name}_trip_{self.count}", None


def _known(value: ir.Value | None) -> np.ndarray | None:
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()


def _source(value: ir.Value) -> ir.Value:
    """What a value is, behind operators that do nothing."""
    maker = value.producer()
    while maker is not None and (maker.op_type, maker.domain) == ("Identity", ""):
        given = maker.inputs[0]
        assert given is not None
        value, maker = given, given.producer()
    return value


def _forget(loop: _Loop) -> None:
    for first, inside, behind, _ in loop.carried:
        if not _alike(inside, behind) and _alike(first, inside):
            inside.shape = None
    for node in loop.body.all_nodes():
        for value in node.outputs:
            value.shape = None


def _alike(one: ir.Value, other: ir.Value) -> bool:
    return is_known(one) and one.shape == other.shape and one.dtype == other.dtype
