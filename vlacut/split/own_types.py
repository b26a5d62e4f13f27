"""Own types: parts of a side whose executor lacks an element type that the program has.

The side computes in another one. What crosses the link, the observation, the action and state keep
the program's type, which is then cast where a part reads or makes it. What never leaves the side is
in the type that it computes in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import onnx_ir as ir

from vlacut.hardware import Side
from vlacut.ir.graphs import dtype_name, value_spec
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Phase, Program
from vlacut.plans.instructions import Move, Transfer, steps
from vlacut.plans.plan import Part
from vlacut.split.parts import Split

Types = Mapping[str, str]  # each with the one to compute in instead


@dataclass(frozen=True)
class Owned:
    """Parts in the types of their sides.

    Attributes:
        split: with these parts.
        weights: bytes of the weights that are in another type than the program's, by name.
    """

    split: Split
    weights: Mapping[str, int]


def in_own_types(split: Split, types: Mapping[Side, Types], fixed: Iterable[str]) -> Owned:
    """The parts of every side in the types that it computes in.

    Args:
        split: all parts, with the schedules of all variants.
        types: that a side lacks, each with the one to compute in instead.
        fixed: keys that keep the program's types: observation, action and state.
    """
    if not any(types.values()):
        return Owned(split, {})
    crossing = _crossing(split, set(fixed))
    own: dict[str, str] = {}  # of keys that change
    weights: dict[str, int] = {}
    parts, models = list(split.parts), list(split.models)
    specs = {spec.name: spec for spec in split.tensors}
    for index, (part, model) in enumerate(zip(split.parts, split.models, strict=True)):
        lacks = types.get(part.side, {})
        if not lacks:
            continue
        keys = [*part.inputs, *part.outputs]
        own |= {key: lacks[specs[key].dtype] for key in keys if specs[key].dtype in lacks}
        renamed = convert_model(model, lacks, crossing)
        parts[index] = _with_weights(part, model, renamed)
        weights |= _nbytes(model, renamed.values())
    tensors = tuple(
        replace(spec, dtype=own[spec.name])
        if spec.name in own and spec.name not in crossing
        else spec
        for spec in split.tensors
    )
    made = replace(
        split,
        parts=tuple(parts),
        extracted=tuple(partial(_made, model) for model in models),
        tensors=tensors,
    )
    return Owned(made, weights)


def _made(model: ir.Model) -> ir.Model:
    return model


def _crossing(split: Split, fixed: set[str]) -> set[str]:
    """Keys that keep the program's types: what crosses in any variant, what parts of both sides
    have, and what is moved to or from such a key.
    """
    found, moves = set(fixed), []
    for schedule in (*split.firsts, *split.schedules):
        for _, _, _, item in steps(schedule):
            if isinstance(item, Transfer):
                found.update(item.tensors)
            elif isinstance(item, Move):
                moves.append({item.source, item.target})
    of_side: dict[Side, set[str]] = {side: set() for side in Side}
    for part in split.parts:
        of_side[part.side].update(part.inputs, part.outputs)
    found |= of_side[Side.EDGE] & of_side[Side.CLOUD]
    pairs = {frozenset(pair) for pair in moves}
    while more := {key for pair in pairs if pair & found for key in pair} - found:
        found |= more
    return found


def convert_model(
    model: ir.Model, types: Types, kept: Iterable[str] | None = None
) -> dict[str, str]:
    """Convert a model in place; new names of the weights that it changes, by the old ones.

    Args:
        model: of a part or a phase.
        types: to convert, each to another.
        kept: inputs and outputs that keep their types, with casts; None for all of them.
    """
    graph = model.graph
    if not any(dtype_name(dtype) in types for dtype in _dtypes(graph)):
        return {}
    given = tuple(value_spec(value) for value in graph.inputs)
    made = tuple(value_spec(value) for value in graph.outputs)
    before = {name: value.dtype for name, value in graph.initializers.items()}
    program = Program("part", (Phase("part", model),), given, made)
    for source, target in types.items():
        parse_pipeline(f"convert-types{{source={source} target={target}}}").run(program)
    wanted = {spec.name: spec.dtype for spec in (*given, *made)}
    keeping = wanted if kept is None else wanted.keys() & set(kept)
    for value in list(graph.inputs):
        if value.name in keeping and value.dtype is not None:
            _cast_input(graph, value, wanted[str(value.name)])
    for place, value in enumerate(graph.outputs):
        if value.name in keeping and value.dtype is not None:
            _cast_output(graph, place, wanted[str(value.name)])
    return _rename(graph, before)


def _dtypes(graph: ir.Graph) -> Iterator[ir.DataType]:
    held = (*graph.inputs, *graph.initializers.values())
    made = (value for node in graph.all_nodes() for value in node.outputs)
    yield from (value.dtype for value in (*held, *made) if value.dtype is not None)


def _cast_input(graph: ir.Graph, value: ir.Value, dtype: str) -> None:
    inner = value.dtype
    if inner is None or dtype_name(inner) == dtype:
        return
    readers = list(value.uses())
    value.type = ir.TensorType(_type(dtype))
    if readers:
        made = _cast(value, inner, f"{value.name}.{dtype_name(inner)}")
        for use in readers:
            use.node.replace_input_with(use.idx, made.outputs[0])
        graph.insert_before(graph[0], made)


def _cast_output(graph: ir.Graph, place: int, dtype: str) -> None:
    value = graph.outputs[place]
    maker = value.producer()
    if maker is None or value.dtype is None or dtype_name(value.dtype) == dtype:
        return
    name, value.name = str(value.name), f"{value.name}.{dtype_name(value.dtype)}"
    made = _cast(value, _type(dtype), name)
    graph.outputs[place] = made.outputs[0]
    graph.insert_after(maker, made)


def _cast(value: ir.Value, dtype: ir.DataType, name: str) -> ir.Node:
    node = ir.node("Cast", [value], {"to": int(dtype)}, name=f"{name}.cast")
    made = node.outputs[0]
    made.name, made.shape, made.type = name, value.shape, ir.TensorType(dtype)
    return node


def _type(dtype: str) -> ir.DataType:
    return next(one for one in ir.DataType if dtype_name(one) == dtype)


def _rename(graph: ir.Graph, before: Mapping[str, ir.DataType | None]) -> dict[str, str]:
    """Give weights in another type names of their own: the other side has the ones they had."""
    renamed = {}
    for name, value in list(graph.initializers.items()):
        if value.dtype is not None and value.dtype != before.get(name, value.dtype):
            renamed[name] = value.name = f"{name}@{dtype_name(value.dtype)}"
    return renamed


def _with_weights(part: Part, model: ir.Model, renamed: Mapping[str, str]) -> Part:
    names = {renamed.get(name, name) for name in part.weights}
    held = model.graph.initializers
    return replace(
        part,
        weights=tuple(sorted(names)),
        weight_bytes=sum(value_spec(held[name]).nbytes for name in names if name in held),
    )


def _nbytes(model: ir.Model, names: Iterable[str]) -> dict[str, int]:
    return {name: value_spec(model.graph.initializers[name]).nbytes for name in names}
