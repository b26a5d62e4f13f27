"""Random small cost graphs, and a slow way to price them that shares nothing with the fast one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from functools import cached_property

import numpy as np

from support.slow_overlap import slow_overlap
from vlacut.hardware import Link, Side
from vlacut.pricing.columns import Columns
from vlacut.pricing.cost_graph import CostGraph, Dependency, Flow, Task, When, make_columns
from vlacut.pricing.regions import ParallelRegion

MAX_FREE = 9


def random_link(numbers: np.random.Generator) -> Link:
    """Fast and slow links, alike both ways or not, some without a round trip."""
    up = float(numbers.choice([1.0, 10.0, 100.0]))
    down = up if numbers.random() < 0.5 else float(numbers.choice([1.0, 30.0]))
    return Link(up, down, float(numbers.choice([0.0, 0.0, 0.3, 1.0, 4.0])))


def random_graph(numbers: np.random.Generator, free: int | None = None) -> CostGraph:
    """Phases, loops, skips, shared weights, pins; zero costs, and ties if costs are whole."""
    free = int(numbers.integers(1, MAX_FREE + 1)) if free is None else free
    whole = numbers.random() < 0.4
    phases = int(numbers.integers(1, min(free, 3) + 1))
    trips = tuple(int(one) for one in numbers.choice([1, 1, 2, 4], phases))
    weights = tuple(int(one) for one in numbers.integers(0, 6, int(numbers.integers(0, 7))))
    of_task = [-1, *sorted(int(one) for one in numbers.integers(0, phases, free)), phases]
    tasks = tuple(
        _task(numbers, index, phase, phases, len(weights), whole)
        for index, phase in enumerate(of_task)
    )
    uses = sorted(set(_uses(numbers, of_task, trips)))
    flows = tuple(_flows(numbers, uses, of_task, trips, whole))
    dependencies = tuple(Dependency(producer, consumer, when) for consumer, producer, when in uses)
    return CostGraph(tasks, flows, dependencies, weights, trips)


def remembering(numbers: np.random.Generator, graph: CostGraph) -> CostGraph:
    """The graph with state: tasks, earlier ones too, read some values in the next control step."""
    flows = list(graph.flows)
    count = len(graph.tasks)
    for producer in range(1, count - 1):
        if numbers.random() < 0.5:
            continue
        readers = {int(one) for one in numbers.integers(1, count, int(numbers.integers(1, 3)))}
        last = (index for index, one in enumerate(flows) if one.producer == producer)
        at = next((index for index in last if not flows[index].before_last), None)
        old = flows[at] if at is not None else None
        now = set(old.consumers) if old else set[int]()
        later = tuple(sorted(readers - now))
        nbytes = next((one.nbytes for one in flows if one.producer == producer), 0)
        made = Flow(
            *(f"v{producer}", producer, tuple(sorted(now | readers))),
            *(nbytes or int(numbers.integers(0, 40)), 1),
            later=later,
        )
        if at is None:
            flows.insert(0, made)
        else:
            flows[at] = replace(made, nbytes=nbytes)
    return replace(graph, flows=tuple(flows))


def _task(
    numbers: np.random.Generator, index: int, phase: int, phases: int, weights: int, whole: bool
) -> Task:
    if phase in (-1, phases):
        return Task(f"t{index}", phase, 0.0, 0.0, pinned=Side.EDGE)
    edge_s, cloud_s = numbers.choice([0.0, 1.0, 4.0], 2) * (1 if whole else numbers.random(2))
    pinned = None
    if numbers.random() < 0.06:
        pinned = Side(str(numbers.choice(["edge", "cloud"])))
    read = numbers.choice(weights, int(numbers.integers(0, min(weights, 2) + 1)), replace=False)
    held = tuple(int(one) for one in read) if weights else ()
    return Task(f"t{index}", phase, float(edge_s), float(cloud_s), held, pinned)


def _uses(
    numbers: np.random.Generator, of_task: list[int], trips: tuple[int, ...]
) -> Iterator[tuple[int, int, When]]:
    for consumer, phase in enumerate(of_task[1:], 1):
        for _ in range(int(numbers.integers(1, 4))):
            near = max(0, consumer - 3) if numbers.random() < 0.7 else 0
            producer = int(numbers.integers(near, consumer))
            same = of_task[producer] == phase
            yield consumer, producer, When.WITHIN if same else When.INITIAL
        inside = [task for task, other in enumerate(of_task) if other == phase]
        if phase < len(trips) and trips[phase] > 1 and numbers.random() < 0.4:
            yield consumer, int(numbers.choice(inside)), When.CARRIED


def _flows(
    numbers: np.random.Generator,
    uses: list[tuple[int, int, When]],
    of_task: list[int],
    trips: tuple[int, ...],
    whole: bool,
) -> Iterator[Flow]:
    for producer, phase in enumerate(of_task):
        read = [(consumer, when) for consumer, maker, when in uses if maker == producer]
        nbytes = int(numbers.choice([0, 1, 2, 8]) if whole else numbers.integers(0, 40))
        last = sorted({consumer for consumer, when in read if when is not When.CARRIED})
        before = sorted({consumer for consumer, when in read if when is not When.INITIAL})
        count = trips[phase] if 0 <= phase < len(trips) else 1
        if last:
            yield Flow(f"v{producer}", producer, tuple(last), nbytes, 1)
        if before and count > 1:
            yield Flow(f"v{producer}", producer, tuple(before), nbytes, count - 1, True)


class InTurn(CostGraph):
    """A graph whose sides work one after the other whatever the cut."""

    @cached_property
    def regions(self) -> tuple[ParallelRegion, ...]:
        return ()

    @cached_property
    def columns(self) -> Columns:
        columns = make_columns(self)
        waiting = [replace(loop, may_lead=False) for loop in columns.loops]
        vars(columns)["loops"] = waiting  # a property that is made once
        return columns


def in_turn(graph: CostGraph) -> CostGraph:
    return InTurn(**{field.name: getattr(graph, field.name) for field in fields(graph)})


def all_cuts(graph: CostGraph) -> np.ndarray:
    """Every assignment that keeps the pins: a row per cut, 1 in the cloud. In binary order."""
    free = [index for index, task in enumerate(graph.tasks) if task.pinned is None]
    cuts = np.zeros((2 ** len(free), len(graph.tasks)), dtype=np.int64)
    for bit, index in enumerate(free):
        cuts[:, index] = np.arange(len(cuts)) >> bit & 1
    for index, task in enumerate(graph.tasks):
        if task.pinned is Side.CLOUD:
            cuts[:, index] = 1
    return cuts


def slow_totals(graph: CostGraph, link: Link, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and cloud weight bytes of many cuts, trips walked one by one."""
    total = np.zeros(len(cuts))
    for index, task in enumerate(graph.tasks):
        for _ in range(graph.trips_of(index)):
            total += np.where(cuts[:, index] == 1, task.cloud_s, task.edge_s)
    for flow in graph.flows:
        home = cuts[:, flow.producer]
        away = (cuts[:, list(flow.consumers)] != home[:, None]).any(axis=1)
        for _ in range(flow.count):
            total += away * np.where(home == 0, flow.nbytes / link.up, flow.nbytes / link.down)
    total += slow_hops(graph, cuts) * link.hop_s
    total -= slow_overlap(graph, link, cuts, one_way_loops(graph, cuts))
    for phase, ahead in one_way_loops(graph, cuts).items():
        for row in np.flatnonzero(ahead):
            total[row] -= slow_pipelined(graph, link, cuts[row], phase)
    held = np.zeros(len(cuts))
    for weight, nbytes in enumerate(graph.weights):
        users = [index for index, task in enumerate(graph.tasks) if weight in task.weights]
        if users:
            held += nbytes * (cuts[:, users] == 1).any(axis=1)
    return total, held


