"""The front end for ONNX files: read, check, bind dynamic dimensions, normal form.

Weights in external files stay there, memory-mapped; nothing in a file is ever executed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx_ir.serde import SerdeError

from vlacut import registry
from vlacut.backend import Engine
from vlacut.errors import ModelError
from vlacut.frontends.dimensions import bind_shapes, take_minus_one
from vlacut.frontends.fixing import Fixed, arrays_of, fix_inputs, read_of
from vlacut.frontends.foreign import is_foreign
from vlacut.frontends.inside import map_weights
from vlacut.frontends.normalize import normalize
from vlacut.frontends.shapes import infer_outputs, infer_shapes
from vlacut.ir.graphs import value_spec
from vlacut.ir.original import Numbers, Original, Runner, note, precision_of
from vlacut.ir.program import Phase, Program

Shapes = Mapping[str, tuple[int, ...]]

_NONE = "is no ONNX model, or is cut short"
_OLDEST = 7  # of ai.onnx: onnxruntime's docs/Versioning.md
_LIKE = ("RandomNormalLike", "RandomUniformLike")
_DRAWS = ("Bernoulli", "Multinomial", "RandomNormal", "RandomUniform", *_LIKE)


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
        raise ModelError(f"{path}: {_why_unread(path)}") from error
    if not len(model.graph) and not model.graph.outputs:
        raise ModelError(f"{path}: is no ONNX model, or is cut short: it has no operator")
    _refuse_old_operators(model, str(path))
    _refuse_unknown_operators(model, str(path))
    _refuse_draws(model, str(path))
    _refuse_missing_weights(model, path)
    _check(path)
    _refuse_other_types(model, str(path))
    map_weights(model, path)
    return model


def _why_unread(path: Path) -> str:
    """Why a file is not read: it is none of ONNX, or has values that are no tensors."""
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except (DecodeError, ValueError):
        return _NONE
    for value in (*graph.input, *graph.output, *graph.value_info):
        kind = value.type.WhichOneof("value")
        if kind not in (None, "tensor_type"):
            what = str(kind).removesuffix("_type").replace("_", " ")
            return f"value {value.name} is a {what}; only dense tensors of numbers can be compiled"
    return _NONE


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
    _refuse_other_types(model, where)
    return model


def _is_static(value: ir.Value) -> bool:
    return value.shape is not None and value.shape.is_static()


def _check(path: Path) -> None:
    try:
        onnx.checker.check_model(path)
    except onnx.checker.ValidationError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ModelError(f"{path}: is no valid ONNX model: {lines[0][:300]}") from error


def _refuse_old_operators(model: ir.Model, where: str) -> None:
    """ONNX Runtime knows no operator set before 7, of which a model uses one alone."""
    opset = model.graph.opset_imports.get("")
    if opset is not None and opset < _OLDEST:
        node = next((node for node in model.graph if node.domain == ""), None)
        of = f": node {node.name or '(unnamed)'} ({node.op_type})" if node else ""
        raise ModelError(
            f"{where}{of} is of operator set {opset}, and ONNX Runtime runs {_OLDEST} and later; "
            f"export it again, or convert it with onnx.version_converter"
        )


def _refuse_unknown_operators(model: ir.Model, where: str) -> None:
    local = {(function.domain, function.name) for function in model.functions.values()}
    graphs = (*model.graphs(), *model.functions.values())
    for node in (node for graph in graphs for node in graph):
        opset = model.graph.opset_imports.get(node.domain)
        if (node.domain, node.op_type) in local:
            continue
        if opset is not None and is_foreign(model, node):
            continue  # ONNX Runtime may know it, see `vlacut.frontends.foreign`
        if opset is None or not onnx.defs.has(node.op_type, opset, node.domain):
            domain = f"{node.domain}." if node.domain else ""
            version = "which the file does not import" if opset is None else f"version {opset}"
            raise ModelError(
                f"{where}: node {node.name or '(unnamed)'}: unknown operator "
                f"{domain}{node.op_type} (operator set {node.domain or 'ai.onnx'}, {version}); "
                f"export the model with standard operators"
            )


def _refuse_draws(model: ir.Model, where: str) -> None:
    """A cut could not be compared with what is another model every time."""
    for graph in (*model.graphs(), *model.functions.values()):
        for node in graph:
            if node.domain == "" and node.op_type in _DRAWS:
                raise ModelError(
                    f"{where}: node {node.name or '(unnamed)'}: {node.op_type} draws random "
                    f"numbers; noise must be an input"
                )


def _refuse_missing_weights(model: ir.Model, path: Path) -> None:
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if not isinstance(tensor, ir.ExternalTensor):
                continue
            if "\0" in str(tensor.location):
                raise ModelError(
                    f"{path}: weight {value.name} lies in {tensor.location!r}: no file"
                )
            file = Path(tensor.path)
            if not file.resolve().is_relative_to(path.parent.resolve()):
                raise ModelError(
                    f"{path}: weight {value.name} lies in {tensor.location}, outside the model's "
                    f"folder; move it there"
                )
            if tensor.length not in (None, 0, tensor.nbytes):
                raise ModelError(
                    f"{path}: weight {value.name} is {tensor.nbytes} bytes by its shape, "
                    f"{tensor.length} by its reference into {tensor.location}; export it again"
                )
            end = (tensor.offset or 0) + tensor.nbytes
            if not file.is_file() or file.stat().st_size < end:
                state = "is cut short" if file.is_file() else "is missing"
                raise ModelError(f"{path}: file {tensor.location} of weight {value.name} {state}")


def _refuse_other_types(model: ir.Model, where: str) -> None:
    for value in _values(model):
        dense = value.type is None or type(value.type) is ir.TensorType
        if not dense or value.dtype == ir.DataType.STRING:
            raise ModelError(
                f"{where}: value {value.name} is a {value.type}; only dense tensors of numbers can "
                f"be compiled"
            )


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs
