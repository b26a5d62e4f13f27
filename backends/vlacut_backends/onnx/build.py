"""ONNX as it is: parts in the model's own types, for a builder of engines on the device.

There is no executor of that name: the bundle is an input to another tool, not something to serve.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import onnx_ir as ir

from vlacut.backend import Finding
from vlacut.hardware import Device


class OnnxBuilder:
    """Ships every part unchanged."""

    conversions: ClassVar[Mapping[str, str]] = {}
    rewrites_weights: ClassVar[bool] = False
    computes: ClassVar[bool] = True
    reference: ClassVar[str] = ""

    def prepare(self, model: ir.Model, where: str, recipe: Mapping[str, str]) -> None:
        """See `vlacut.backend.Builder`."""

    def findings(self, model: ir.Model, recipe: Mapping[str, str]) -> Iterable[Finding]:
        """Nothing is known of what runs it."""
        return ()

    def recipe(self, device: Device | None = None) -> Mapping[str, str]:
        """Nothing to know."""
        return {}

    def tolerance(self, model: ir.Model) -> float:
        """Cutting moves no rounding in the model as written."""
        return 0.0
