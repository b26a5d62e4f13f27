"""A program as files, and back, exact to the last name and bit: what a cache keeps.

    program.json     names, trips, carried tensors, state, inputs, outputs, notes; where each
                     weight lies
    N.onnx           the graph of phase N; small constants inside
    weights.bin      contents that lie in no other file, each aligned
    example.npz      the recorded example, if there is one
    initial.npz      initial values of state that are not zeros, if there are any

A weight that lies in a file stays there, and the program refers to it. A weight that the reader of
the program will hand over is referred to by its name. A weight without content keeps its shape.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import onnx_ir as ir

from vlacut.ir.annotation import COUNTED, EXAMPLE, FIXED, NOISE, NOTES, PREMISES
from vlacut.ir.program import Phase, Program
from vlacut.ir.state import State
from vlacut.tensor import TensorSpec
from vlacut.tensor.noise import Noise
from vlacut.tensor.npz import npz_bytes, read_npz
from vlacut.tensor.premise import Operation, Premise

DESCRIPTION = "program.json"
_WEIGHTS, _EXAMPLE, _INITIAL = "weights.bin", "example.npz", "initial.npz"
_INLINE_BYTES = 1 << 16  # up to it, a reference and a map of its own cost more
_ALIGNMENT = 64

_INSIDE = "inside"

Held = Mapping[str, ir.TensorProtocol]


@dataclass(frozen=True)
class _Place:
    """Where the content of a weight is: `file` is empty for `weights.bin`."""

    kind: str  # "inside" the graph, in a "file", "held" by the reader, or a "shape" alone
    file: str = ""
    offset: int = 0
    nbytes: int = 0


def write_program(program: Program, folder: Path, held: frozenset[str] = frozenset()) -> None:
    """Write a program into an empty folder; `held` names weights that `read_program` is given.

    The program is unchanged when this returns. Of its annotations only the front end's are kept.
    """
    placed: dict[str, _Place] = {}  # phases share a weight by its name
    with (folder / _WEIGHTS).open("wb") as weights:
        for index, phase in enumerate(program.phases):
            for name, value in phase.model.graph.initializers.items():
                if name not in placed:
                    placed[name] = _place(name, value.const_value, held, weights)
            _write_graph(phase.model, folder / f"{index}.onnx", placed)
    initial = {one.input: one.initial for one in program.state if one.initial is not None}
    if initial:
        (folder / _INITIAL).write_bytes(npz_bytes(initial))
    example = EXAMPLE.find(program)
    if example:
        (folder / _EXAMPLE).write_bytes(npz_bytes(example))
    description = {
        "name": program.name,
        "inputs": [_spec_json(spec) for spec in program.inputs],
        "outputs": [_spec_json(spec) for spec in program.outputs],
        "phases": [
            {
                "name": phase.name,
                "trips": phase.trips,
                "carried": dict(phase.carried),
                "when": phase.when,
            }
            for phase in program.phases
        ],
        "state": [
            {"output": one.output, "input": one.input, "name": one.name} for one in program.state
        ],
        "weights": {name: vars(one) for name, one in placed.items() if one.kind != _INSIDE},
        "notes": list(NOTES.find(program) or ()),
        "counted": list(COUNTED.find(program) or ()),
        "premises": [_premise_json(one) for one in PREMISES.find(program) or ()],
        "noise": [vars(one) for one in NOISE.find(program) or ()],
        "fixed": sorted(FIXED.find(program) or ()),
    }
    (folder / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")


def read_program(folder: Path, held: Held | None = None) -> Program:
    """The program of a folder that `write_program` filled.

    For a folder that it did not fill, this raises one of `tensor.npz.UNREADABLE`, TypeError or
    AttributeError; so check the files first.
    """
    description = json.loads((folder / DESCRIPTION).read_bytes())
    places = {name: _Place(**place) for name, place in description["weights"].items()}
    phases = []
    for index, entry in enumerate(description["phases"]):
        model = ir.load(folder / f"{index}.onnx")
        for name, value in model.graph.initializers.items():
            if name in places:
                value.const_value = _content(value, places[name], folder, held or {})
        phases.append(Phase(entry["name"], model, entry["trips"], entry["carried"], entry["when"]))
    inputs, outputs = (tuple(map(_spec, description[key])) for key in ("inputs", "outputs"))
    initial = read_npz(folder / _INITIAL) if (folder / _INITIAL).is_file() else {}
    state = tuple(
        State(one["output"], one["input"], initial.get(one["input"]), one["name"])
        for one in description["state"]
    )
    program = Program(description["name"], tuple(phases), inputs, outputs, state=state)
    if (folder / _EXAMPLE).is_file():
        EXAMPLE.put(program, read_npz(folder / _EXAMPLE))
    if description["fixed"]:
        FIXED.put(program, {name: EXAMPLE.get(program)[name] for name in description["fixed"]})
    if description["counted"]:
        COUNTED.put(program, tuple(description["counted"]))
    if description["premises"]:
        PREMISES.put(program, tuple(map(_premise, description["premises"])))
    if description["noise"]:
        NOISE.put(program, tuple(Noise(**one) for one in description["noise"]))
    if description["notes"]:
        NOTES.put(program, tuple(description["notes"]))
    return program


def outside_files(program: Program) -> tuple[Path, ...]:
    """Files that weights of a program lie in, sorted."""
    return tuple(
        sorted(
            {
                Path(value.const_value.path)
                for phase in program.phases
                for value in phase.model.graph.initializers.values()
                if isinstance(value.const_value, ir.ExternalTensor)
            }
        )
    )


def content_bytes(program: Program, held: frozenset[str] = frozenset()) -> int:
    """Bytes of weights that `write_program` would have to copy."""
    return sum(_contents(program, held).values())


def maps_no_copy(program: Program, held: frozenset[str] = frozenset()) -> bool:
    """Whether all that `write_program` would have to copy goes into the graphs."""
    return all(nbytes <= _INLINE_BYTES for nbytes in _contents(program, held).values())


def _contents(program: Program, held: frozenset[str]) -> dict[str, int]:
    """Bytes of each weight that lies in no file and that nobody hands over."""
    return {
        name: value.const_value.nbytes
        for phase in program.phases
        for name, value in phase.model.graph.initializers.items()
        if name not in held
        and value.const_value is not None
        and not isinstance(value.const_value, ir.ExternalTensor)
    }


def _write_graph(model: ir.Model, file: Path, placed: Mapping[str, _Place]) -> None:
    names = [name for name in model.graph.initializers if placed[name].kind != _INSIDE]
    with _without(model.graph, names):
        file.write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))


def _place(
    name: str, tensor: ir.TensorProtocol | None, held: frozenset[str], weights: BinaryIO
) -> _Place:
    if tensor is None:
        return _Place("shape")
    if name in held:
        return _Place("held")
    if isinstance(tensor, ir.ExternalTensor):
        path = str(Path(tensor.path).resolve())
        return _Place("file", path, tensor.offset or 0, tensor.nbytes)
    if tensor.nbytes <= _INLINE_BYTES:
        return _Place(_INSIDE)
    weights.write(b"\0" * (-weights.tell() % _ALIGNMENT))
    start = weights.tell()
    weights.write(tensor.tobytes())
    return _Place("file", "", start, tensor.nbytes)


@contextmanager
def _without(graph: ir.Graph, names: list[str]) -> Iterator[None]:
    """Meanwhile some initializers refer to nothing, in the place of their contents."""
    kept = {name: graph.initializers[name].const_value for name in names}
    try:
        for name in names:
            value = graph.initializers[name]
            assert value.dtype is not None
            value.const_value = ir.ExternalTensor(
                "-", 0, 0, value.dtype, shape=value.shape or ir.Shape([]), name=name
            )
        yield
    finally:
        for name, tensor in kept.items():
            graph.initializers[name].const_value = tensor


def _content(value: ir.Value, place: _Place, folder: Path, held: Held) -> ir.TensorProtocol | None:
    if place.kind == "shape":
        return None
    if place.kind == "held":
        return held[str(value.name)]
    path = Path(place.file) if place.file else folder / _WEIGHTS
    assert value.dtype is not None
    return ir.ExternalTensor(
        path.name,
        place.offset,
        place.nbytes,
        value.dtype,
        shape=value.shape or ir.Shape([]),
        name=str(value.name),
        base_dir=path.parent,
    )


def _premise_json(premise: Premise) -> dict[str, Any]:
    return {**vars(premise), "operations": [vars(one) for one in premise.operations]}


def _premise(item: dict[str, Any]) -> Premise:
    operations = (
        Operation(
            one["op"],
            tuple(one["of"]),
            one["name"],
            tuple(one["numbers"]),
            tuple(one["shape"]),
        )
        for one in item["operations"]
    )
    return Premise(tuple(operations), tuple(item["expected"]), item["counted"], item["place"])


def _spec_json(spec: TensorSpec) -> list[Any]:
    return [spec.name, spec.dtype, list(spec.shape)]


def _spec(item: list[Any]) -> TensorSpec:
    name, dtype, shape = item
    return TensorSpec(name, dtype, tuple(shape))
