"""surgery: hands phases to a function of the user's own that takes and returns a `gs.Graph`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import onnx
import onnx_ir as ir

from vlacut.errors import PassError
from vlacut.ir.graphs import dtype_name
from vlacut.ir.program import Phase, Program

_INLINE_BYTES = 1024  # of a weight that the function gets with its content
_WEIGHT = "vlacut-weight:"


@dataclass(frozen=True)
class Surgery:
    """Lets `function` of `file` rewrite a phase with onnx-graphsurgeon.

    Weights go by reference: none is loaded unless the function asks for its `values`, and what it
    leaves alone is the weight that it was. Operators that keep their names keep their places in the
    model. What the phase takes and makes must stay, but for outputs marked after its own; what the
    graph is, the verifier says.

    Attributes:
        file: Python that is run; that is what it is for.
        function: of it; takes a `gs.Graph`, returns one, or None for the one it was given.
        phase: the only one to hand over; all of them one after the other if empty.

    Raises PassError where the file, the function or what it returns is at fault.
    """

    name: ClassVar[str] = "surgery"
    file: str = ""
    function: str = ""
    phase: str = ""

    def run(self, program: Program) -> None:
        """See `vlacut.ir.pipeline.Pass`."""
        function = self._load()
        chosen = [one for one in program.phases if self.phase in ("", one.name)]
        if not chosen:
            names = ", ".join(one.name for one in program.phases)
            raise PassError(f"surgery: there is no phase {self.phase!r}; there are {names}")
        for phase in chosen:
            self._operate(phase, function)

    def _load(self) -> Callable[[Any], Any]:
        path = Path(self.file)
        if not path.is_file() or not self.function:
            raise PassError(f"surgery: {self.file or 'no file'}: write FILE.py:FUNCTION")
        spec = importlib.util.spec_from_file_location(f"vlacut_surgery_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise PassError(f"surgery: {path}: is no Python file")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # a file of the user's own may raise anything
            raise PassError(f"surgery: {path}: {type(error).__name__}: {error}") from error
        found = getattr(module, self.function, None)
        if not callable(found):
            raise PassError(f"surgery: {path}: there is no function {self.function!r} in it")
        made: Callable[[Any], Any] = found
        return made

    def _operate(self, phase: Phase, function: Callable[[Any], Any]) -> None:
        where = f"surgery: {self.file}:{self.function} on phase {phase.name}"
        gs = _graphsurgeon()
        weights = _Weights(phase.model)
        graph = gs.import_onnx(weights.proto)
        weights.attach(gs, graph)
        try:
            made = function(graph)
            made = graph if made is None else made
            if not isinstance(made, gs.Graph):
                raise PassError(f"{where}: returned {type(made).__name__}, must return a gs.Graph")
            proto = gs.export_onnx(made.toposort(recurse_functions=False))
        except PassError:
            raise
        except Exception as error:  # a function of the user's own may raise anything
            said = str(error).strip().partition("\n")[0]
            raise PassError(f"{where}: {type(error).__name__}: {said}") from error
        _put(phase, _with_shapes(proto, where), weights, where)


def _graphsurgeon() -> Any:
    try:
        import onnx_graphsurgeon
    except ImportError as error:
        raise PassError(f"surgery needs {error.name}: pip install 'vlacut[surgery]'") from error
    return onnx_graphsurgeon


class _Weights:
    """A phase as a file without its weights, and these by the names that stand for them there.

    Attributes:
        proto: whose large weights are references to nowhere.
        tensors: what they stand for.
    """

    def __init__(self, model: ir.Model) -> None:
        self.tensors: dict[str, ir.TensorProtocol] = {}
        graph = model.graph
        held = dict(graph.initializers)
        kept = {value: value.const_value for value in held.values()}
        try:
            for number, value in enumerate(held.values()):
                tensor = value.const_value
                if tensor is not None and tensor.nbytes < _INLINE_BYTES:
                    continue
                name = f"{_WEIGHT}{number}"
                if tensor is not None:
                    self.tensors[name] = tensor
                value.const_value = _stub(value, name)
            self.proto = ir.to_proto(model)
        finally:
            for value, tensor in kept.items():
                value.const_value = tensor

    def attach(self, gs: Any, graph: Any) -> None:
        """Give the graph's weights their content, when it is asked for."""
        for tensor in graph.tensors().values():
            values: Any = getattr(tensor, "_values", None)
            if not isinstance(tensor, gs.Constant) or not hasattr(values, "tensor"):
                continue
            name = _location(values.tensor)
            if name is not None:
                tensor.data_location = None  # of content that the function puts in its place
                values.load = _loader(name, self.tensors)

    def of(self, proto: onnx.TensorProto) -> ir.TensorProtocol | None:
        """What a weight in a file stands for; None if it has content of its own."""
        name = _location(proto)
        return None if name is None else self.tensors.get(name)


