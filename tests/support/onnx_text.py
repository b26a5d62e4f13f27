"""ONNX files in a few lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx


def write(
    path: Path,
    body: str,
    weights: Mapping[str, np.ndarray] | None = None,
    opset: int = 20,
    functions: str = "",
) -> Path:
    """A file in ONNX's textual form, with weights."""
    imports = f'"": {opset}' + (', "local": 1' if functions else "")
    model = onnx.parser.parse_model(
        f"<ir_version: 10, opset_import: [{imports}]> {body}{functions}"
    )
    for name, array in (weights or {}).items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    path.write_bytes(model.SerializeToString())
    return path
