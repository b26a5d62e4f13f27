"""What of an ONNX file is refused before anything is done with it, and in which words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from vlacut.errors import ModelError
from vlacut.frontends.foreign import is_foreign

_NONE = "is no ONNX model, or is cut short"
_OLDEST = 7  # of ai.onnx: onnxruntime's docs/Versioning.md
_LIKE = ("RandomNormalLike", "RandomUniformLike")
_DRAWS = ("Bernoulli", "Multinomial", "RandomNormal", "RandomUniform", *_LIKE)


def refuse(model: ir.Model, path: Path) -> None:
    """Raise ModelError if a file, read as `model`, is nothing that can be compiled.

    It may be empty, of an operator set before 7, invalid, draw random numbers, lack its weights, or
    hold an operator or a type that we do not know.
    """
    if not len(model.graph) and not model.graph.outputs:
        raise ModelError(f"{path}: {_NONE}: it has no operator")
    _refuse_old_operators(model, str(path))
    _refuse_unknown_operators(model, str(path))
    _refuse_draws(model, str(path))
    _refuse_missing_weights(model, path)
    _check(path)
    refuse_other_types(model, str(path))


def why_unread(path: Path) -> str:
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


def refuse_other_types(model: ir.Model, where: str) -> None:
    """Raise ModelError, starting with `where`, for a value that is no dense tensor of numbers."""
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
