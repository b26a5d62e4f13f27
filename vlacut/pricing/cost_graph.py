"""A program flattened for pricing: tasks, what flows between them, and what waits for what.

A task is an operator of a phase, a flow a value that would have to cross the link if its producer
and one of its consumers were on different sides. It knows no operator set, so that anything that
can be cut can be priced, see `vlacut.pricing.price`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import chain

import numpy as np

from vlacut.hardware import Link, Power, Side
from vlacut.pricing.columns import FREE, Coded, Columns
from vlacut.pricing.regions import ParallelRegion, find_regions
from vlacut.tensor.codec import Codec, Coding
from vlacut.tensor.numerics import Floats, Ints


@dataclass(frozen=True)
class Task:
    """An operator of a phase (or the observation, or the action), as the price sees it.

    Attributes:
        name: for messages.
        phase: index of its phase; -1 for the observation, `len(trips)` for the action.
        edge_s: seconds of one execution on the edge.
        cloud_s: seconds of one execution in the cloud.
        weights: indices into `CostGraph.weights`.
        pinned: the side it must be on, or None.
    """

    name: str
    phase: int
    edge_s: float
    cloud_s: float
    weights: tuple[int, ...] = ()
    pinned: Side | None = None


@dataclass(frozen=True)
class Flow:
    """A value that crosses whenever one of its consumers is not on its producer's side.

    A value that is produced every trip is up to two flows: its productions before the last trip
    (read in the trip, or carried into the next one), and its last (read in the trip, by a later
    phase, or as state by the next control step). So each flow crosses as a whole or not at all,
    once per direction at most.

    Attributes:
        name: `phase/value`.
        producer: index of the task.
        consumers: indices of the tasks that read it, sorted.
        nbytes: of one production.
        count: productions in a control step.
        before_last: whether these are the productions before the last trip.
        up, down: how it is coded where it crosses in that direction; None where it goes as it is.
        later: those consumers that read it in the next control step alone: they make it cross, and
            nothing in this step waits for that.
        edge_border_s, cloud_border_s: seconds that a side which computes in another type than what
            crosses takes to convert a production, whichever way it crosses and however it is coded.
    """

    name: str
    producer: int
    consumers: tuple[int, ...]
    nbytes: int
    count: int
    before_last: bool = False
    up: Coding | None = None
    down: Coding | None = None
    later: tuple[int, ...] = ()
    edge_border_s: float = 0.0
    cloud_border_s: float = 0.0

    def awaited_by(self, task: int) -> bool:
        """Whether a task reads it in the step that makes it."""
        return task in self.consumers and task not in self.later

    def coding(self, source: Side) -> Coding:
        """What a production comes to where it crosses from a side."""
        found = self.up if source is Side.EDGE else self.down
        return found or Coding(Codec.NONE, self.nbytes, 0.0, 0.0)

    def crossing_s(self, source: Side, link: Link) -> float:
        """Seconds that crossing from a side takes in a control step: link, codec, conversions."""
        coding = self.coding(source)
        rate = link.up if source is Side.EDGE else link.down
        codec_s = coding.edge_s + coding.cloud_s + self.edge_border_s + self.cloud_border_s
        return coding.nbytes * self.count / rate + codec_s * self.count


class When(str, Enum):
    """In which trips of its phase a task waits for another, or reads it without waiting."""

    WITHIN = "within"  # every trip, for the same trip's value
    INITIAL = "initial"  # the first trip, for an earlier phase's value or the observation
    CARRIED = "carried"  # every trip but the first, for the trip before
    NEXT = "next"  # the first trip, what the control step before left: nothing waits for that
    RESET = "reset"  # the same in the first step of an episode, of what runs on reset


@dataclass(frozen=True)
class Dependency:
    """Task `consumer` waits for task `producer`, so a change of side between them is a hop.

    It is `WITHIN`, `INITIAL` or `CARRIED`: see `Flow.later` for state.
    """

    producer: int
    consumer: int
    when: When


@dataclass(frozen=True)
class CostGraph:
    """A program flattened for pricing.

    Attributes:
        tasks: in an order in which every dependency WITHIN a trip leads forward. Task 0 is the
            observation and the last one the action; both are pinned to the edge.
        flows: what may cross.
        dependencies: what waits for what, sorted by consumer.
        weights: bytes of every distinct weight.
        trips: of every phase.
        power: of the edge; None if it is not known.
        held_as: the same on a side that holds them in another type.
    """

    tasks: tuple[Task, ...]
    flows: tuple[Flow, ...]
    dependencies: tuple[Dependency, ...]
    weights: tuple[int, ...]
    trips: tuple[int, ...]
    power: Power | None = None
    held_as: Mapping[Side, tuple[int, ...]] = field(default_factory=dict)

    def bytes_on(self, side: Side) -> tuple[int, ...]:
        """Bytes of every weight as a side holds it."""
        return self.held_as.get(side, self.weights)

    def trips_of(self, task: int) -> int:
        """How often a control step executes the task."""
        phase = self.tasks[task].phase
        return self.trips[phase] if 0 <= phase < len(self.trips) else 1

    @cached_property
    def regions(self) -> tuple[ParallelRegion, ...]:
        """Where the sides can work in parallel."""
        within = [one for one in self.dependencies if one.when is When.WITHIN]
        outside = [one for one in self.dependencies if one.when is not When.WITHIN]
        return find_regions(
            [task.phase for task in self.tasks],
            [(one.producer, one.consumer) for one in within],
            [(one.producer, one.consumer) for one in outside],
            [task.edge_s * self.trips_of(index) for index, task in enumerate(self.tasks)],
            self.trips,
        )

    @cached_property
    def columns(self) -> Columns:
        """The same as arrays."""
        return make_columns(self)

    @cached_property
    def flows_of(self) -> Mapping[int, Sequence[Flow]]:
        """Flows by the task that makes them, those of a value once: by its name. Those that no task
        of the step reads are left out.
        """
        found: dict[int, dict[str, Flow]] = {}
        for flow in self.flows:
            if len(flow.later) == len(flow.consumers):
                continue
            found.setdefault(flow.producer, {}).setdefault(flow.name, flow)
        return {producer: tuple(flows.values()) for producer, flows in found.items()}


def make_columns(graph: CostGraph) -> Columns:
    """The columns of a graph."""
    tasks, flows, edges = graph.tasks, graph.flows, graph.dependencies
    trips = _ints(graph.trips_of(index) for index in range(len(tasks)))
    places = {None: FREE, "edge": 0, "cloud": 1}
    when = [edge.when.value for edge in edges]
    return Columns(
        phase=_ints(task.phase for task in tasks),
        trips=trips,
        edge_s=_floats(task.edge_s for task in tasks) * trips,
        cloud_s=_floats(task.cloud_s for task in tasks) * trips,
        pinned=_ints(places[task.pinned and task.pinned.value] for task in tasks),
        reader=np.repeat(np.arange(len(tasks)), [len(task.weights) for task in tasks]),
        read=_ints(chain.from_iterable(task.weights for task in tasks)),
        weights=_ints(graph.bytes_on(Side.CLOUD)),
        edge_weights=_ints(graph.bytes_on(Side.EDGE)),
        producer=_ints(flow.producer for flow in flows),
        count=_ints(flow.count for flow in flows),
        nbytes=_ints(flow.nbytes for flow in flows),
        before_last=np.array([flow.before_last for flow in flows], dtype=bool),
        start=np.cumsum([0, *(len(flow.consumers) for flow in flows)], dtype=np.int64),
        consumers=_ints(chain.from_iterable(flow.consumers for flow in flows)),
        up=_coded(flows, [flow.up for flow in flows]),
        down=_coded(flows, [flow.down for flow in flows]),
        before=_ints(edge.producer for edge in edges),
        after=_ints(edge.consumer for edge in edges),
        initial=np.array([one == "initial" for one in when], dtype=bool),
        carried=np.array([one == "carried" for one in when], dtype=bool),
    )


def _coded(flows: Sequence[Flow], codings: Sequence[Coding | None]) -> Coded:
    pairs = list(zip(flows, codings, strict=True))
    return Coded(
        _ints(coding.nbytes if coding else flow.nbytes for flow, coding in pairs),
        _floats(flow.edge_border_s + (one.edge_s if one else 0.0) for flow, one in pairs),
        _floats(flow.cloud_border_s + (one.cloud_s if one else 0.0) for flow, one in pairs),
    )


def _ints(values: Iterable[int]) -> Ints:
    return np.array(list(values), dtype=np.int64)


def _floats(values: Iterable[float]) -> Floats:
    return np.array(list(values), dtype=np.float64)
