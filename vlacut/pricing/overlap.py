"""What the sides of a cut do at once: branches of regions, and loops that lead one way."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from vlacut.hardware import Side
from vlacut.pricing.columns import Columns, moved
from vlacut.pricing.cost_graph import CostGraph, Flow
from vlacut.pricing.phase_loops import PhaseLoop, Pipelined
from vlacut.pricing.regions import NO_JOIN, Parallel, ParallelRegion, SideWork
from vlacut.tensor.numerics import Ints


def one_way_loops(graph: CostGraph, x: Ints) -> list[PhaseLoop]:
    """The loops whose changes of side all lead one way in a cut."""
    return [loop for loop in graph.columns.loops if loop.one_way(x)]


def parallels(
    graph: CostGraph, sides: Sequence[Side], x: Ints, one_way: Sequence[PhaseLoop]
) -> Iterator[Parallel | Pipelined]:
    """Where the sides of a cut work in parallel: regions with whole branches on both sides, and
    loops that lead one way.

    `sides` and `x` are the cut in both forms, `one_way` its loops that lead one way.
    """
    ahead = [loop.phase for loop in one_way]
    for region in graph.regions:
        groups = grouped(region, sides)
        if all(groups.values()):
            ends = [
                sides[join] if join != NO_JOIN else None for join in (region.entry, region.exit)
            ]
            times = trips_of(graph, region, ahead)
            yield parallel(graph, region, groups, ends[0], ends[1], times)
    for loop in one_way:
        found = _pipelined(graph.columns, x, loop)
        if (found.edge_s > 0) + (found.cloud_s > 0) + (found.bytes_up + found.bytes_down > 0) > 1:
            yield found


def trips_of(graph: CostGraph, region: ParallelRegion, one_way: Container[int]) -> int:
    """In how many trips a region counts, given the phases that lead one way."""
    return 1 if region.phase in one_way else graph.trips[region.phase]


def _pipelined(columns: Columns, x: Ints, loop: PhaseLoop) -> Pipelined:
    """A loop that leads one way."""
    mine, trips = columns.phase == loop.phase, loop.times + 1
    home = x[columns.producer]
    crossed = columns.crossed(x) & columns.before_last & mine[columns.producer]
    up = moved(columns, columns.up, crossed & (home == 0))
    down = moved(columns, columns.down, crossed & (home == 1))
    return Pipelined(
        times=loop.times,
        edge_s=sum(columns.edge_s[mine & (x == 0)].tolist(), 0.0) / trips,
        cloud_s=sum(columns.cloud_s[mine & (x == 1)].tolist(), 0.0) / trips,
        codec_s=(up.edge_s + up.cloud_s + down.edge_s + down.cloud_s) / loop.times,
        bytes_up=up.nbytes // loop.times,
        bytes_down=down.nbytes // loop.times,
    )


def grouped(region: ParallelRegion, sides: Sequence[Side]) -> dict[Side, list[int]]:
    """The tasks of branches that are on one side as a whole, by side."""
    groups: dict[Side, list[int]] = {side: [] for side in Side}
    for branch in region.branches:
        there = {sides[task] for task in branch}
        if len(there) == 1:
            groups[there.pop()] += branch
    return groups


def parallel(
    graph: CostGraph,
    region: ParallelRegion,
    groups: Mapping[Side, Sequence[int]],
    entry: Side | None,
    exit_side: Side | None,
    times: int,
) -> Parallel:
    """What each side does of a region. Given are its tasks by side, the sides of the joins, and
    the number of trips in which it counts.
    """
    lanes = {}
    for side, tasks in groups.items():
        inside = set(tasks)
        waits_in, waits_out = entry is side.other, exit_side is side.other
        read = graph.flows_of.get(region.entry, ()) if waits_in else ()
        made = [flow for task in tasks if waits_out for flow in graph.flows_of.get(task, ())]
        once = [graph.tasks[task] for task in tasks]
        lanes[side] = SideWork(
            sum(task.edge_s if side is Side.EDGE else task.cloud_s for task in once),
            _coded_bytes(side.other, (one for one in read if any(map(one.awaited_by, inside)))),
            _coded_bytes(side, (one for one in made if one.awaited_by(region.exit))),
            waits_in,
            waits_out,
        )
    return Parallel(times, lanes[Side.EDGE], lanes[Side.CLOUD])


def _coded_bytes(source: Side, flows: Iterable[Flow]) -> int:
    """Of a production of each, where it crosses from a side. No codec is part of what overlaps."""
    return sum(flow.coding(source).nbytes for flow in flows)
