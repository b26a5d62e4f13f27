"""What sides that work in parallel save, and how long a cut takes: slow, and by other ways.

Joins and branches are read off the closure of the dependencies, and a region is simulated event by
event. A cut is walked part by part, as the runtime does it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vlacut.hardware import Link, Side
from vlacut.pricing.cost_graph import CostGraph, Flow, When
from vlacut.pricing.regions import MOST_BRANCHES, WEIGHT
from vlacut.split.pieces import places_of

EDGE, CLOUD = 0, 1


def slow_overlap(
    graph: CostGraph, link: Link, cuts: np.ndarray, one_way: Mapping[int, np.ndarray]
) -> np.ndarray:
    """Seconds that overlap in regions, a cut each; in a loop that leads one way, in one trip."""
    saved = np.zeros(len(cuts))
    for phase, entry, leave, branches in slow_sections(graph):
        known: dict[tuple[int, ...], float] = {}
        ends = [end for end in (entry, leave) if end is not None]
        homes = np.stack([_home(cuts, branch) for branch in branches], axis=1)
        keys = np.concatenate([homes, cuts[:, ends]], axis=1)
        for row, key in enumerate(map(tuple, keys.tolist())):
            if EDGE in key[: len(branches)] and CLOUD in key[: len(branches)]:
                if key not in known:
                    known[key] = _saved(graph, link, cuts[row], entry, leave, branches)
                once = phase in one_way and one_way[phase][row]
                saved[row] += known[key] * (1 if once else graph.trips[phase])
    return saved


def _home(cuts: np.ndarray, branch: list[int]) -> np.ndarray:
    """The side of a branch, 2 if it is on both."""
    there = cuts[:, branch]
    return np.where(there.all(axis=1), CLOUD, np.where(there.any(axis=1), 2, EDGE))


def slow_sections(graph: CostGraph) -> list[tuple[int, int | None, int | None, list[list[int]]]]:
    """Phase, join before, join behind and branches of every region."""
    size = len(graph.tasks)
    reach = np.eye(size, dtype=bool)
    for one in graph.dependencies:
        if one.when is When.WITHIN:
            reach[one.producer, one.consumer] = True
    for middle in range(size):
        reach |= reach[:, [middle]] & reach[[middle], :]
    total = sum(task.edge_s * graph.trips_of(index) for index, task in enumerate(graph.tasks))
    found = []
    for phase, trips in enumerate(graph.trips):
        tasks = [index for index, task in enumerate(graph.tasks) if task.phase == phase]
        joins = [one for one in tasks if all(reach[one, two] or reach[two, one] for two in tasks)]
        outside = {
            one.producer
            for one in graph.dependencies
            if one.when is not When.WITHIN and one.consumer in tasks
        }
        first = 0 if outside == {0} and trips == 1 else None
        for entry, leave in zip([first, *joins], [*joins, None], strict=True):
            between = [
                one
                for one in tasks
                if one not in joins
                and (entry in (None, 0) or reach[entry, one])
                and (leave is None or reach[one, leave])
                and not any(reach[join, one] for join in joins if join > (entry or 0))
            ]
            branches = []
            while between:
                branch = {between[0]}
                while more := {
                    two
                    for two in between
                    if two not in branch
                    and any(reach[one, two] or reach[two, one] for one in branch)
                }:
                    branch |= more
                between = [one for one in between if one not in branch]
                seconds = sum(graph.tasks[one].edge_s for one in branch) * trips
                if seconds >= WEIGHT * total and seconds > 0:
                    branches.append((-seconds, sorted(branch)))
            kept = [branch for _, branch in sorted(branches)[:MOST_BRANCHES]]
            if len(kept) > 1:
                found.append((phase, entry, leave, kept))
    return found


def _saved(
    graph: CostGraph,
    link: Link,
    cut: np.ndarray,
    entry: int | None,
    leave: int | None,
    branches: list[list[int]],
) -> float:
    """A region, event by event: each machine and each direction does one thing at a time."""
    done, hops, spent = [], [], 0.0
    busy = {"up": 0.0, "down": 0.0}  # until when
    rates = {"up": link.up, "down": link.down}
    lanes = []
    for side, into, out in ((EDGE, "down", "up"), (CLOUD, "up", "down")):
        inside = [one for branch in branches if (cut[branch] == side).all() for one in branch]
        comes = int(entry is not None and cut[entry] != side)
        goes = int(leave is not None and cut[leave] != side)
        read = next((flow for flow in graph.flows if flow.producer == entry and _now(flow)), None)
        taken = comes and read is not None and _now(read) & set(inside)
        read_s = read.nbytes / rates[into] if taken and read else 0.0
        given = {flow.producer: flow.nbytes for flow in graph.flows if leave in _now(flow)}
        made_s = goes * sum(given.get(one, 0) for one in inside) / rates[out]
        tasks = [graph.tasks[one] for one in inside]
        compute_s = sum(task.cloud_s if side == CLOUD else task.edge_s for task in tasks)
        busy[into] = read_s
        lanes.append((out, comes * (read_s + link.hop_s) + compute_s, goes, made_s))
        hops.append(comes + goes)
        spent += read_s + compute_s + made_s
    for out, ready, goes, made_s in lanes:
        done.append(ready)
        if goes:
            done.append(max(busy[out], ready) + made_s + link.hop_s)
    return max(0.0, spent + max(hops) * link.hop_s - max(done))


def _now(flow: Flow) -> set[int]:
    """Who reads it in the step that makes it."""
    return set(flow.consumers) - set(flow.later)


def walk_s(graph: CostGraph, sides: list[Side], link: Link) -> float:
    """Seconds of a control step, part by part.

    Parts run in order, each side its own; a part waits for all it reads. What leaves a part leaves
    at its end as one frame a direction, frames of a direction one after the other.
    """
    walk = _Walk(graph, sides, link)
    walk.leave([0], 0, 0.0)
    for phase, trips in enumerate(graph.trips):
        members = [index for index, task in enumerate(graph.tasks) if task.phase == phase]
        for trip in range(trips):
            for part in sorted({walk.places[index] for index in members}):
                walk.part([index for index in members if walk.places[index] == part], trip)
    action = len(graph.tasks) - 1
    read = [one.producer for one in graph.dependencies if one.consumer == action]
    arrived = (walk.there[one, graph.trips_of(one) - 1, Side.EDGE] for one in read)
    return max([walk.free[Side.EDGE], *arrived])


class _Walk:
    def __init__(self, graph: CostGraph, sides: list[Side], link: Link) -> None:
        self.graph, self.sides, self.link = graph, sides, link
        self.places = places_of(graph, sides)
        self.free = {Side.EDGE: 0.0, Side.CLOUD: 0.0}
        self.wire = {Side.EDGE: 0.0, Side.CLOUD: 0.0}
        self.there: dict[tuple[int, int, Side], float] = {}  # when a value of a trip is on a side

    def part(self, inside: list[int], trip: int) -> None:
        home, graph = self.sides[inside[0]], self.graph
        start = self.free[home]
        for one in graph.dependencies:
            own = one.producer in inside and one.when is When.WITHIN
            skipped = When.INITIAL if trip else When.CARRIED
            if one.consumer in inside and not own and one.when is not skipped:
                at = trip - (one.when is When.CARRIED)
                if one.when is When.INITIAL:
                    at = graph.trips_of(one.producer) - 1
                start = max(start, self.there[one.producer, at, home])
        cost = [graph.tasks[index] for index in inside]
        spent = (task.edge_s if home is Side.EDGE else task.cloud_s for task in cost)
        self.free[home] = start + sum(spent)
        self.leave(inside, trip, self.free[home])

    def leave(self, inside: list[int], trip: int, at: float) -> None:
        home, graph = self.sides[inside[0]], self.graph
        nbytes, crossed = 0, False
        for task in inside:
            self.there[task, trip, home] = at
            unread = When.CARRIED if trip == graph.trips_of(task) - 1 else When.INITIAL
            read = [one for one in graph.dependencies if one.producer == task]
            readers = [one.consumer for one in read if one.when is not unread]
            if any(self.sides[one] is not home for one in readers):
                crossed = True
                nbytes += next(flow.nbytes for flow in graph.flows if flow.producer == task)
        if crossed:
            rate = self.link.up if home is Side.EDGE else self.link.down
            self.wire[home] = max(self.wire[home], at) + nbytes / rate
            for task in inside:
                self.there[task, trip, home.other] = self.wire[home] + self.link.hop_s
