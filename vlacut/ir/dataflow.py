"""Dataflow of a program: which operator's value reaches which, across phases and trips.

Both the price of a cut and the split that carries it out are read off here, so that what is priced
is what will run. Operators that depend on weights alone are no tasks: `split` clones them into
every part that reads them, and no weight crosses the link.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import onnx_ir as ir

from vlacut.errors import PassError
from vlacut.hardware import Side
from vlacut.ir.annotation import CUTS, MACHINES, SECONDS, STATE_COPIES, TYPES, Cuts, Seconds
from vlacut.ir.graphs import node_inputs, operators, value_spec, weights_read
from vlacut.ir.program import Producer, Program
from vlacut.ir.state import State
from vlacut.pricing.border import conversion_s, in_types
from vlacut.pricing.cost_graph import CostGraph, Dependency, Flow, Task, When
from vlacut.tensor import TensorSpec


@dataclass(frozen=True)
class Use:
    """A task reads a value.

    Attributes:
        key: of the value.
        producer, consumer: tasks.
        when: in which trips.
        target: the phase's input through which it is read, if it comes from outside the trip.
    """

    key: str
    producer: int
    consumer: int
    when: When
    target: str = ""


@dataclass(frozen=True)
class Dataflow:
    """A program as tasks and uses.

    Attributes:
        nodes: operator of every task; None for the observation (first) and the action (last).
        phases: index of every task's phase, as in `Task.phase`.
        uses: sorted by consumer.
        specs: of every key; their names are those in the graph.
    """

    program: Program
    nodes: tuple[ir.Node | None, ...]
    phases: tuple[int, ...]
    uses: tuple[Use, ...]
    specs: Mapping[str, TensorSpec]

    @cached_property
    def weights(self) -> Mapping[ir.Node, tuple[str, ...]]:
        """Names of the weights that every operator reads, see `graphs.weights_read`."""
        graphs = (phase.model.graph for phase in self.program.phases)
        return {node: names for graph in graphs for node, names in weights_read(graph).items()}

    @cached_property
    def readers(self) -> Mapping[str, Sequence[Use]]:
        """Uses by key, in the order in which keys are first read."""
        found: dict[str, list[Use]] = {}
        for use in self.uses:
            found.setdefault(use.key, []).append(use)
        return found

    def cost_graph(self) -> CostGraph:
        """A control step for pricing. Needs `annotate-cost`; raises PassError without it.

        What runs on reset takes no time in it, but its weights count. The graph is made once, so
        later annotations are not in it.
        """
        return self._costs

    @cached_property
    def _costs(self) -> CostGraph:
        return self._graph(on_reset=False)

    def reset_graph(self) -> CostGraph | None:
        """The extra cost of the first step of an episode, on the same tasks; None for none."""
        return self._reset_costs

    @cached_property
    def _reset_costs(self) -> CostGraph | None:
        resets = any(phase.on_reset for phase in self.program.phases)
        return self._graph(on_reset=True) if resets else None

    def _graph(self, on_reset: bool) -> CostGraph:
        weight_index, specs = _weights(self)
        weights = tuple(spec.nbytes for spec in specs)
        phases = self.program.phases
        counts = tuple(phase.on_reset is on_reset for phase in phases)
        tasks = tuple(
            _task(self, index, weight_index.get(index, ()), counts)
            for index in range(len(self.nodes))
        )
        uses = [use for use in self.uses if self.happens_on_reset(use) is on_reset]
        waits = {
            Dependency(use.producer, use.consumer, _WAITS[use.when])
            for use in uses
            if use.when in _WAITS
        }
        dependencies = sorted(
            waits | set(_begun(self, uses, counts)),
            key=lambda edge: (edge.consumer, edge.producer, edge.when.value),
        )
        trips = tuple(
            phase.trips if counted else 1 for phase, counted in zip(phases, counts, strict=True)
        )
        machines = MACHINES.find(self.program)
        power = machines.edge.power if machines else None
        flows = tuple(_flows(self, uses))
        held = {
            side: tuple(in_types(spec, types).nbytes for spec in specs)
            for side, types in (TYPES.find(self.program) or {}).items()
            if types
        }
        return CostGraph(tasks, flows, tuple(dependencies), weights, trips, power, held)

    @cached_property
    def states(self) -> tuple[State, ...]:
        """The program's state that anything reads."""
        read = {use.target for use in self.uses if use.when in (When.NEXT, When.RESET)}
        return tuple(state for state in self.program.states if state.input in read)

    def happens_on_reset(self, use: Use) -> bool:
        """Whether a use happens on reset: by what runs then, or of what that makes."""
        phase = self.phases[use.consumer]
        consumer = phase < len(self.program.phases) and self.program.phases[phase].on_reset
        return consumer or use.when is When.RESET


# A dependency of each use that somebody waits for.
_WAITS = {
    When.WITHIN: When.WITHIN,
    When.INITIAL: When.INITIAL,
    When.CARRIED: When.CARRIED,
    When.RESET: When.INITIAL,
}


