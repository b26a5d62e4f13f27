"""A cost graph as a problem, its loops having given directions, see `directions`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vlacut.hardware import Link, Power
from vlacut.pricing.columns import Columns
from vlacut.pricing.cost_graph import CostGraph
from vlacut.pricing.phase_loops import PhaseLoop
from vlacut.tensor.numerics import Floats, Ints
from vlacut_passes.partitioning.limits import Limits
from vlacut_passes.partitioning.solver.problem.chains import ChainGraph
from vlacut_passes.partitioning.solver.problem.directions import Directions, rising_of, variables
from vlacut_passes.partitioning.solver.problem.nets import Nets, Sets, starts
from vlacut_passes.partitioning.solver.problem.pipes import Pipe
from vlacut_passes.partitioning.solver.problem.problem import Problem, relabel


def make_problem(graph: CostGraph, link: Link, directions: Directions | None = None) -> Problem:
    """The problem of a graph without limits; a variable a task, but for tasks that are pinned, or
    equal because of the directions. Regions save nothing in it.
    """
    columns, held = graph.columns, directions or {}
    loops, rising = [loop for loop in columns.loops if loop.phase in held], rising_of(columns, held)
    busy_w, idle_w = (graph.power.busy_w, graph.power.idle_w) if graph.power else (0.0, 0.0)
    edge_s, cloud_s = columns.edge_s, columns.cloud_s
    piped = np.isin(columns.phase, list(held))
    share = np.where(piped, 1.0 / columns.trips, 1.0)  # of the seconds: what no pipe has
    first_s = edge_s * share, cloud_s * share
    edge_j = (busy_w - idle_w) * edge_s + idle_w * first_s[0]
    order = np.argsort(columns.read, kind="stable")
    problem = Problem(
        size=len(graph.tasks),
        of_task=np.arange(len(graph.tasks)),
        base=np.array([first_s[0].sum(), 0.0, edge_j.sum()], dtype=np.float64),
        unary=np.stack([first_s[1] - first_s[0], cloud_s, idle_w * first_s[1] - edge_j]),
        flows=_nets(columns, link, graph.power, piped[columns.producer] & columns.before_last),
        chains=_chains(columns, link, held),
        pipes=tuple(_pipe(columns, link, loop) for loop in loops),
        users=Sets(starts(columns.read[order], len(columns.weights)), columns.reader[order]),
        nbytes=columns.weights,
        edge_nbytes=columns.edge_weights,
        rising=rising,
        limits=Limits(),
        idle_w=idle_w,
    )
    label = variables(columns, rising)
    assert label is not None, "no cut keeps these directions"
    return relabel(problem, label, int(label.max(initial=1)) + 1, whole=True)


def _nets(columns: Columns, link: Link, power: Power | None, piped: NDArray[np.bool_]) -> Nets:
    """All flows; the seconds of those that are piped are left to their pipes."""
    moved = _moved(columns)
    costs: list[Floats] = []
    radio = (power.up_j_per_byte, power.down_j_per_byte) if power else (0.0, 0.0)
    for coded, rate, per_byte in zip(
        (columns.up, columns.down), (link.up, link.down), radio, strict=True
    ):
        seconds = np.where(piped, 0.0, columns.crossing_s(coded, rate))
        joules = np.zeros(len(seconds))
        if power is not None:
            worked_j = (power.busy_w - power.idle_w) * coded.edge_s + per_byte * coded.nbytes
            joules = power.idle_w * seconds + worked_j * columns.count
        costs += [seconds[moved], joules[moved]]
    up, up_j, down, down_j = costs
    return Nets(
        producer=columns.producer[moved],
        consumers=_consumers(columns, moved),
        up=up,
        down=down,
        up_j=up_j,
        down_j=down_j,
    )


def _pipe(columns: Columns, link: Link, loop: PhaseLoop) -> Pipe:
    """The later trips of a loop."""
    mine = columns.phase == loop.phase
    later = mine * (loop.times / (loop.times + 1))
    edge_s, cloud_s = columns.edge_s * later, columns.cloud_s * later
    moved = _moved(columns) & columns.before_last & mine[columns.producer]
    up, down = (
        columns.crossing_s(coded, rate)[moved]
        for coded, rate in ((columns.up, link.up), (columns.down, link.down))
    )
    none = np.zeros(len(up))
    moves = Nets(
        producer=columns.producer[moved],
        consumers=_consumers(columns, moved),
        up=up,
        down=down,
        up_j=none,
        down_j=none,
    )
    return Pipe(np.array([edge_s.sum(), 0.0]), np.stack([-edge_s, cloud_s]), moves)


def _moved(columns: Columns) -> NDArray[np.bool_]:
    """The flows that cost anything where they cross."""
    return (columns.nbytes * columns.count > 0) & (np.diff(columns.start) > 0)


def _consumers(columns: Columns, moved: NDArray[np.bool_]) -> Sets:
    """The consumers of some flows."""
    ends = np.concatenate([[0], np.cumsum(np.diff(columns.start)[moved])])
    return Sets(ends, columns.consumers[moved[columns.owner]])


def _chains(columns: Columns, link: Link, held: Directions) -> tuple[ChainGraph, ...]:
    """The chain graphs of what hops count; none if hops cost nothing."""
    if link.hop_s == 0:
        return ()
    count = len(columns.phase)
    return tuple(
        _chain_graph(times * link.hop_s, tail, head, count)
        for phase, times, tail, head in columns.waits
        if phase not in held
    )


def _chain_graph(rate: float, tail: Ints, head: Ints, count: int) -> ChainGraph:
    """Number the nodes so that edges lead forward: what is from outside the trip comes first."""
    nodes = np.unique(np.concatenate([tail, head]))
    nodes = np.concatenate([nodes[nodes >= count], nodes[nodes < count]])
    number = np.zeros(2 * count, dtype=np.int64)
    number[nodes] = np.arange(len(nodes))
    return ChainGraph(rate, nodes % count, number[tail], number[head], count)
