"""How a loop goes on behind the drafts that were right: trip by trip, if any trips are left.

An If holds both ends. Where all drafts were right, what the last trip made is there already. Else
the state behind the last right one is taken, and a Loop runs the trips that are left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from vlacut.ir.annotation import LOOP_TRIPS
from vlacut.ir.extracting import Extract
from vlacut.ir.graphs import operators
from vlacut.ir.rewriting import copy_of
from vlacut_passes.drafting.token_loop import TokenLoop

State = Mapping[str, ir.Value]


class Resuming:
    """Writes the end of a drafted loop.

    Args:
        found: the loop.
        made: the graph, with the drafted trips in it.
        states: before each trip, and behind the last.
        invariant: what all trips read, by input of the loop.
        left: how many trips are expected to be left.
    """

    def __init__(
        self,
        found: TokenLoop,
        made: Extract,
        states: Sequence[State],
        invariant: State,
        left: float,
    ) -> None:
        self._left = left
        self._found, self._made, self._states, self._invariant = found, made, states, invariant
        self._trips = found.loop.trips
        self._names = list(states[0])
        self._opsets = dict(made.graph.opset_imports)
        self._count = 0

    def outputs(
        self, accepted: ir.Value, tokens: ir.Value, kept: Sequence[str], said: str
    ) -> dict[str, ir.Value]:
        """The loop's outputs that are read later, and the tokens that its trips read, by name."""
        made, carried = self._made, self._found.loop.carried
        wanted = [carried.get(one, one) for one in kept]
        every = made.constant(np.array(self._trips, np.int64))
        none_left = self._compare(accepted, every)
        choices = [self._compare(accepted, self._number(trip)) for trip in range(self._trips - 1)]
        left = made.add("Sub", [every, accepted], accepted, None)
        done = self._branch([], [*(self._states[-1][one] for one in wanted), tokens])
        resumed, ends = self._resumed(choices, accepted, left, tokens)
        rest = self._branch(resumed, [*(ends[one] for one in wanted), ends[""]], own=True)
        chosen = self._if(none_left, done, rest)
        made.graph.append(chosen)
        return dict(zip([*kept, said], chosen.outputs, strict=True))

    def _number(self, number: int) -> ir.Value:
        return self._made.constant(np.array(number, np.int64))

    def _compare(self, one: ir.Value, other: ir.Value) -> ir.Value:
        same = self._made.add("Equal", [one, other], one, ())
        same.type = ir.TensorType(ir.DataType.BOOL)
        return same

    def _branch(
        self, nodes: Sequence[ir.Node], values: Sequence[ir.Value], own: bool = False
    ) -> ir.Graph:
        """A branch that makes values: with `own`, those of its own operators."""
        ends = [self._node("Identity", [value], [value]) for value in values if not own]
        outputs = list(values) if own else [node.outputs[0] for node in ends]
        return self._graph([], outputs, [*nodes, *ends])

    def _graph(
        self, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value], nodes: Sequence[ir.Node]
    ) -> ir.Graph:
        self._count += 1
        name = f"{self._found.loop.name}_{self._count}"
        return ir.Graph(inputs, outputs, nodes=nodes, opset_imports=self._opsets, name=name)

    def _node(
        self,
        kind: str,
        inputs: Sequence[ir.Value | None],
        like: Sequence[ir.Value],
        attributes: Mapping[str, ir.Graph | int] | None = None,
    ) -> ir.Node:
        """An operator that makes values like others."""
        node = ir.node(kind, inputs, dict(attributes or {}), num_outputs=len(like))
        for value, other in zip(node.outputs, like, strict=True):
            value.type, value.shape = other.type, other.shape
        return node

    def _if(self, condition: ir.Value, then: ir.Graph, other: ir.Graph) -> ir.Node:
        branches = {"then_branch": then, "else_branch": other}
        return self._node("If", [condition], list(then.outputs), branches)

    def _choice(self, choices: Sequence[ir.Value], trip: int) -> ir.Node:
        """What takes the state before a trip, or, by the choices, before a later one."""
        here = self._branch([], [self._states[trip][one] for one in self._names])
        if trip == self._trips - 2:
            last = self._branch([], [self._states[trip + 1][one] for one in self._names])
            return self._if(choices[trip], here, last)
        later = self._choice(choices, trip + 1)
        return self._if(choices[trip], here, self._branch([later], later.outputs, own=True))

    def _resumed(
        self, choices: Sequence[ir.Value], accepted: ir.Value, left: ir.Value, tokens: ir.Value
    ) -> tuple[list[ir.Node], dict[str, ir.Value]]:
        """Operators that run the trips that are left, and what these leave, by name."""
        nodes: list[ir.Node] = []
        begun = [self._states[0][one] for one in self._names]
        if self._trips > 1:
            nodes = [self._choice(choices, 0)]
            begun = list(nodes[0].outputs)
        going = self._made.constant(np.array(True))
        body = self._body(accepted, tokens)
        loop = self._node("Loop", [left, going, *begun, tokens], [*begun, tokens], {"body": body})
        LOOP_TRIPS.put(loop, self._left)
        return [*nodes, loop], dict(zip([*self._names, ""], loop.outputs, strict=True))

    def _body(self, accepted: ir.Value, tokens: ir.Value) -> ir.Graph:
        """One trip, with the token that the one before said."""
        trip = ir.Value(type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
        going = ir.Value(type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
        held = {one: _like(value) for one, value in self._states[0].items()}
        said = _like(tokens)
        here = {**self._invariant, **{one: held[one] for one in self._fed}}
        nodes, made = self._copied(here)
        carried = self._found.loop.carried
        following = {
            carried.get(str(value.name), str(value.name)): made[value]
            for value in self._found.loop.model.graph.outputs
        }
        more = self._node("Identity", [going], [going])
        place = self._node("Add", [trip, accepted], [trip])
        rank = (self._trips, *(1,) * len(self._found.shape))
        rows = self._made.constant(np.arange(self._trips).reshape(rank))
        this = self._node("Equal", [rows, place.outputs[0]], [rows])
        this.outputs[0].type = ir.TensorType(ir.DataType.BOOL)
        noted = self._node("Where", [this.outputs[0], held[self._found.token], said], [tokens])
        ends = [self._node("Identity", [following[one]], [following[one]]) for one in self._names]
        nodes += [more, place, this, noted, *ends]
        outputs = [more.outputs[0], *(node.outputs[0] for node in ends), noted.outputs[0]]
        return self._graph([trip, going, *held.values(), said], outputs, nodes)

    @property
    def _fed(self) -> list[str]:
        return list(self._found.loop.carried.values())

    def _copied(self, here: State) -> tuple[list[ir.Node], dict[ir.Value, ir.Value]]:
        """The loop's operators; what depends on weights alone stays outside of the body."""
        graph = self._found.loop.model.graph
        live = set(operators(graph))
        made = {value: here[str(value.name)] for value in graph.inputs}
        nodes = []
        for node in graph:
            if node not in live:
                continue
            read = [value if value is None else self._read(value, made) for value in node.inputs]
            outputs = [_like(value) for value in node.outputs]
            nodes.append(copy_of(node, read, outputs))
            made.update(zip(node.outputs, outputs, strict=True))
        return nodes, made

    def _read(self, value: ir.Value, made: Mapping[ir.Value, ir.Value]) -> ir.Value:
        return made[value] if value in made else self._made.value(value)


def _like(value: ir.Value) -> ir.Value:
    return ir.Value(type=value.type, shape=value.shape)