def cuts_of(dataflow: Dataflow) -> Cuts:
    """The cuts that passes wrote on the program.

    Raises PassError if there are none, or the program changed since.
    """
    cuts = CUTS.get(dataflow.program)
    if any(len(cut.sides) != len(dataflow.nodes) for cut in cuts.variants):
        raise PassError(
            f"{dataflow.program.name}: its operators changed since it was cut; run partition again"
        )
    return cuts


def trace_dataflow(program: Program) -> Dataflow:
    """The dataflow of a verified program. What no action of an episode depends on is left out."""
    tracer = _Tracer(program)
    uses = tuple(tracer.uses())
    live = _live(uses, len(tracer.nodes) - 1)
    number = {task: index for index, task in enumerate(live)}
    kept = (
        Use(use.key, number[use.producer], number[use.consumer], use.when, use.target)
        for use in uses
        if use.consumer in number
    )
    return Dataflow(
        program,
        tuple(tracer.nodes[task] for task in live),
        tuple(tracer.phases[task] for task in live),
        tuple(sorted(kept, key=lambda use: (use.consumer, use.producer, use.key))),
        tracer.specs,
    )


def _live(uses: Iterable[Use], action: int) -> list[int]:
    """Tasks that the action depends on, and the observation, in order."""
    makers: dict[int, list[int]] = {}
    for use in uses:
        makers.setdefault(use.consumer, []).append(use.producer)
    live, stack = {0, action}, [action]
    while stack:
        for task in makers.get(stack.pop(), ()):
            if task not in live:
                live.add(task)
                stack.append(task)
    return sorted(live)


def key_of(program: Program, source: Producer) -> str:
    """The key of a source: a name of the observation or of state, or `phase/output`."""
    return (
        source.name
        if source.phase is None
        else f"{program.phases[source.phase].name}/{source.name}"
    )


def weights_of(program: Program) -> dict[str, int]:
    """Bytes of every distinct weight, by name."""
    return {
        name: value_spec(value).nbytes
        for phase in program.phases
        for name, value in phase.model.graph.initializers.items()
    }


class _Tracer:
    def __init__(self, program: Program) -> None:
        self._program = program
        tasks: list[tuple[ir.Node | None, int]] = [(None, -1)]
        for index, phase in enumerate(program.phases):
            tasks += [(node, index) for node in operators(phase.model.graph)]
        tasks.append((None, len(program.phases)))
        self.nodes = tuple(node for node, _ in tasks)
        self.phases = tuple(phase for _, phase in tasks)
        self._task = {node: index for index, node in enumerate(self.nodes) if node is not None}
        self._outputs = {
            f"{phase.name}/{value.name}": value
            for phase in program.phases
            for value in phase.model.graph.outputs
        }
        self._states = {state.input: state for state in program.states}
        self.specs = {spec.name: spec for spec in program.inputs}
        self.specs |= {name: program.state_spec(one) for name, one in self._states.items()}

    def uses(self) -> Iterator[Use]:
        for task, (node, phase) in enumerate(zip(self.nodes, self.phases, strict=True)):
            if node is not None:
                for value in node_inputs(node):
                    yield from self._value_uses(task, phase, value)
        action = len(self.nodes) - 1
        for spec in self._program.outputs:
            source = self._program.output_source(spec.name)
            yield self._use(action, source, When.INITIAL)
        if STATE_COPIES.find(self._program):
            for state in self._states.values():
                yield from self._state_uses(action, state)

    def _value_uses(self, task: int, phase: int, value: ir.Value) -> Iterator[Use]:
        maker = value.producer()
        if maker in self._task:
            yield self._use(task, Producer(phase, str(value.name)), When.WITHIN, value)
        elif value.is_graph_input() and not value.is_initializer():
            name = str(value.name)
            source = self._program.source(phase, name)
            if source.phase is None and name in self._states:
                yield from self._state_uses(task, self._states[name])
            else:
                yield self._use(task, source, When.INITIAL, target=name)
            carried = self._program.carried_output(phase, name)
            if carried is not None:
                yield self._use(task, Producer(phase, carried), When.CARRIED, target=name)

    def _state_uses(self, task: int, state: State) -> Iterator[Use]:
        """What a task reads of a state: after a step, and on reset."""
        made = self._program.state_source(state)
        if made is not None:
            yield self._use(task, made, When.NEXT, target=state.input)
        first = self._program.reset_source(state.input)
        if first is not None:
            yield self._use(task, first, When.RESET, target=state.input)

    def _use(
        self,
        task: int,
        source: Producer,
        when: When,
        value: ir.Value | None = None,
        target: str = "",
    ) -> Use:
        key = key_of(self._program, source)
        if source.phase is None:
            return Use(key, 0, task, when, target)
        if value is None:
            value = self._outputs[key]
        self.specs[key] = value_spec(value)
        maker = value.producer()
        assert maker is not None, f"{key} is made by no operator"  # the verifier sees to it
        return Use(key, self._task[maker], task, when, target)


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
