"""The front end for ONNX files: read, check, bind dynamic dimensions, normal form.

Weights in external files stay there, memory-mapped; nothing in a file is ever executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx_ir.serde import SerdeError

from vlacut import registry
from vlacut.backend import Engine
from vlacut.errors import ModelError
from vlacut.frontends.dimensions import bind_shapes, take_minus_one
from vlacut.frontends.fixing import Fixed, arrays_of, fix_inputs, read_of
from vlacut.frontends.inside import map_weights
from vlacut.frontends.normalize import normalize
from vlacut.frontends.onnx_refusals import refuse, refuse_other_types, why_unread
from vlacut.frontends.shapes import infer_outputs, infer_shapes
from vlacut.ir.graphs import value_spec
from vlacut.ir.original import Numbers, Original, Runner, note, precision_of
from vlacut.ir.program import Phase, Program

Shapes = Mapping[str, tuple[int, ...]]


def load_graph(
    path: str | Path, shapes: Shapes | None = None, fixed: Fixed | None = None
) -> ir.Model:
    """Load one ONNX file in normal form, with static shapes.

    `shapes` gives the dimensions of inputs that are dynamic in the file; those that are `fixed`
    become constants.

    Raises ModelError if the file is missing, no ONNX, incomplete or invalid, if it uses an operator
    or a type that we do not know, or if a shape is not bound.
    """
    return finish_graph(read_graph(Path(path)), shapes or {}, str(path), fixed)


def onnx_program(
    path: str | Path, shapes: Shapes | None = None, fixed: Fixed | None = None
) -> Program:
    """One ONNX file as a program: the phase `main`; raises as `load_graph` does."""
    model = load_graph(path, shapes, fixed)
    inputs = tuple(value_spec(value) for value in model.graph.inputs)
    outputs = tuple(value_spec(value) for value in model.graph.outputs)
    program = Program(Path(path).stem, (Phase("main", model),), inputs, outputs)
    note_file(program, Path(path), fixed)
    return program


def note_file(program: Program, path: Path, fixed: Fixed | None = None) -> None:
    """Let the model check run the file that a program came from, with inputs that are `fixed`."""
    runners = {phase.name: file_runner(phase, path, fixed) for phase in program.phases}
    note(program, Original(f"the file {path.name}", runners, precision=precision_of(program)))


def file_runner(phase: Phase, file: Path, fixed: Fixed | None = None) -> Runner:
    """Runs the file that a phase came from as it is; inputs and outputs are in its order.

    Those of its inputs that are `fixed` are given to it beside what the phase reads.
    """
    given = [value_spec(value) for value in phase.model.graph.inputs]
    outputs = phase.output_names
    engines: list[Engine] = []  # loaded when it is first run, and once
    settings: dict[str, np.ndarray] = {}

    def run(inputs: Mapping[str, np.ndarray]) -> Numbers:
        if not engines:
            load = registry.load("executors", "onnxruntime")().load
            engines.append(load(file, file.parent, {"optimisation": "none"}))
            if fixed:
                model = ir.load(file)
                settings.update(arrays_of(model, read_of(model, fixed), str(file)))
        typed = {spec.name: inputs[spec.name].astype(spec.numpy_dtype) for spec in given}
        made = engines[0].run({**typed, **settings}).values()
        return dict(zip(outputs, made, strict=True))

    return run


def read_graph(path: Path) -> ir.Model:
    """A checked ONNX file as it is. Raises ModelError if it is missing or no valid model."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    try:
        model = ir.load(path)
    except (DecodeError, SerdeError, ValueError, TypeError, KeyError, IndexError) as error:
        raise ModelError(f"{path}: {why_unread(path)}") from error
    refuse(model, path)
    map_weights(model, path)
    return model


def finish_graph(
    model: ir.Model, shapes: Shapes, where: str, fixed: Fixed | None = None
) -> ir.Model:
    """Bind the inputs of a model that was read, and bring it into normal form, in place.

    `shapes` gives the dimensions of inputs that are dynamic, `fixed` the elements of those that
    become constants. Raises ModelError, starting with `where`, as `load_graph` does.
    """
    for value in model.graph.outputs:
        if not value.name:
            raise ModelError(f"{where}: an output has no name")
    take_minus_one(model)
    for value in model.graph.inputs:
        if any(isinstance(dim, int) and dim < 0 for dim in value.shape or ()):
            raise ModelError(f"{where}: input {value.name} has a negative dimension: {value.shape}")
    fix_inputs(model, fixed or {}, where)
    normalize(model, where)
    doubtful = [value for value in model.graph.outputs if not _is_static(value)]
    bind_shapes(model, shapes, where)
    infer_shapes(model, where)
    infer_outputs(model, doubtful)
    refuse_other_types(model, where)
    return model


def _is_static(value: ir.Value) -> bool:
    return value.shape is not None and value.shape.is_static()
