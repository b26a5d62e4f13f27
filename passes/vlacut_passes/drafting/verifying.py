"""A prefill and all trips of a loop as one graph, in which a trip reads a drafted token."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from vlacut.ir.extracting import Extract
from vlacut.ir.program import Phase
from vlacut_passes.drafting.following import Following
from vlacut_passes.drafting.resuming import Resuming
from vlacut_passes.drafting.token_loop import TokenLoop

_INT64 = int(ir.DataType.INT64)


class DraftNames(NamedTuple):
    """Of what drafting adds to a program.

    Attributes:
        phase: that takes the place of the prefill and the loop.
        draft: the input that holds a token for every trip, [trips, shape of the token].
        said: the output that holds the tokens that the trips read in truth, likewise.
        accepted: the output that holds how many drafts those begin with.
    """

    phase: str
    draft: str
    said: str
    accepted: str


def drafted_phase(
    found: TokenLoop,
    names: DraftNames,
    kept: tuple[list[str], ...],
    left: float,
    following: Following,
) -> Phase:
    """The phase that takes the place of the prefill and the loop.

    Args:
        found: the loop.
        names: of what is new.
        kept: outputs of the prefill and of the loop that are read elsewhere.
        left: how many trips are expected to run again, for the price.
        following: what makes the drafts of the next step.
    """
    made = Extract(found.prefill.model)
    graph = found.prefill.model.graph
    for value in graph.inputs:
        made.stand_in(value, made.input(str(value.name), value))
    for node in graph:
        made.copy(node)
    first = {str(value.name): made.value(value) for value in graph.outputs}
    trips = _Trips(found, made, first, names.draft, kept[1])
    resuming = Resuming(found, made, trips.states, trips.invariant, left)
    last = resuming.outputs(trips.accepted, trips.said, kept[1], names.said)
    outputs = {one: first[one] for one in kept[0] if one not in kept[1]}
    outputs |= {names.accepted: trips.accepted, **last}
    outputs |= following.outputs(made, last[names.said])
    return made.phase(names.phase, outputs)


class _Trips:
    """The trips of a loop one after the other, each with its drafted token.

    Attributes:
        states: what the loop holds before each trip, and behind the last: by input what is
            carried, by output what is not and is read later.
        invariant: what all trips read, by input.
        said: the token that each trip would have read, had those before it been right.
        accepted: how many drafts from the first on are the tokens that the loop says.
    """

    def __init__(
        self,
        found: TokenLoop,
        made: Extract,
        first: dict[str, ir.Value],
        draft: str,
        kept: list[str],
    ) -> None:
        self._found, self._made, self._kept = found, made, kept
        graph, carried = found.loop.model.graph, found.loop.carried
        trips, shape = found.loop.trips, found.shape
        like = found.value
        given = made.input(draft, like, (trips, *shape))
        assert like.dtype is not None
        kind = like.dtype.numpy()
        low, high = (made.constant(np.array(one, kind)) for one in (0, found.words - 1))
        self._drafts = made.add("Clip", [given, low, high], like, (trips, *shape))
        read = {
            name: first[name] if name in first else made.input(name, value)
            for name, value in ((str(value.name), value) for value in graph.inputs)
        }
        fed = set(carried.values())
        self.invariant = {one: value for one, value in read.items() if one not in fed}
        self.states = [{one: read[one] for one in carried.values()}]
        for trip in range(trips):
            self.states.append(self._trip(trip))
        self.states[0] |= {
            one: value for one, value in self.states[1].items() if one not in self.states[0]
        }
        self.said = self._stacked([state[found.token] for state in self.states[:-1]])
        self.accepted = self._count()

    def _trip(self, number: int) -> dict[str, ir.Value]:
        found, made = self._found, self._made
        index = made.constant(np.array(number, np.int64))
        draft = made.add("Gather", [self._drafts, index], found.value, found.shape, axis=0)
        held = {**self.invariant, **self.states[-1], found.token: draft}
        for value in found.loop.model.graph.inputs:
            made.stand_in(value, held[str(value.name)])
        for node in found.loop.model.graph:
            made.copy(node)
        carried = found.loop.carried
        return {
            carried.get(str(value.name), str(value.name)): made.value(value)
            for value in found.loop.model.graph.outputs
            if value.name in carried or value.name in self._kept
        }

    def _stacked(self, tokens: list[ir.Value]) -> ir.Value:
        made, shape = self._made, self._found.shape
        axis = made.constant(np.array([0], np.int64))
        rows = [made.add("Unsqueeze", [one, axis], one, (1, *shape)) for one in tokens]
        return made.add("Concat", rows, tokens[0], (len(rows), *shape), axis=0)

    def _count(self) -> ir.Value:
        """The length of the longest prefix of drafts that is what the loop says."""
        made, trips, shape = self._made, self._found.loop.trips, self._found.shape
        same = made.add("Equal", [self._drafts, self.said], self.said, None)
        same.type = ir.TensorType(ir.DataType.BOOL)
        hits = made.add("Cast", [same], self.said, None, to=_INT64)
        hits.type = ir.TensorType(ir.DataType.INT64)
        if shape:
            axes = made.constant(np.arange(1, len(shape) + 1))
            hits = made.add("ReduceMin", [hits, axes], hits, (trips,), keepdims=0)
        one, zero = (made.constant(np.array(number, np.int64)) for number in (1, 0))
        wrong = made.add("Sub", [one, hits], hits, None)
        before = made.add("CumSum", [wrong, zero], hits, None)
        right = made.add("Equal", [before, zero], hits, None)
        right.type = ir.TensorType(ir.DataType.BOOL)
        counted = made.add("Cast", [right], hits, None, to=_INT64)
        axes = made.constant(np.array([0], np.int64))
        return made.add("ReduceSum", [counted, axes], hits, (), keepdims=0)
