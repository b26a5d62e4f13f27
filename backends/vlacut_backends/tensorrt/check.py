"""Checks of a part that need no GPU: the rules, ONNX's own checker, and a build by TensorRT-RTX."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir

from vlacut.backend import Checked, Finding
from vlacut.errors import BackendError
from vlacut.hardware import Device
from vlacut_backends.tensorrt.build import derive
from vlacut_backends.tensorrt.dla import broken_dla_rules
from vlacut_backends.tensorrt.holes import holes_of
from vlacut_backends.tensorrt.recipe import Recipe
from vlacut_backends.tensorrt.rtx import build_in_child, installed, offered_sm
from vlacut_backends.tensorrt.rules import broken_rules

_BYTES_FOR_ONE = 3.2  # memory of a build for a byte of weights, see the README
_OWN_BYTES = 500e6  # of the libraries


class TensorRTChecker:
    """See `vlacut.backend.Checker`."""

    def check(
        self, name: str, model: Path, root: Path, device: Device, build: bool, dla: bool = False
    ) -> Checked:
        """See `vlacut.backend.Checker`."""
        recipe = derive(device)
        notes = tuple(map(str, holes_of(recipe)))
        return replace(self._checked(name, model, root, recipe, build, dla), notes=notes)

    def _checked(
        self, name: str, model: Path, root: Path, recipe: Recipe, build: bool, dla: bool
    ) -> Checked:
        proto = without_weights(model)
        read = ir.from_proto(typed(proto))
        findings = tuple(broken_dla_rules(read, recipe)) if dla else ()
        findings = findings or tuple(broken_rules(read, recipe))
        findings = findings or tuple(onnx_problems(proto))
        if findings:
            return Checked(name, findings, why_not="it breaks rules")
        if not build or dla:
            return Checked(name, (), why_not="not asked for")
        return _built(name, model, root, recipe)


def without_weights(path: Path) -> onnx.ModelProto:
    """The model of a file with its external weights as inputs: types and shapes without content.

    Raises BackendError if it is no ONNX file.
    """
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own exceptions share no base but this
        raise BackendError(f"{path}: is no ONNX file: {error}") from error
    named = {value.name for value in proto.graph.input}
    external = [
        tensor
        for tensor in proto.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]
    for tensor in external:
        if tensor.name not in named:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            proto.graph.input.append(value)
        proto.graph.initializer.remove(tensor)
    return proto


def typed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the types of values it does not name, as far as ONNX infers them."""
    try:
        return onnx.shape_inference.infer_shapes(proto)
    except onnx.shape_inference.InferenceError:
        return proto  # its rules, and ONNX's checker, name what is wrong


def onnx_problems(proto: onnx.ModelProto) -> list[Finding]:
    """What ONNX's own checker has against a model."""
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return [Finding("onnx", "the part", f"is not valid ONNX: {' '.join(str(error).split())}")]
    return []


def _built(name: str, model: Path, root: Path, recipe: Recipe) -> Checked:
    if not installed():
        return Checked(name, (), why_not="TensorRT-RTX is not installed: pip install 'vlacut[rtx]'")
    sm = offered_sm(recipe.sm)
    if sm is None:
        return Checked(name, (), why_not=f"TensorRT-RTX has nothing like sm_{recipe.sm}")
    needed, free = _needed_bytes(model), _available_bytes()
    if needed > free:
        why_not = f"TensorRT-RTX would take {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free"
        return Checked(name, (), why_not=why_not)
    result = build_in_child(model, root, sm)
    if result.problem:
        return Checked(name, (Finding("tensorrt-rtx", "the part", result.problem),))
    release = ".".join(result.version.split(".")[:2])
    stand_in = "" if sm == recipe.sm else f", which stands in for sm_{recipe.sm}"
    return Checked(
        name,
        (),
        built=f"parse- and build-checked by TensorRT-RTX {release} for sm_{sm}{stand_in}",
        seconds=result.seconds,
        peak_bytes=result.peak_bytes,
        engine_bytes=result.engine_bytes,
    )


def _needed_bytes(model: Path) -> float:
    proto = onnx.load(str(model), load_external_data=False)
    lengths = (
        int(entry.value)
        for tensor in proto.graph.initializer
        for entry in tensor.external_data
        if entry.key == "length"
    )
    return sum(lengths) * _BYTES_FOR_ONE + _OWN_BYTES


def _available_bytes() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024.0
    return float("inf")
