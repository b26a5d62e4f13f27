"""Uses: which task reads which value, and when; found by walking a program's phases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from vlacut.ir.annotation import STATE_COPIES
from vlacut.ir.graphs import node_inputs, operators, value_spec
from vlacut.ir.program import Producer, Program
from vlacut.ir.state import State
from vlacut.pricing.cost_graph import When


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


class Tracer:
    """Numbers the tasks of a program, the observation first and the action last, and finds uses.

    Attributes:
        nodes, phases: of every task, as in `Dataflow`.
        specs: of every key, once `uses` has gone through.
    """

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
        """Every use, also of what no action depends on."""
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


def live_tasks(uses: Iterable[Use], action: int) -> list[int]:
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
