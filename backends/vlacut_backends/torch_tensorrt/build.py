"""torch-tensorrt, the compile half: parts as for PyTorch, recipe and tolerance as for TensorRT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import onnx_ir as ir

from vlacut.backend import Finding
from vlacut.hardware import Device
from vlacut_backends.tensorrt.build import TensorRTBuilder
from vlacut_backends.torch.build import TorchBuilder


class TorchTensorRTBuilder:
    """Checks that a part can be a module of ATen's operators, which torch-tensorrt compiles."""

    conversions: ClassVar[Mapping[str, str]] = {}
    rewrites_weights: ClassVar[bool] = False
    computes: ClassVar[bool] = True
    reference: ClassVar[str] = "torch"

    def prepare(self, model: ir.Model, where: str, recipe: Mapping[str, str]) -> None:
        """See `vlacut.backend.Builder`."""
        TorchBuilder().prepare(model, where, recipe)

    def findings(self, model: ir.Model, recipe: Mapping[str, str]) -> Iterable[Finding]:
        """None: what torch-tensorrt cannot convert it says when it builds."""
        return ()

    def recipe(self, device: Device | None = None) -> Mapping[str, str]:
        """See `TensorRTBuilder.recipe`."""
        return TensorRTBuilder().recipe(device)

    def tolerance(self, model: ir.Model) -> float:
        """See `TensorRTBuilder.tolerance`."""
        return TensorRTBuilder().tolerance(model)
