"""Regions: stretches of a phase in which the two sides can work in parallel.

A *join* is a task that every other task of its phase comes before or after. Between two joins lie
*branches*: tasks that lead to one another, and to nothing else between these joins. A stretch with
at least two branches of weight is a *region*: if one branch is on the edge and another in the
cloud, both compute at once. A lighter branch, or one that is on both sides, counts as done before.

The graph and the times on the edge decide what a region is; the cut and the link do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from vlacut.hardware import Link

WEIGHT = 0.01  # of the edge's compute of a step: what a branch of weight has at least
MOST_BRANCHES = 4  # of a region: the heaviest
NO_JOIN = -1


@dataclass(frozen=True)
class ParallelRegion:
    """A stretch between two joins.

    Attributes:
        phase: its phase.
        entry, exit: the joins before and behind it, NO_JOIN where the phase begins or ends first;
            the observation is an entry too, where the phase reads nothing else from outside.
        branches: tasks of the branches of weight, in order.
    """

    phase: int
    entry: int
    exit: int
    branches: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class SideWork:
    """What one side does of a region.

    Attributes:
        seconds: compute per trip.
        bytes_in: bytes per trip that come from the entry, across the link.
        bytes_out: bytes per trip that go to the exit, across the link.
        waits_in, waits_out: whether entry and exit are on the other side.
    """

    seconds: float
    bytes_in: int
    bytes_out: int
    waits_in: bool
    waits_out: bool


@dataclass(frozen=True)
class Parallel:
    """A region that a cut leaves partly on either side.

    Attributes:
        times: trips of its phase.
        edge, cloud: what either side does.
    """

    times: int
    edge: SideWork
    cloud: SideWork

    def saved_s(self, link: Link) -> float:
        """Seconds per control step that this saves, compared with the sides working in turn."""
        serial_s, ends = self._lines(link)
        return self.times * max(0.0, serial_s - max(ends))

    def bends(self, link: Link) -> list[float]:
        """Seconds per byte up at which the saving may change its slope, the downlink scaled alike.

        Every end is a line over seconds per byte; two lines meet at one place at most.
        """
        still = replace(link, up=math.inf, down=math.inf)
        fixed, there = self._lines(still)[1], self._lines(link)[1]
        lines = [(low, (high - low) * link.up) for low, high in zip(fixed, there, strict=True)]
        met = [
            (one[0] - other[0]) / (other[1] - one[1])
            for one, other in combinations(lines, 2)
            if one[1] != other[1]
        ]
        return [place for place in met if 0 < place < math.inf]

    def _lines(self, link: Link) -> tuple[float, tuple[float, ...]]:
        """Seconds one after the other, and when what the exit waits for is there, if only that is
        waited for: both sides' results.

        A side starts when what it needs of the entry is across; a direction sends one frame after
        the other, what comes from the entry first.
        """
        edge, cloud, hop_s = self.edge, self.cloud, link.hop_s
        into_cloud, out_of_edge = cloud.bytes_in / link.up, edge.bytes_out / link.up
        into_edge, out_of_cloud = edge.bytes_in / link.down, cloud.bytes_out / link.down
        leaves_edge, leaves_cloud = hop_s * edge.waits_out, hop_s * cloud.waits_out
        ends = (
            into_edge + hop_s * edge.waits_in + edge.seconds + out_of_edge + leaves_edge,
            (into_cloud + out_of_edge + leaves_edge) * edge.waits_out,
            into_cloud + hop_s * cloud.waits_in + cloud.seconds + out_of_cloud + leaves_cloud,
            (into_edge + out_of_cloud + leaves_cloud) * cloud.waits_out,
        )
        moved = into_cloud + out_of_edge + into_edge + out_of_cloud
        hops = max(lane.waits_in + lane.waits_out for lane in (edge, cloud))
        return edge.seconds + cloud.seconds + moved + hops * hop_s, ends


def find_regions(
    phases: Sequence[int],
    within: Sequence[tuple[int, int]],
    from_outside: Sequence[tuple[int, int]],
    seconds: Sequence[float],
    trips: Sequence[int],
) -> tuple[ParallelRegion, ...]:
    """The regions of a graph, in order.

    Args:
        phases: of every task; -1 for the observation.
        within: pairs of producer and consumer of one trip; producers come first.
        from_outside: pairs of producer and consumer of different trips or phases.
        seconds: of every task on the edge, per control step.
        trips: of every phase.
    """
    found: list[ParallelRegion] = []
    members: list[list[int]] = [[] for _ in trips]
    for task, phase in enumerate(phases):
        if 0 <= phase < len(trips):
            members[phase].append(task)
    before: list[list[int]] = [[] for _ in phases]
    after: list[list[int]] = [[] for _ in phases]
    for producer, consumer in within:
        before[consumer].append(producer)
        after[producer].append(consumer)
    least = WEIGHT * sum(seconds)
    for phase, tasks in enumerate(members):
        read = {producer for producer, consumer in from_outside if phases[consumer] == phase}
        entry = 0 if read == {0} and trips[phase] == 1 else NO_JOIN
        for start, end, between in _stretches(tasks, before, after, entry):
            branches = _heaviest(_branches(between, before), seconds, least)
            if len(branches) > 1:
                found.append(ParallelRegion(phase, start, end, branches))
    return tuple(found)


def _stretches(
    tasks: Sequence[int],
    before: Sequence[Sequence[int]],
    after: Sequence[Sequence[int]],
    entry: int,
) -> list[tuple[int, int, list[int]]]:
    """What lies between joins: the join before, the one behind, and the tasks."""
    led_to = _met_by_all(tasks, before)
    joins = led_to & _met_by_all(tasks[::-1], after)
    stretches: list[tuple[int, int, list[int]]] = []
    between: list[int] = []
    for task in tasks:
        if task in joins:
            stretches.append((entry, task, between))
            entry, between = task, []
        else:
            between.append(task)
    return [one for one in (*stretches, (entry, NO_JOIN, between)) if len(one[2]) > 1]


def _met_by_all(tasks: Sequence[int], before: Sequence[Sequence[int]]) -> set[int]:
    """The tasks that all tasks in front of them lead to.

    A task that leads to nothing yet can only lead to the next one directly.
    """
    loose: set[int] = set()
    found: set[int] = set()
    for task in tasks:
        loose.difference_update(before[task])
        if not loose:
            found.add(task)
        loose.add(task)
    return found


def _branches(between: Sequence[int], before: Sequence[Sequence[int]]) -> list[list[int]]:
    """The tasks, connected ones together, by their first."""
    root = {task: task for task in between}

    def find(task: int) -> int:
        while root[task] != task:
            root[task] = root[root[task]]
            task = root[task]
        return task

    for task in between:
        for other in before[task]:
            if other in root:
                one, two = find(task), find(other)
                root[max(one, two)] = min(one, two)
    groups: dict[int, list[int]] = {}
    for task in between:
        groups.setdefault(find(task), []).append(task)
    return list(groups.values())


def _heaviest(
    branches: Sequence[Sequence[int]], seconds: Sequence[float], least: float
) -> tuple[tuple[int, ...], ...]:
    """The branches of weight, the heaviest of them if there are many."""
    weighed = [(sum(seconds[task] for task in branch), branch) for branch in branches]
    heavy = [one for one in weighed if one[0] >= least and one[0] > 0]
    heavy = sorted(heavy, key=lambda one: (-one[0], one[1][0]))[:MOST_BRANCHES]
    return tuple(sorted(tuple(branch) for _, branch in heavy))
