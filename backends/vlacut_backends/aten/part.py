"""A part's file, read: its operators, and where its weights are. Nothing of a weight is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from vlacut.errors import BackendError

Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class Stored:
    """Content of a tensor: bytes of a file, or here.

    Attributes:
        dtype: a number of `onnx.TensorProto.DataType`.
        shape: of it.
        data: its bytes, little-endian; empty where they are in a file.
        file: that is relative to the bundle's folder; empty where `data` has them.
        offset: in the file.
    """

    dtype: int
    shape: tuple[int, ...]
    data: bytes = b""
    file: str = ""
    offset: int = 0


@dataclass(frozen=True)
class PartNode:
    """An operator; inputs that are not given have an empty name."""

    kind: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes

    def __str__(self) -> str:
        kind = f"{self.domain}.{self.kind}" if self.domain else self.kind
        return f"{kind} {self.name}"


@dataclass(frozen=True)
class PartGraph:
    """A part, in the order in which it is computed; its inputs with their element types."""

    name: str
    inputs: Mapping[str, int]
    outputs: tuple[str, ...]
    nodes: tuple[PartNode, ...]
    weights: Mapping[str, Stored]


def read_part(path: Path) -> PartGraph:
    """The graph in an ONNX file. Raises BackendError if it is none."""
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's exceptions share no base but this
        raise BackendError(f"{path}: is no ONNX file: {error}") from error
    weights = {tensor.name: _stored(tensor) for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type == "Constant" and not node.domain and "value" in attributes:
            weights[node.output[0]] = _stored(attributes["value"])
            continue
        nodes.append(
            PartNode(
                node.op_type,
                "" if node.domain == "ai.onnx" else node.domain,
                node.name,
                tuple(node.input),
                tuple(node.output),
                {name: _plain(value) for name, value in attributes.items()},
            )
        )
    inputs = {
        value.name: int(value.type.tensor_type.elem_type)
        for value in graph.input
        if value.name not in weights
    }
    outputs = tuple(value.name for value in graph.output)
    return PartGraph(path.stem, inputs, outputs, tuple(nodes), weights)


def _plain(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return _stored(value)
    return value.decode() if isinstance(value, bytes) else value


def _stored(tensor: onnx.TensorProto) -> Stored:
    shape = tuple(tensor.dims)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        told = {entry.key: entry.value for entry in tensor.external_data}
        place = told.get("location", ""), int(told.get("offset", "0"))
        return Stored(tensor.data_type, shape, file=place[0], offset=place[1])
    data = tensor.raw_data or onnx.numpy_helper.to_array(tensor).tobytes()
    return Stored(tensor.data_type, shape, data=data)
