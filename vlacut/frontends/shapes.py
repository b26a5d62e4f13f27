"""Types and static shapes on every value of a graph."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common


def infer_static_shapes(model: ir.Model, where: str) -> None:
    """Infer the shapes of all values, in place."""
    common.ShapeInferencePass(strict_mode=False)(model)