def slow_hops(graph: CostGraph, cuts: np.ndarray) -> np.ndarray:
    """Hops of many cuts: one chain through first trips, every later trip that waits by itself."""
    hops = _chain_hops(graph, cuts, range(len(graph.tasks)), When.INITIAL)
    for phase, trips in enumerate(graph.trips):
        inside = [index for index, task in enumerate(graph.tasks) if task.phase == phase]
        waits = ~one_way_loops(graph, cuts).get(phase, np.zeros(len(cuts), dtype=bool))
        for _ in range(trips - 1):
            hops += waits * _chain_hops(graph, cuts, inside, When.CARRIED)
    return hops


def one_way_loops(graph: CostGraph, cuts: np.ndarray) -> dict[int, np.ndarray]:
    """By phase of several trips, of many cuts, whether its changes of side all lead one way."""
    found = {}
    leading = sorted(range(len(graph.trips)), key=lambda phase: (-graph.trips[phase], phase))[:3]
    for phase, trips in enumerate(graph.trips):
        inside = [
            one
            for one in graph.dependencies
            if graph.tasks[one.consumer].phase == phase and one.when is not When.INITIAL
        ]
        if trips > 1 and not isinstance(graph, InTurn) and phase in leading:
            up, down, carried = np.zeros((3, len(cuts)), dtype=bool)
            for one in inside:
                change = cuts[:, one.consumer] - cuts[:, one.producer]
                carried |= (change != 0) & (one.when is When.CARRIED)
                up |= change > 0
                down |= change < 0
            found[phase] = ~(up & down) & ~carried
    return found


