"""Weights by reference: what a function gets of them, and which of them it changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import onnx
import onnx_ir as ir

from vlacut.ir.program import Phase, Program

_INLINE_BYTES = 1024  # of a weight that the function gets with its content
_WEIGHT = "vlacut-weight:"


class Weights:
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
            name = location(values.tensor)
            if name is not None:
                tensor.data_location = None  # of content that the function puts in its place
                values.load = _loader(name, self.tensors)

    def of(self, proto: onnx.TensorProto) -> ir.TensorProtocol | None:
        """What a weight in a file stands for; None if it has content of its own."""
        name = location(proto)
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


def location(proto: onnx.TensorProto) -> str | None:
    """The name that stands for a weight; None if this is none of ours."""
    for entry in proto.external_data:
        if entry.key == "location" and entry.value.startswith(_WEIGHT):
            return str(entry.value)
    return None


def same_weight(value: ir.Value, before: ir.Value | None) -> bool:
    """Whether a weight is the one that had its name; small ones come back as copies."""
    if before is None:
        return False
    one, other = value.const_value, before.const_value
    if one is other:
        return True
    if one is None or other is None or one.nbytes >= _INLINE_BYTES:
        return False
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def name_apart(phase: Phase, changed: Iterable[str], program: Program, part: str) -> None:
    """Give changed weights names that no other weight has: weights go by their names."""
    graph = phase.model.graph
    others = [one.model.graph.initializers for one in program.phases if one is not phase]
    for name in sorted(changed):
        value = graph.initializers[name]
        alike = (other[name] for other in others if name in other)
        if not part and all(_equal(value, one) for one in alike):
            continue
        graph.initializers.pop(name)
        value.name = f"{name}.{part or phase.name}"
        graph.initializers[value.name] = value


def _equal(one: ir.Value, other: ir.Value) -> bool:
    mine, its = one.const_value, other.const_value
    if mine is None or its is None or mine.dtype != its.dtype or mine.shape != its.shape:
        return mine is its
    return mine.tobytes() == its.tobytes()
