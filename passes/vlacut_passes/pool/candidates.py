"""Candidates from the exact search: the best placements at several bandwidths and charges.

A weight that a placement holds where the chosen cut does not is *charged*: seconds per byte, as if
it were sent. Without a charge the search finds the best placement whatever it doubles. The higher
the charge, the fewer bytes it doubles. So every placement is the best for its bytes (a Lagrangian
relaxation of a knapsack), and costs no more than a search without a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from vlacut.hardware import Bandwidths, Link, Side, link_at
from vlacut.pricing.cost_graph import CostGraph, Flow, Task
from vlacut.pricing.cut import Sides
from vlacut_passes.partitioning.solver.search import optimal_cut
from vlacut_passes.pool.candidate import Candidate

_BANDWIDTHS = 5
_EFFORT = 2e6  # of a search: a candidate need not be proven to be the best
# Of the chosen cut's latency, for doubling all the bytes there are room for.
_CHARGES = (0.0, 0.1, 1.0, 10.0, 100.0)


def best_placements(
    graph: CostGraph,
    chosen: Candidate,
    link: Link,
    bandwidths: Bandwidths,
    room: int,
    free: Collection[int],
    coded: Callable[[CostGraph, Link], CostGraph] = lambda graph, _: graph,
) -> Iterator[Sides]:
    """Placements that are best at some bandwidth and charge, of which some may be the same.

    Args:
        graph: of the program.
        chosen: the chosen cut.
        link: the bandwidths are variations of it.
        bandwidths: that may be expected.
        room: bytes of weights that may be doubled.
        free: tasks that may move; the others stay where the chosen cut has them.
        coded: a graph with the codecs that are cheapest over a link.
    """
    pinned = replace(
        graph,
        tasks=tuple(
            task if index in free or task.pinned else replace(task, pinned=side)
            for index, (task, side) in enumerate(zip(graph.tasks, chosen.sides, strict=True))
        ),
    )
    for point in _spread(bandwidths):
        at = link_at(link, point)
        cheap = coded(pinned, at)
        for share in _CHARGES:
            rate = share * float(chosen.at(point)) / max(room, 1)
            sides = optimal_cut(_charged(cheap, chosen, at, rate), at, effort=_EFFORT).sides
            yield (*sides[: len(graph.tasks) - 1], sides[-1])


def links_over(link: Link, bandwidths: Bandwidths) -> list[Link]:
    """The link at the bandwidths that are searched at."""
    return [link_at(link, point) for point in _spread(bandwidths)]


def _spread(bandwidths: Bandwidths) -> list[float]:
    points = bandwidths.seconds_per_byte
    last = len(points) - 1
    return [points[round(number * last / (_BANDWIDTHS - 1))] for number in range(_BANDWIDTHS)]


def _charged(graph: CostGraph, chosen: Candidate, link: Link, rate: float) -> CostGraph:
    """The graph with a flow for every weight that could be doubled: from where it is now.

    They are sent by a task a side, before the action; so they overlap with nothing.
    """
    action = len(graph.tasks) - 1
    edge, cloud = action, action + 1
    tasks = (
        *graph.tasks[:-1],
        Task("edge weights", -1, 0.0, 0.0, (), Side.EDGE),
        Task("cloud weights", -1, 0.0, 0.0, (), Side.CLOUD),
        graph.tasks[-1],
    )
    readers: dict[int, list[int]] = {}
    for index, task in enumerate(graph.tasks):
        for weight in task.weights:
            readers.setdefault(weight, []).append(index)
    flows = [replace(flow, consumers=_moved(flow.consumers, action)) for flow in graph.flows]
    for weight, consumers in readers.items():
        if weight not in chosen.cloud:
            size = round(graph.bytes_on(Side.CLOUD)[weight] * rate * link.up)
            flows.append(Flow("weight", edge, tuple(consumers), size, 1))
        if weight not in chosen.edge:
            size = round(graph.bytes_on(Side.EDGE)[weight] * rate * link.down)
            flows.append(Flow("weight", cloud, tuple(consumers), size, 1))
    dependencies = tuple(
        replace(one, consumer=one.consumer + 2 * (one.consumer == action))
        for one in graph.dependencies
    )
    return replace(graph, tasks=tasks, flows=tuple(flows), dependencies=dependencies)


def _moved(consumers: tuple[int, ...], action: int) -> tuple[int, ...]:
    return tuple(one + 2 * (one == action) for one in consumers)
