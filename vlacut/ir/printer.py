"""The text of a program: stable, one operator per line, annotations behind it.

    program tiny(image: float32[1, 3, 28, 28]) -> (action: float32[1, 7])
    phase main
      %y: float32[1, 8] = MatMul(%x, $w) {cost = 128 flop, 320 B; side = cloud}
      output action

`%` marks a value, `$` a weight. Annotations come in the order of their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

import numpy as np
import onnx_ir as ir

from vlacut.hardware import Side
from vlacut.ir.annotation import COST, CUTS, SECONDS, STRUCTURE, Key
from vlacut.ir.dataflow import cuts_of, trace_dataflow
from vlacut.ir.graphs import value_spec
from vlacut.ir.program import Phase, Program

T = TypeVar("T")
_Sides = Mapping[ir.Node, tuple[Side, ...]]  # of every operator, by variant


def print_program(program: Program) -> str:
    """The text of a program, ending in a newline."""
    return "\n".join(_lines(program)) + "\n"


def _lines(program: Program) -> Iterator[str]:
    inputs = ", ".join(map(str, program.inputs))
    outputs = ", ".join(map(str, program.outputs))
    yield f"program {program.name}({inputs}) -> ({outputs})"
    for state in program.state:
        given = "" if state.initial is None else ", given at first"
        yield f"state {state.output} -> {program.state_spec(state)}{given}"
    sides = _sides(program)
    for phase in program.phases:
        yield _heading(phase)
        for node in phase.model.graph:
            yield f"  {operator_text(node)}{_annotations(node, sides)}"
        yield f"  output {', '.join(phase.output_names)}"


def operator_text(node: ir.Node) -> str:
    """An operator on one line: what it makes, of what."""
    return f"{_outputs(node)} = {_operator(node)}"


def _heading(phase: Phase) -> str:
    carried = ", ".join(f"{output} -> {fed}" for output, fed in phase.carried.items())
    trips = f" x {phase.trips}" if phase.trips > 1 else ""
    when = " on reset" if phase.on_reset else ""
    return f"phase {phase.name}{when}{trips}" + (f" carrying {carried}" if carried else "")


def _outputs(node: ir.Node) -> str:
    return ", ".join(_typed(value) for value in node.outputs if value.name) or "()"


def _typed(value: ir.Value) -> str:
    try:
        spec = value_spec(value)
    except ValueError:
        return f"%{value.name}: {value.dtype}{value.shape}"
    return f"%{spec}"


def _operator(node: ir.Node) -> str:
    domain = f"{node.domain}." if node.domain else ""
    inputs = ", ".join(_reference(value) for value in node.inputs)
    attributes = ", ".join(
        f"{attribute.name}={_attribute(attribute)}"
        for _, attribute in sorted(node.attributes.items())
    )
    return f"{domain}{node.op_type}({inputs})" + (f" [{attributes}]" if attributes else "")


def _reference(value: ir.Value | None) -> str:
    if value is None:
        return "_"
    return f"${value.name}" if value.is_initializer() else f"%{value.name}"


def _attribute(attribute: ir.Attr) -> str:
    if attribute.type == ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        return f"{tensor.dtype.name.lower()}{list(tensor.shape.numpy())}"
    if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return "{...}"
    if attribute.type == ir.AttributeType.FLOAT:
        return str(np.float32(attribute.value))
    if attribute.type == ir.AttributeType.FLOATS:
        return str(list(map(str, np.array(attribute.value, np.float32)))).replace("'", "")
    return str(attribute.value)


def _sides(program: Program) -> _Sides:
    if CUTS.find(program) is None:
        return {}
    dataflow = trace_dataflow(program)
    by_task = zip(*(cut.sides for cut in cuts_of(dataflow).variants), strict=True)
    return {node: sides for node, sides in zip(dataflow.nodes, by_task, strict=True) if node}


def _annotations(node: ir.Node, sides: _Sides) -> str:
    shown = [*_shown(COST, node), *_shown(SECONDS, node)]
    mine = sides.get(node, ())
    if mine:
        shown.append(f"side = {mine[0]}")
    if len(mine) > 1:
        shown.append(f"sides = {'|'.join(map(str, mine))}")
    shown += _shown(STRUCTURE, node)
    return f" {{{'; '.join(shown)}}}" if shown else ""


def _shown(key: Key[T], node: ir.Node) -> list[str]:
    found = key.find(node)
    return [] if found is None else [f"{key.name} = {key.text(found)}"]
