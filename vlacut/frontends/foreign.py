"""Operators that ONNX does not define or infer no shape of, and ONNX Runtime runs.

What they make is found by running each on inputs of zeros, on the CPU, by ONNX Runtime itself.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from vlacut import registry
from vlacut.errors import BackendError, ModelError, one_line
from vlacut.frontends.known_shapes import is_known
from vlacut.ir.graphs import node_inputs, value_spec
from vlacut.tensor.numerics import synthetic

_ONNX = ("", "ai.onnx")
_TRIED = "vlacut.tried"
_MOST_BYTES = 1 << 30  # of what an operator reads and what it is tried on: a file of ONNX has 2 GiB


def settle_foreign(model: ir.Model, where: str) -> int:
    """Give what foreign operators make its types and shapes, in place, where inputs have theirs.

    Such an operator is tried on normal numbers, on zeros and on ones, and must make the same shapes
    of all. Returns the number of operators whose outputs were settled.

    Raises ModelError, starting with `where`, naming an operator that ONNX Runtime does not run, or
    one that makes other shapes of other numbers.
    """
    settled = 0
    for node in model.graph.all_nodes():
        if is_foreign(model, node) and not _is_settled(node) and all(map(is_known, _read(node))):
            _settle(model, node, where)
            settled += 1
    return settled


def is_foreign(model: ir.Model, node: ir.Node) -> bool:
    """Whether ONNX defines no such operator, or one of a domain whose shapes it does not infer."""
    return node.domain not in _ONNX and node.op_identifier() not in model.functions


def _settle(model: ir.Model, node: ir.Node, where: str) -> None:
    name = f"{where}: node {node.name or '(unnamed)'} ({node.domain}.{node.op_type})"
    given = [value for value in _read(node) if _content(value) is None]
    if sum(value_spec(value).nbytes for value in _read(node)) > _MOST_BYTES:
        raise ModelError(
            f"{name} reads more than {_MOST_BYTES >> 30} GiB, and is not known to ONNX"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "operator.onnx"
        file.write_bytes(_alone(model, node).SerializeToString())
        try:
            load = registry.load("executors", "onnxruntime")().load
            engine = load(file, file.parent, {"optimisation": "none"})
            made = [engine.run(_numbers(given, kind)) for kind in ("normal", "zeros")]
        except BackendError as error:
            why = one_line(error).removeprefix(f"{file}: ")[:300]
            raise ModelError(
                f"{name}: ONNX does not define it, and ONNX Runtime does not run it ({why}): "
                "write it in operators of ONNX, or as a function of the model"
            ) from error
        with contextlib.suppress(BackendError):  # a one may be no index
            made.append(engine.run(_numbers(given, "ones")))
    for value in _made(node):
        shapes = {one[str(value.name)].shape for one in made}
        if len(shapes) > 1:
            raise ModelError(
                f"{name} makes {value.name} of shapes that depend on numbers: "
                f"{' and '.join(map(str, sorted(shapes)))}; shapes must be static"
            )
        array = made[0][str(value.name)]
        value.shape = ir.Shape(array.shape)
        value.dtype = value.dtype or _dtype(array)
    node.meta[_TRIED] = True


def _alone(model: ir.Model, node: ir.Node) -> onnx.ModelProto:
    """A model of one operator: weights are in it, whatever else it reads is an input."""
    graph = onnx.GraphProto(name="operator", node=[ir.serde.serialize_node(node)])
    for value in _read(node):
        content = _content(value)
        if content is not None:
            tensor = ir.tensor(content, dtype=value.dtype, name=value.name)
            graph.initializer.append(ir.serde.serialize_tensor(tensor))
        else:
            graph.input.append(ir.serde.serialize_value(value))
    graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in _made(node))
    opsets = [
        onnx.OperatorSetIdProto(domain=domain, version=version)
        for domain, version in model.graph.opset_imports.items()
    ]
    return onnx.ModelProto(ir_version=model.ir_version, opset_import=opsets, graph=graph)


def _numbers(values: list[ir.Value], kind: str) -> Mapping[str, np.ndarray]:
    """Inputs of one kind of numbers; whole numbers are zeros where floats are normal."""
    made = {}
    for value in values:
        spec = value_spec(value)
        array = np.full(spec.numpy_shape, 1 if kind == "ones" else 0, spec.numpy_dtype)
        made[spec.name] = synthetic(spec) if kind == "normal" else array
    return made


def _content(value: ir.Value) -> np.ndarray | None:
    return None if value.const_value is None else value.const_value.numpy()


def _dtype(array: np.ndarray) -> ir.DataType:
    try:
        return ir.DataType.from_numpy(array.dtype)
    except TypeError:
        return ir.DataType.STRING  # which is refused as such


def _read(node: ir.Node) -> list[ir.Value]:
    return list(node_inputs(node))


def _made(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.outputs if value.name]


def _is_settled(node: ir.Node) -> bool:
    return _TRIED in node.meta and all(map(is_known, _made(node)))
