"""The schedule of a cut: parts in order, with the transfers and moves between them.

A tensor is sent as soon as it exists, once per production at most, and only in the trips in which
the other side reads it. Tensors of one part that go the same way in the same trips go together. The
cloud hears of every step it takes part in before it has anything to do in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from vlacut.hardware import Side
from vlacut.ir.dataflow import Dataflow
from vlacut.ir.program import Producer
from vlacut.ir.uses import Use, key_of
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
from vlacut.tensor.codec import Codec


def make_schedule(
    dataflow: Dataflow, sides: Sequence[Side], parts: Sequence[Part], choices: Choices
) -> tuple[Instruction, ...]:
    """The schedule of these parts, given in order, of a program with a side a task.

    A tensor that crosses has the codec of its choice.
    """
    writer = _Writer(dataflow, sides, _step_uses(dataflow, on_reset=False), choices)
    body = [*_phases(writer, dataflow, parts, on_reset=False), *writer.later()]
    return (*told(body, [part.name for part in parts if part.side is Side.CLOUD]), *writer.kept())


def make_first(
    dataflow: Dataflow, sides: Sequence[Side], parts: Sequence[Part]
) -> tuple[Instruction, ...]:
    """What runs on reset, before the schedule of an episode's first step. Nothing is coded."""
    if not any(phase.on_reset for phase in dataflow.program.phases):
        return ()
    writer = _Writer(dataflow, sides, _step_uses(dataflow, on_reset=True), {})
    body = list(_phases(writer, dataflow, parts, on_reset=True))
    return (
        *told(body, [part.name for part in parts if part.side is Side.CLOUD]),
        *writer.made_on_reset(),
    )


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


def _step_uses(dataflow: Dataflow, on_reset: bool) -> list[Use]:
    return [use for use in dataflow.uses if dataflow.happens_on_reset(use) is on_reset]


def _phases(
    writer: _Writer, dataflow: Dataflow, parts: Sequence[Part], on_reset: bool
) -> Iterator[Instruction]:
    yield from writer.observation()
    for index, phase in enumerate(dataflow.program.phases):
        if phase.on_reset is on_reset:
            yield from writer.entry(index)
            body = writer.body(index, [part for part in parts if part.phase == phase.name])
            yield from body if phase.trips == 1 else [Loop(phase.trips, tuple(body))]


class _Writer:
    def __init__(
        self,
        dataflow: Dataflow,
        sides: Sequence[Side],
        uses: Iterable[Use],
        choices: Choices,
    ) -> None:
        readers: dict[str, list[Use]] = {}
        for use in uses:
            readers.setdefault(use.key, []).append(use)
        self._dataflow = dataflow
        self._choices = choices
        self._program = dataflow.program
        self._sides = sides
        self._readers: Mapping[str, Sequence[Use]] = readers

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
        for key in part.outputs:  # of what is read by the same phase's parts, or later
            away = [use.when for use in self._away(key) if use.when is not When.NEXT]
            if away:
                groups.setdefault(_trips(away, trips), []).append(key)
        for when in Trips:
            if when in groups:
                yield self._transfer(groups[when], part.side, when)

    def later(self) -> Iterator[Transfer]:
        """What the other side reads of state in the next step, and nobody there in this one."""
        found: dict[Side, list[str]] = {}
        for key in self._readers:
            away = {use.when for use in self._away(key)}
            if When.NEXT in away and not away & {When.WITHIN, When.INITIAL}:
                found.setdefault(self._home(key), []).append(key)
        for side in Side:
            if side in found:
                yield Transfer(tuple(found[side]), side, later=True)

    def kept(self) -> Iterator[Move]:
        """What either side has of the next step's state."""
        for state in self._dataflow.states:
            made = self._program.state_source(state)
            if made is not None:
                yield self._keep(made, state.input, When.NEXT)

    def made_on_reset(self) -> Iterator[Move]:
        """What either side has of the state that was made on reset."""
        for state in self._dataflow.states:
            made = self._program.reset_source(state.input)
            if made is not None:
                yield self._keep(made, state.input, When.RESET)

    def _keep(self, made: Producer, target: str, when: When) -> Move:
        key = key_of(self._program, made)
        crosses = any(use.when is not When.CARRIED for use in self._away(key))
        home = self._home(key)
        return Move(key, target, tuple(Side) if crosses else (home,))

    def _home(self, key: str) -> Side:
        return self._sides[self._readers[key][0].producer]

    def _away(self, key: str) -> list[Use]:
        """Uses on the other side than the producer's."""
        return [use for use in self._readers.get(key, ()) if not self._on(use, self._home(key))]

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
    if trips == 1 or When.WITHIN in reads or (When.CARRIED in reads and len(set(reads)) > 1):
        return Trips.ALL
    return Trips.BEFORE_LAST if reads[0] is When.CARRIED else Trips.LAST
