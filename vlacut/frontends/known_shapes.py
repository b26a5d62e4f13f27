"""Types and static shapes of values, one by one."""

from __future__ import annotations

import onnx_ir as ir

from vlacut.ir.graphs import value_spec


def is_known(value: ir.Value) -> bool:
    """Whether a value has a type and a static shape."""
    return value.shape is not None and value.shape.is_static() and value.dtype is not None


def take_type(value: ir.Value, other: ir.Value, *collected: int) -> None:
    """Let a value have the type and shape of another, behind dimensions of sizes `collected`."""
    assert other.dtype is not None
    value.shape = ir.Shape((*collected, *value_spec(other).shape))
    value.type = ir.TensorType(other.dtype)