def _stub(value: ir.Value, name: str) -> ir.ExternalTensor:
    assert value.dtype is not None
    assert value.shape is not None
    return ir.ExternalTensor(name, None, None, value.dtype, shape=value.shape, name=str(value.name))


def _loader(name: str, tensors: dict[str, ir.TensorProtocol]) -> Callable[[], Any]:
    def load() -> Any:
        if name not in tensors:
            raise ValueError("the model was traced on shapes alone: the weight has no content")
        return tensors[name].numpy()

    return load


def _location(proto: onnx.TensorProto) -> str | None:
    """The name that stands for a weight; None if this is none of ours."""
    for entry in proto.external_data:
        if entry.key == "location" and entry.value.startswith(_WEIGHT):
            return str(entry.value)
    return None


def _with_shapes(proto: onnx.ModelProto, where: str) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(proto, strict_mode=False, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        said = " ".join(str(error).split())
        raise PassError(f"{where}: left a graph that is no ONNX: {said}") from error


def _put(phase: Phase, proto: onnx.ModelProto, weights: _Weights, where: str) -> None:
    """Put the graph in the place of the phase's, with its weights and its operators' places."""
    old, made = phase.model.graph, ir.from_proto(proto).graph
    by_name = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name, value in made.initializers.items():
        kept = weights.of(by_name[name])
        if _location(by_name[name]) is not None:
            value.const_value = kept
    for told, before, after in (
        ("inputs", old.inputs, made.inputs),
        ("outputs", old.outputs, made.outputs),
    ):
        wanted, found = [_port(one) for one in before], [_port(one) for one in after]
        if told == "outputs":
            found = found[: len(wanted)]  # more may be marked, after those that others bind to
        if wanted != found:
            odd = next(iter([one for one in found if one not in wanted] or wanted))
            raise PassError(
                f"{where}: changed the {told}: {odd}; they were {'; '.join(wanted)}, and others "
                f"bind to them"
            )
    places = {str(node.name): dict(node.metadata_props) for node in old}
    for node in made:
        node.metadata_props.update(places.get(str(node.name), {}))
        _check_known(node, where)
    phase.model.graph = made


def _check_known(node: ir.Node, where: str) -> None:
    """Every operand is made by something, and every result that is read has a type and a shape."""
    for value in node.inputs:
        if value is None or value.producer() is not None:
            continue
        if not (value.is_graph_input() or value.is_initializer()):
            raise PassError(
                f"{where}: {node.op_type} {node.name} reads {value.name}, which nothing makes"
            )
    for value in node.outputs:
        read = value.uses() or value.is_graph_output()
        static = value.shape is not None and value.shape.is_static()
        if read and (value.dtype is None or not static):
            raise PassError(
                f"{where}: {node.op_type} {node.name}: {value.name} has no type or shape, and none "
                f"can be inferred; give its gs.Variable a dtype and a shape"
            )


def _port(value: ir.Value) -> str:
    shape = "x".join(str(size) for size in value.shape or ())
    kind = dtype_name(value.dtype) if value.dtype is not None else "?"
    return f"{value.name} {kind}[{shape}]"
