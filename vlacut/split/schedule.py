"""The schedule of a cut: parts in order, with the transfers and moves between them.

A tensor is sent as soon as it exists, once per production at most, and only in the trips in which
the other side reads it. Tensors of one part that go the same way in the same trips go together. The
cloud hears of every step it takes part in before it has anything to do in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from vlacut.ir.dataflow import Dataflow, Use, key_of
from vlacut.ir.program import Producer
from vlacut.plans.instructions import (
    Instruction,
    Loop,
    Move,
    Run,
    Transfer,
    Trips,
    steps,
)
from vlacut.plans.plan import Part
from vlacut.pricing.coding import Choice, Choices
from vlacut.pricing.cost_graph import When
from vlacut.side import Side
from vlacut.tensor.codec import Codec


def make_schedule(
    dataflow: Dataflow, sides: Sequence[Side], parts: Sequence[Part], choices: Choices
) -> tuple[Instruction, ...]:
    """The schedule of these parts, given in order, of a program with a side a task.

    A tensor that crosses has the codec of its choice.
    """
    writer = _Writer(dataflow, sides, choices)
    schedule: list[Instruction] = list(writer.observation())
    for index, phase in enumerate(dataflow.program.phases):
        schedule += writer.entry(index)
        body = writer.body(index, [part for part in parts if part.phase == phase.name])
        schedule += body if phase.trips == 1 else [Loop(phase.trips, tuple(body))]
    return told(schedule, [part.name for part in parts if part.side is Side.CLOUD])


def told(schedule: Sequence[Instruction], in_cloud: Collection[str]) -> tuple[Instruction, ...]:
    """A schedule in which the edge tells the cloud of the step before that has anything to do.

    Where the cloud begins with what depends on weights alone, or with what reads nothing of the
    edge's, this is a transfer without tensors.

    Args:
        schedule: of a step.
        in_cloud: names of the cloud's parts.
    """
    for step in steps(schedule, between=False):
        item = step.instruction
        if isinstance(item, Transfer) and item.source is Side.EDGE:
            break
        if isinstance(item, Run) and item.part in in_cloud:
            return (Transfer((), Side.EDGE), *schedule)
    return tuple(schedule)


class _Writer:
    def __init__(self, dataflow: Dataflow, sides: Sequence[Side], choices: Choices) -> None:
        self._dataflow = dataflow
        self._choices = choices
        self._program = dataflow.program
        self._sides = sides
        self._readers = dataflow.readers

    def observation(self) -> Iterator[Transfer]:
        """What the cloud reads of the observation, one transfer per phase that reads it first.

        So the first phase can start before the last phase's inputs are across.
        """
        by_phase: dict[int, list[str]] = {}
        for spec in self._program.inputs:
            there = [use for use in self._readers.get(spec.name, ()) if self._on(use, Side.CLOUD)]
            if there:
                first = min(self._dataflow.phases[use.consumer] for use in there)
                by_phase.setdefault(first, []).append(spec.name)
        for _, names in sorted(by_phase.items()):
            yield self._transfer(names, Side.EDGE, Trips.ALL)

    def entry(self, phase: int) -> list[Move]:
        """The initial value of every carried input."""
        return [
            Move(key_of(self._program, self._program.source(phase, name)), target, sides)
            for name, target, sides in self._carried_inputs(phase)
        ]

    def body(self, phase: int, parts: Sequence[Part]) -> list[Run | Transfer | Move]:
        """One trip."""
        trips = self._program.phases[phase].trips
        body: list[Run | Transfer | Move] = []
        for part in parts:
            body += (Run(part.name), *self._transfers(part, trips))
        if trips == 1:
            return body  # there is no next trip to carry anything to
        for name, target, sides in self._carried_inputs(phase):
            output = self._program.carried_output(phase, name)
            assert output is not None
            carried = key_of(self._program, Producer(phase, output))
            body.append(Move(carried, target, sides, Trips.BEFORE_LAST))
        return body

    def _transfers(self, part: Part, trips: int) -> Iterator[Transfer]:
        groups: dict[Trips, list[str]] = {}
        for key in part.outputs:
            away = [use.when for use in self._readers[key] if self._on(use, part.side.other)]
            if away:
                groups.setdefault(_trips(away, trips), []).append(key)
        for when in Trips:
            if when in groups:
                yield self._transfer(groups[when], part.side, when)

    def _transfer(self, keys: Sequence[str], source: Side, trips: Trips) -> Transfer:
        codecs = tuple(self._choices.get(key, Choice()).codec(source) for key in keys)
        coded = any(codec is not Codec.NONE for codec in codecs)
        return Transfer(tuple(keys), source, trips, codecs if coded else ())

    def _carried_inputs(self, phase: int) -> Iterator[tuple[str, str, tuple[Side, ...]]]:
        """Every carried input that is read: its name, its key, and the sides that read it."""
        found = self._program.phases[phase]
        for name in found.input_names:
            output = self._program.carried_output(phase, name)
            if output is None:
                continue
            key = key_of(self._program, Producer(phase, output))
            sides = {
                self._sides[use.consumer]
                for use in self._readers.get(key, ())
                if use.when is When.CARRIED and use.target == name
            }
            if sides:
                yield name, f"{found.name}/{name}", tuple(side for side in Side if side in sides)

    def _on(self, use: Use, side: Side) -> bool:
        return self._sides[use.consumer] is side


def _trips(reads: Sequence[When], trips: int) -> Trips:
    """The trips in which a value is read, given how it is."""
    if trips == 1 or When.WITHIN in reads or len(set(reads)) > 1:
        return Trips.ALL
    return Trips.LAST if reads[0] is When.INITIAL else Trips.BEFORE_LAST
