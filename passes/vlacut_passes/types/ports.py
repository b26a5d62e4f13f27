"""Inputs and outputs of phases that hold what the robot gives and gets: their types are its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from vlacut.ir.graphs import dtype_name
from vlacut.ir.program import Program

Port = tuple[int, str, str]  # a phase, `in` or `out`, a name


def kept_ports(program: Program) -> set[Port]:
    """Inputs and outputs of phases that hold the observation, the action, or are joined to one."""
    joined = _Joined()
    for index, phase in enumerate(program.phases):
        for name in phase.input_names:
            source = program.source(index, name)
            joined.join((index, "in", name), _made(source.phase, source.name))
            state = program.state_of(name) if source.phase is None else None
            for made in (program.state_source(state), program.reset_source(name)) if state else ():
                if made is not None:
                    joined.join((index, "in", name), _made(made.phase, made.name))
            output = program.carried_output(index, name)
            if output is not None:
                joined.join((index, "in", name), (index, "out", output))
    ends = [_made(None, spec.name) for spec in program.inputs]
    # An initial value has the type that it was given in.
    ends += [_made(None, one.input) for one in program.state if one.initial is not None]
    ends += [
        _made(found.phase, found.name)
        for spec in program.outputs
        for found in [program.output_source(spec.name)]
    ]
    return joined.reached(ends)


def open_ports(
    program: Program, ports: set[Port], source: ir.DataType, target: ir.DataType
) -> None:
    """Give these inputs and outputs another type, where they have the source's, with casts between
    them and what reads and makes them.
    """
    for index, phase in enumerate(program.phases):
        graph = phase.model.graph
        for value in graph.inputs:
            if value.dtype == source and (index, "in", str(value.name)) in ports:
                _open_input(graph, value, target)
        for place, value in enumerate(graph.outputs):
            maker = value.producer()
            if value.dtype == source and (index, "out", str(value.name)) in ports and maker:
                name = str(value.name)
                value.name = f"{name}.{dtype_name(source)}"
                made = _cast(value, target, maker)
                made.name, graph.outputs[place] = name, made
                graph.insert_after(maker, [one for one in [made.producer()] if one is not None])


def _open_input(graph: ir.Graph, value: ir.Value, target: ir.DataType) -> None:
    source, readers = value.dtype, list(value.uses())
    if source is None or not readers:
        value.type = ir.TensorType(target)
        return
    made = _cast(value, source, readers[0].node)
    value.type = ir.TensorType(target)
    for use in readers:
        use.node.replace_input_with(use.idx, made)
    graph.insert_before(graph[0], [one for one in [made.producer()] if one is not None])


def _cast(value: ir.Value, dtype: ir.DataType, like: ir.Node) -> ir.Value:
    """The value in a type, by an operator that is in no graph yet."""
    name = f"{value.name}.{dtype_name(dtype)}"
    node = ir.node("Cast", [value], {"to": int(dtype)}, name=name)
    node.metadata_props.update(like.metadata_props)
    made = node.outputs[0]
    made.name, made.shape, made.type = name, value.shape, ir.TensorType(dtype)
    return made


def _made(phase: int | None, name: str) -> Port:
    return (-1, "out", name) if phase is None else (phase, "out", name)


@dataclass
class _Joined:
    """Ports that carry the same tensor at some time."""

    near: dict[Port, list[Port]] = field(default_factory=dict)

    def join(self, one: Port, other: Port) -> None:
        self.near.setdefault(one, []).append(other)
        self.near.setdefault(other, []).append(one)

    def reached(self, ends: Iterable[Port]) -> set[Port]:
        waiting = list(ends)
        found = set(waiting)
        while waiting:
            fresh = [port for port in self.near.get(waiting.pop(), ()) if port not in found]
            found.update(fresh)
            waiting.extend(fresh)
        return found
