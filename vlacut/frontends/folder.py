"""A program as a folder: phases as files, and `program.toml` that says how they go together.

name = "policy"                       # optional, the folder's name otherwise
inputs = ["image", "state"]           # optional, what no earlier phase makes otherwise
outputs = ["action"]

[[phase]]
name = "denoise"
file = "denoise.onnx"                 # or denoise.pt2, as vlacut-export writes it
inputs = ["noise", "context"]         # of a .pt2 file: names of its tensors, in order
outputs = ["noise_out"]               # of a .pt2 file
trips = 10                            # optional, 1 otherwise
carried = { noise_out = "noise" }     # optional
when = "reset"                        # optional: in the first step of an episode alone

[state]                               # optional: outputs of a step, inputs of the next
next_h = "h"                          # zeros at first
next_c = { input = "c", initial = "c.npy", name = "cell" }
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import tomllib

from vlacut.errors import ModelError
from vlacut.frontends.fixing import Fixed, read_of
from vlacut.frontends.normalize import separate_weights
from vlacut.frontends.onnx import Shapes, file_runner, finish_graph, read_graph
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.graphs import value_spec
from vlacut.ir.original import Numbers, Original, Runner, note, precision_of
from vlacut.ir.program import Phase, Program
from vlacut.ir.state import STEP, State
from vlacut.tensor import TensorSpec
from vlacut.tensor.npz import UNREADABLE, reason

_PROGRAM_KEYS = {"name": str, "inputs": list, "outputs": list, "phase": list, "state": dict}
_PHASE_KEYS = {
    "name": str,
    "file": str,
    "trips": int,
    "carried": dict,
    "inputs": list,
    "outputs": list,
    "when": str,
}
_STATE_KEYS = {"input": str, "initial": str, "name": str}


def folder_program(
    path: str | Path, shapes: Shapes | None = None, fixed: Fixed | None = None
) -> Program:
    """The program that a folder describes; weights of equal name and content are shared.

    Dynamic dimensions of a phase's input are bound by the earlier phase's output that feeds it, or
    by `shapes`. An input of ONNX files that is `fixed` becomes a constant in all of them.

    Raises ModelError naming the file and key that are wrong, or as `onnx.load_graph` does.
    """
    folder = Path(path)
    description = _description(folder / "program.toml")
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
        file = _inside(folder, entry["file"], f"phase {entry['name']}")
        model = None if file.suffix == ".pt2" else read_graph(file)
        found |= set(read_of(model, fixed)) if model else set()
        yield model
    for name in sorted(set(fixed) - found):
        raise ModelError(f"{folder}: no ONNX file of it has the input {name} to fix")


def note_folder(program: Program, folder: Path, fixed: Fixed | None = None) -> None:
    """Let the model check run the files of a folder that a program came from, with inputs that are
    `fixed`.
    """
    entries = _description(folder / "program.toml")["phase"]
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
            from vlacut.frontends.torch import pt2_runner

            runners.append(pt2_runner(file, inputs, outputs))
        return runners[0](given)

    return run


def program_files(path: Path) -> list[Path]:
    """The files of a folder's program, the description first; raises as `folder_program` does."""
    description = _description(path / "program.toml")
    given = [one for one in description.get("state", {}).values() if isinstance(one, dict)]
    names = [entry["file"] for entry in description["phase"]]
    names += [one["initial"] for one in given if "initial" in one]
    return [path / "program.toml", *(path / name for name in names)]


def _description(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        raise ModelError(f"{file}: no such file; a folder needs it to be a program")
    try:
        description = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: {error}") from error
    _check(description, _PROGRAM_KEYS, ("outputs", "phase"), str(file))
    for index, entry in enumerate(description["phase"]):
        where = f"{file}: phase {index + 1}"
        if not isinstance(entry, dict):
            raise ModelError(f"{where} must be a table; write [[phase]]")
        _check(entry, _PHASE_KEYS, ("name", "file"), where)
        _check_names(entry, where)
    for output, fed in description.get("state", {}).items():
        where = f"{file}: state {output}"
        if isinstance(fed, dict):
            _check(fed, _STATE_KEYS, ("input",), where)
        elif not isinstance(fed, str):
            raise ModelError(f"{where} must be the name of an input, or a table; is {fed!r}")
    _check_names(description, str(file))
    return description


def _check_names(table: Mapping[str, Any], where: str) -> None:
    for key in ("inputs", "outputs"):
        if not all(isinstance(name, str) for name in table.get(key, ())):
            raise ModelError(f"{where}: {key} must be a list of names")


def _check(
    table: Mapping[str, Any], keys: Mapping[str, type], needed: Sequence[str], where: str
) -> None:
    for key, value in table.items():
        if key not in keys:
            raise ModelError(f"{where}: unknown key {key}; known: {', '.join(keys)}")
        if type(value) is not keys[key]:
            raise ModelError(f"{where}: {key} must be a {keys[key].__name__}, is {value!r}")
    for key in needed:
        if not table.get(key):
            raise ModelError(f"{where}: {key} is missing")


def _traced_phase(
    folder: Path,
    entry: Mapping[str, Any],
    earlier: Sequence[Phase],
    given: Shapes,
    example: dict[str, np.ndarray],
) -> Phase:
    """A phase out of a .pt2 file; what its example has of the observation is added to that."""
    from vlacut.frontends.torch import pt2_phase

    file = _inside(folder, entry["file"], f"phase {entry['name']}")
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
            file = _inside(folder, told["initial"], f"state {output}")
            try:
                initial = np.load(file, allow_pickle=False)
            except UNREADABLE as error:
                raise ModelError(f"{file}: cannot be read: {reason(error)}") from error
            if not isinstance(initial, np.ndarray):
                raise ModelError(f"{file}: is no .npy file; write the array with numpy.save")
        yield State(output, told["input"], initial, told.get("name", ""))


def _inside(folder: Path, name: str, what: str) -> Path:
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"{folder}: {what}: {name} is outside the folder")
    return file


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