def slow_pipelined(graph: CostGraph, link: Link, cut: np.ndarray, phase: int) -> float:
    """Seconds that a loop saves whose trips follow one another: every trip is a job for the side
    that sends, the link, and the side that receives, and each takes them in order.
    """
    inside = [index for index, task in enumerate(graph.tasks) if task.phase == phase]
    spent = [
        sum(graph.tasks[one].edge_s for one in inside if cut[one] == 0),
        sum(
            flow.nbytes / (link.up if cut[flow.producer] == 0 else link.down)
            for flow in graph.flows
            if flow.producer in inside
            and flow.before_last
            and (cut[list(flow.consumers)] != cut[flow.producer]).any()
        ),
        sum(graph.tasks[one].cloud_s for one in inside if cut[one] == 1),
    ]
    free = [0.0, 0.0, 0.0]
    for _ in range(graph.trips[phase]):
        done = 0.0
        for machine, seconds in enumerate(spent):
            done = free[machine] = max(done, free[machine]) + seconds
    return graph.trips[phase] * sum(spent) - free[2]


def _chain_hops(
    graph: CostGraph, cuts: np.ndarray, inside: Sequence[int], start: When
) -> np.ndarray:
    depth = {index: np.zeros(len(cuts), dtype=np.int64) for index in inside}
    for index in inside:
        for edge in graph.dependencies:
            if edge.consumer == index and edge.when in (When.WITHIN, start):
                change = cuts[:, edge.producer] != cuts[:, index]
                known = 0 if edge.when is When.CARRIED else depth[edge.producer]
                depth[index] = np.maximum(depth[index], known + change)
    return np.max(list(depth.values()), axis=0) if inside else np.zeros(len(cuts), dtype=np.int64)


def chain_graph(
    times: list[tuple[float, float]], nbytes: list[int], weights: list[int]
) -> CostGraph:
    """One phase, one value from task to task; weight i is read by task i."""
    tasks = [Task(f"t{index}", 0, *pair, weights=(index,)) for index, pair in enumerate(times)]
    ends = Task("observation", -1, 0, 0, (), Side.EDGE), Task("action", 1, 0, 0, (), Side.EDGE)
    flows = [Flow(f"v{at}", at, (at + 1,), size, 1) for at, size in enumerate(nbytes)]
    inside = [Dependency(at, at + 1, When.WITHIN) for at in range(1, len(times))]
    into = Dependency(0, 1, When.INITIAL)
    out = Dependency(len(times), len(times) + 1, When.INITIAL)
    return CostGraph(
        (ends[0], *tasks, ends[1]), tuple(flows), (into, *inside, out), tuple(weights), (1,)
    )
