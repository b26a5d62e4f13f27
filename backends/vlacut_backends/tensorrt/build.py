"""TensorRT, the compile half: parts become ONNX files whose graph says every element type.

Engines are built where they will run; see `recipe` for what is known of that beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import onnx_ir as ir

from vlacut.errors import BackendError
from vlacut.hardware import Device
from vlacut_backends.tensorrt.recipe import (
    NEWEST,
    OLDEST,
    STRONGLY_TYPED,
    TF32,
    Recipe,
    parse_version,
)

# Highest ONNX operator set by the release from which on the parser reads it.
_OPSETS = {"10.3": 20}
_WORKSPACE_SHARE = 4  # of the memory, the fourth part: weights and the other robots need the rest


class TensorRTBuilder:
    """Strongly typed ONNX for the TensorRT that each machine has."""

    conversions: ClassVar[Mapping[str, str]] = {}
    rewrites_weights: ClassVar[bool] = False
    reference: ClassVar[str] = "onnxruntime"

    def prepare(self, model: ir.Model, where: str, recipe: Mapping[str, str]) -> None:
        """See `vlacut.backend.Builder`."""

    def recipe(self, device: Device | None = None) -> Mapping[str, str]:
        """See `derive`; without a device there is none."""
        return {} if device is None else derive(device).to_texts()

    def tolerance(self, model: ir.Model) -> float:
        """Engines sum in their own order."""
        return 1e-5


def derive(device: Device) -> Recipe:
    """The recipe of a device.

    Raises BackendError if it is no GPU with TensorRT, or one of releases this back end is not for.
    """
    if device.cuda is None:
        raise BackendError(
            f"{device.name}: its profile has no [cuda], so TensorRT does not run there; "
            f"choose another --backend or device"
        )
    oldest = max(device.cuda.oldest, OLDEST, key=parse_version)
    newest = min(device.cuda.newest, NEWEST, key=parse_version)
    return Recipe(
        device=device.name,
        sm=device.cuda.sm,
        oldest=oldest,
        newest=newest,
        opset=max(n for v, n in _OPSETS.items() if parse_version(v) <= parse_version(oldest)),
        flags=(STRONGLY_TYPED, TF32) if device.stack.tf32 else (STRONGLY_TYPED,),
        workspace_bytes=device.memory_bytes // _WORKSPACE_SHARE,
    )
