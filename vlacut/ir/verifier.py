"""The verifier: a list of rules that every program obeys, before and after every pass.

A rule yields one line per violation; the first few are reported together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice

import onnx_ir as ir

from vlacut.errors import VerificationError
from vlacut.ir.graphs import value_spec
from vlacut.ir.program import Phase, Producer, Program
from vlacut.tensor import TensorSpec

_SHOWN = 5


def verify(program: Program) -> None:
    """Raise VerificationError, with the first violations, if a program breaks a rule."""
    by_phase = (rule(phase) for phase in program.phases for rule in PHASE_RULES)
    whole = (rule(program) for rule in PROGRAM_RULES)
    found = list(islice(chain(*by_phase, *whole), _SHOWN))
    if found:
        raise VerificationError(f"program {program.name}: " + "; ".join(found))


def names_are_unique(phase: Phase) -> Iterator[str]:
    """Every operator and every value has a name of its own."""
    graph = phase.model.graph
    nodes: set[str | None] = set()
    values: set[str | None] = set()
    for node in graph:
        if not node.name or node.name in nodes:
            yield f"{phase.name}: node name {node.name!r} ({node.op_type}) is empty or not unique"
        nodes.add(node.name)
    made = (value for node in graph for value in node.outputs if value.name != "")
    for value in chain(graph.inputs, graph.initializers.values(), made):
        if not value.name or value.name in values:
            yield f"{phase.name}: value name {value.name!r} is empty or not unique"
        values.add(value.name)


def values_are_static(phase: Phase) -> Iterator[str]:
    """Every value has a known type and a static shape."""
    graph = phase.model.graph
    made = (value for node in graph for value in node.outputs if value.name and _is_read(value))
    for value in chain(graph.inputs, graph.initializers.values(), made):
        try:
            value_spec(value)
        except ValueError as error:
            yield f"{phase.name}: {error}"


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def nodes_are_sorted(phase: Phase) -> Iterator[str]:
    """An operator comes after those that make its inputs."""
    seen: set[ir.Node] = set()
    graph = phase.model.graph
    for node in graph:
        for value in node.inputs:
            maker = value.producer() if value is not None else None
            if maker is not None and maker.graph is graph and maker not in seen:
                yield f"{phase.name}: node {node.name} reads {maker.name} before it ran"
        seen.add(node)


def outputs_are_made(phase: Phase) -> Iterator[str]:
    """Every output is made by an operator, and is no second name of another output."""
    seen: set[ir.Value] = set()
    for value in phase.model.graph.outputs:
        if value.producer() is None or value in seen:
            yield f"{phase.name}: output {value.name} is an input, a weight or there twice"
        seen.add(value)


def carried_values_fit(phase: Phase) -> Iterator[str]:
    """A carried output has the type and shape of the input it is fed to."""
    graph = phase.model.graph
    outputs = {value.name: value for value in graph.outputs}
    inputs = {value.name: value for value in graph.inputs}
    for output, fed in phase.carried.items():
        where = f"{phase.name}: carried {output} -> {fed}"
        yield from _mismatch(where, value_spec(outputs[output]), value_spec(inputs[fed]))


def bindings_fit(program: Program) -> Iterator[str]:
    """What binds an input has its type and shape."""
    for index, phase in enumerate(program.phases):
        for value in phase.model.graph.inputs:
            source = program.source(index, str(value.name))
            where = f"{phase.name}: input {value.name}"
            yield from _mismatch(where, _source_spec(program, source), value_spec(value))


def outputs_fit(program: Program) -> Iterator[str]:
    """The action is what the phases make."""
    for spec in program.outputs:
        made = _source_spec(program, program.output_source(spec.name))
        yield from _mismatch(f"action {spec.name}", made, spec)


def weights_agree(program: Program) -> Iterator[str]:
    """A weight that phases share has one type and shape."""
    seen: dict[str, tuple[str, TensorSpec]] = {}
    for phase in program.phases:
        for name, value in phase.model.graph.initializers.items():
            spec = value_spec(value)
            first, known = seen.setdefault(name, (phase.name, spec))
            yield from _mismatch(f"weight {name} of {first} and {phase.name}", known, spec)


def states_fit(program: Program) -> Iterator[str]:
    """A state has one type and shape: in the first step and in every later one."""
    for state in program.states:
        spec = program.state_spec(state)
        made = program.reset_source(state.input)
        if made is not None:
            yield from _mismatch(f"state {state.name}", _source_spec(program, made), spec)
        elif state.initial is not None:
            given, named = state.initial, f"state {state.name}: its initial value"
            if (given.dtype, given.shape) != (spec.numpy_dtype, spec.numpy_shape):
                yield f"{named} is {given.dtype}{list(given.shape)}, not {spec}"


def _source_spec(program: Program, source: Producer) -> TensorSpec:
    if source.phase is None:
        state = program.state_of(source.name)
        if state is not None:
            return program.state_spec(state)
        return next(spec for spec in program.inputs if spec.name == source.name)
    outputs = program.phases[source.phase].model.graph.outputs
    return value_spec(next(value for value in outputs if value.name == source.name))


def _mismatch(where: str, one: TensorSpec, other: TensorSpec) -> Iterator[str]:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        yield f"{where}: {one.dtype}{list(one.shape)} is not {other.dtype}{list(other.shape)}"


PHASE_RULES: tuple[Callable[[Phase], Iterator[str]], ...] = (
    names_are_unique,
    values_are_static,
    nodes_are_sorted,
    outputs_are_made,
    carried_values_fit,
)
PROGRAM_RULES: tuple[Callable[[Program], Iterator[str]], ...] = (
    bindings_fit,
    outputs_fit,
    states_fit,
    weights_agree,
)
