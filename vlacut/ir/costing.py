"""The cost graph of a dataflow: its tasks, what crosses between them, and what waits for what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vlacut.hardware import Side
from vlacut.ir.annotation import MACHINES, SECONDS, TYPES, Seconds
from vlacut.ir.graphs import value_spec
from vlacut.ir.program import Program
from vlacut.ir.uses import Use
from vlacut.pricing.border import conversion_s, in_types
from vlacut.pricing.cost_graph import CostGraph, Dependency, Flow, Task, When
from vlacut.tensor import TensorSpec

if TYPE_CHECKING:
    from vlacut.ir.dataflow import Dataflow


# A dependency of each use that somebody waits for.
_WAITS = {
    When.WITHIN: When.WITHIN,
    When.INITIAL: When.INITIAL,
    When.CARRIED: When.CARRIED,
    When.RESET: When.INITIAL,
}


def cost_graph_of(dataflow: Dataflow, *, on_reset: bool) -> CostGraph:
    """A control step for pricing, or what the first step of an episode takes beside it.

    Args:
        dataflow: of a program with the annotations of `annotate-cost`.
        on_reset: whether what runs on reset has its time, instead of all else; weights count in
            either.

    Raises PassError without those annotations.
    """
    weight_index, specs = _weights(dataflow)
    weights = tuple(spec.nbytes for spec in specs)
    phases = dataflow.program.phases
    counts = tuple(phase.on_reset is on_reset for phase in phases)
    tasks = tuple(
        _task(dataflow, index, weight_index.get(index, ()), counts)
        for index in range(len(dataflow.nodes))
    )
    uses = [use for use in dataflow.uses if dataflow.happens_on_reset(use) is on_reset]
    waits = {
        Dependency(use.producer, use.consumer, _WAITS[use.when])
        for use in uses
        if use.when in _WAITS
    }
    dependencies = sorted(
        waits | set(_begun(dataflow, uses, counts)),
        key=lambda edge: (edge.consumer, edge.producer, edge.when.value),
    )
    trips = tuple(
        phase.trips if counted else 1 for phase, counted in zip(phases, counts, strict=True)
    )
    machines = MACHINES.find(dataflow.program)
    power = machines.edge.power if machines else None
    flows = tuple(_flows(dataflow, uses))
    held = {
        side: tuple(in_types(spec, types).nbytes for spec in specs)
        for side, types in (TYPES.find(dataflow.program) or {}).items()
        if types
    }
    return CostGraph(tasks, flows, tuple(dependencies), weights, trips, power, held)


def _weights(dataflow: Dataflow) -> tuple[dict[int, tuple[int, ...]], list[TensorSpec]]:
    """Weight indices of every task, and the spec of every weight; one weight a name."""
    number: dict[str, int] = {}
    specs: list[TensorSpec] = []
    of_task = {}
    for task, (node, phase) in enumerate(zip(dataflow.nodes, dataflow.phases, strict=True)):
        if node is None:
            continue
        initializers = dataflow.program.phases[phase].model.graph.initializers
        read = dataflow.weights[node]
        for name in read:
            if name not in number:
                number[name] = len(specs)
                specs.append(value_spec(initializers[name]))
        of_task[task] = tuple(number[name] for name in read)
    return of_task, specs


def _task(dataflow: Dataflow, index: int, weights: tuple[int, ...], counts: Sequence[bool]) -> Task:
    """A task; without time if its phase does not count."""
    node, phase = dataflow.nodes[index], dataflow.phases[index]
    if node is None:
        name = "observation" if index == 0 else "action"
        return Task(name, phase, 0.0, 0.0, pinned=Side.EDGE)
    time: Seconds = SECONDS.get(node)
    if not counts[phase]:
        time = Seconds(0.0, 0.0)
    name = f"{dataflow.program.phases[phase].name}/{node.name}"
    return Task(name, phase, time.edge, time.cloud, weights)


def _begun(dataflow: Dataflow, uses: Iterable[Use], counts: Sequence[bool]) -> Iterator[Dependency]:
    """What waits for nothing but the beginning of the step, of which the observation tells.

    So it is priced: a cloud that reads nothing of the edge's must hear that a step has begun.
    """
    waits = {use.consumer for use in uses if use.when not in (When.CARRIED, When.NEXT)}
    for task, node in enumerate(dataflow.nodes):
        if node is not None and counts[dataflow.phases[task]] and task not in waits:
            yield Dependency(0, task, When.INITIAL)


def _flows(dataflow: Dataflow, uses: Iterable[Use]) -> Iterator[Flow]:
    readers: dict[str, list[Use]] = {}
    for use in uses:
        readers.setdefault(use.key, []).append(use)
    for key, found in readers.items():
        producer = found[0].producer
        phase, spec = dataflow.phases[producer], dataflow.specs[key]
        border = {side: _border_s(dataflow.program, side, spec) for side in Side}
        edge, cloud = border[Side.EDGE], border[Side.CLOUD]
        trips = dataflow.program.phases[phase].trips if phase >= 0 else 1
        last = [use.consumer for use in found if use.when is not When.CARRIED]
        now = [use.consumer for use in found if use.when not in (When.CARRIED, When.NEXT)]
        before = [use.consumer for use in found if use.when in (When.WITHIN, When.CARRIED)]
        if last:
            later = tuple(sorted(set(last) - set(now)))
            one = Flow(key, producer, _distinct(last), spec.nbytes, 1, later=later)
            yield replace(one, edge_border_s=edge, cloud_border_s=cloud)
        if before and trips > 1:
            one = Flow(key, producer, _distinct(before), spec.nbytes, trips - 1, before_last=True)
            yield replace(one, edge_border_s=edge, cloud_border_s=cloud)


def _border_s(program: Program, side: Side, spec: TensorSpec) -> float:
    """Seconds in which a side converts a tensor that crosses; 0 where it computes in its type."""
    target = (TYPES.find(program) or {}).get(side, {}).get(spec.dtype)
    machines = MACHINES.find(program)
    if target is None or machines is None:
        return 0.0
    return conversion_s(spec, target, machines.edge if side is Side.EDGE else machines.cloud)


def _distinct(consumers: list[int]) -> tuple[int, ...]:
    return tuple(sorted(set(consumers)))
