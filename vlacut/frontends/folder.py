"""A program as a folder: phases as files, which `program.toml` says how to put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from vlacut.errors import ModelError
from vlacut.frontends.fixing import Fixed, read_of
from vlacut.frontends.folder_description import inside, read_description
from vlacut.frontends.normalize import separate_weights
from vlacut.frontends.onnx import Shapes, file_runner, finish_graph, read_graph
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.graphs import value_spec
from vlacut.ir.original import Numbers, Original, Runner, note, precision_of
from vlacut.ir.program import Phase, Program
from vlacut.ir.state import STEP, State
from vlacut.tensor import TensorSpec
from vlacut.tensor.npz import UNREADABLE, reason


def folder_program(
    path: str | Path, shapes: Shapes | None = None, fixed: Fixed | None = None
) -> Program:
    """The program that a folder describes; weights of equal name and content are shared.

    Dynamic dimensions of a phase's input are bound by the earlier phase's output that feeds it, or
    by `shapes`. An input of ONNX files that is `fixed` becomes a constant in all of them.

    Raises ModelError naming the file and key that are wrong, or as `onnx.load_graph` does.
    """
    folder = Path(path)
    description = read_description(folder)
    phases: list[Phase] = []
    given = dict(shapes or {})
    settings = fixed or {}
    models = list(_read(folder, description["phase"], settings))
    example: dict[str, np.ndarray] = {}
    for entry, model in zip(description["phase"], models, strict=True):
        if model is None:
            phases.append(_traced_phase(folder, entry, phases, given, example))
        else:
            phases.append(_phase(folder, entry, phases, given, model, settings))
    unknown = [name for name in given if all(name not in phase.input_names for phase in phases)]
    if unknown:
        raise ModelError(f"{folder}: no phase has the input {unknown[0]} to bind")
    separate_weights(phases)
    states = tuple(_states(folder, description.get("state", {})))
    inputs = _observation(phases, description.get("inputs"), folder, {one.input for one in states})
    outputs = tuple(_made(phases, name, folder) for name in description["outputs"])
    name = description.get("name", folder.resolve().name)
    program = Program(name, tuple(phases), inputs, outputs, state=states)
    known = {spec.name: example[spec.name] for spec in inputs if spec.name in example}
    if known:
        EXAMPLE.put(program, known)
    note_folder(program, folder, fixed)
    return program


def _read(
    folder: Path, entries: Sequence[Mapping[str, Any]], fixed: Fixed
) -> Iterator[ir.Model | None]:
    """The ONNX file of each phase, as it is; None for a phase of another kind."""
    found: set[str] = set()
    for entry in entries:
        file = inside(folder, entry["file"], f"phase {entry['name']}")
        model = None if file.suffix == ".pt2" else read_graph(file)
        found |= set(read_of(model, fixed)) if model else set()
        yield model
    for name in sorted(set(fixed) - found):
        raise ModelError(f"{folder}: no ONNX file of it has the input {name} to fix")


def note_folder(program: Program, folder: Path, fixed: Fixed | None = None) -> None:
    """Let the model check run the files of a folder that a program came from, with inputs that are
    `fixed`.
    """
    entries = read_description(folder)["phase"]
    runners = {
        phase.name: _traced_runner(phase, folder / entry["file"])
        if entry["file"].endswith(".pt2")
        else file_runner(phase, folder / entry["file"], fixed)
        for phase, entry in zip(program.phases, entries, strict=True)
    }
    what = f"the files of {folder.resolve().name}"
    note(program, Original(what, runners, precision=precision_of(program)))


def _traced_runner(phase: Phase, file: Path) -> Runner:
    """Runs a .pt2 file by torch, which is imported when it is first run."""
    inputs, outputs = phase.input_names, phase.output_names
    runners: list[Runner] = []

    def run(given: Mapping[str, np.ndarray]) -> Numbers:
        if not runners:
            from vlacut.frontends.torch_files import pt2_runner

            runners.append(pt2_runner(file, inputs, outputs))
        return runners[0](given)

    return run


def _traced_phase(
    folder: Path,
    entry: Mapping[str, Any],
    earlier: Sequence[Phase],
    given: Shapes,
    example: dict[str, np.ndarray],
) -> Phase:
    """A phase out of a .pt2 file; what its example has of the observation is added to that."""
    from vlacut.frontends.torch_files import pt2_phase

    file = inside(folder, entry["file"], f"phase {entry['name']}")
    for key in ("inputs", "outputs"):
        if not entry.get(key):
            raise ModelError(f"{folder}: phase {entry['name']}: {key} is missing; name its tensors")
    shapes = {name: given[name] for name in entry["inputs"] if name in given}
    model, found = pt2_phase(file, entry["inputs"], entry["outputs"], shapes)
    model.graph.name = entry["name"]
    example.update({name: array for name, array in found.items() if name not in example})
    when = entry.get("when", STEP)
    return Phase(entry["name"], model, entry.get("trips", 1), entry.get("carried", {}), when)


def _phase(
    folder: Path,
    entry: Mapping[str, Any],
    earlier: Sequence[Phase],
    given: Shapes,
    model: ir.Model,
    fixed: Fixed,
) -> Phase:
    """A phase out of an ONNX file that was read as `model`."""
    for key in ("inputs", "outputs"):
        if key in entry:
            raise ModelError(f"{folder}: phase {entry['name']}: an ONNX file has {key} of its own")
    shapes = {}
    for value in model.graph.inputs:
        name = str(value.name)
        feeding = _feeding(earlier, name)
        if name in given:
            shapes[name] = given[name]
        elif feeding is not None and not _is_static(value):
            shapes[name] = value_spec(feeding).shape
    model.graph.name = entry["name"]
    finish_graph(model, shapes, str(folder / entry["file"]), read_of(model, fixed))
    when = entry.get("when", STEP)
    return Phase(entry["name"], model, entry.get("trips", 1), entry.get("carried", {}), when)


def _states(folder: Path, table: Mapping[str, Any]) -> Iterator[State]:
    """The states of the description; initial values are read out of .npy files of the folder."""
    for output, fed in table.items():
        told = {"input": fed} if isinstance(fed, str) else fed
        initial = None
        if "initial" in told:
            file = inside(folder, told["initial"], f"state {output}")
            try:
                initial = np.load(file, allow_pickle=False)
            except UNREADABLE as error:
                raise ModelError(f"{file}: cannot be read: {reason(error)}") from error
            if not isinstance(initial, np.ndarray):
                raise ModelError(f"{file}: is no .npy file; write the array with numpy.save")
        yield State(output, told["input"], initial, told.get("name", ""))


def _is_static(value: ir.Value) -> bool:
    return value.shape is not None and value.shape.is_static()


def _feeding(earlier: Sequence[Phase], name: str) -> ir.Value | None:
    for phase in reversed(earlier):
        for value in phase.model.graph.outputs:
            if value.name == name:
                return value
    return None


def _made(phases: Sequence[Phase], name: str, folder: Path) -> TensorSpec:
    value = _feeding(phases, name)
    if value is None:
        made = sorted({made for phase in phases for made in phase.output_names})
        raise ModelError(f"{folder}: no phase has the output {name}; known: {', '.join(made)}")
    return value_spec(value)


def _observation(
    phases: Sequence[Phase], names: Sequence[str] | None, folder: Path, states: Set[str]
) -> tuple[TensorSpec, ...]:
    free = {
        str(value.name): value_spec(value)
        for index, phase in enumerate(phases)
        for value in phase.model.graph.inputs
        if str(value.name) not in states and _feeding(phases[:index], str(value.name)) is None
    }
    for name in names if names is not None else ():
        if name not in free:
            raise ModelError(f"{folder}: input {name} is read by no phase, or an earlier makes it")
    return tuple(free[name] for name in (free if names is None else names))
