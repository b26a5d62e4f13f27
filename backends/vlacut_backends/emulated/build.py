"""Emulated devices, the compile half: parts without operators, so that no weight is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import onnx_ir as ir

from vlacut.backend import Finding
from vlacut.hardware import Device


class EmulatedBuilder:
    """Keeps of every part its inputs and outputs; the plan holds the times."""

    conversions: ClassVar[Mapping[str, str]] = {}
    rewrites_weights: ClassVar[bool] = True
    computes: ClassVar[bool] = False
    reference: ClassVar[str] = ""

    def prepare(self, model: ir.Model, where: str, recipe: Mapping[str, str]) -> None:
        """See `vlacut.backend.Builder`."""
        graph = model.graph
        outputs = [_declared(value) for value in graph.outputs]
        graph.outputs.clear()
        graph.outputs.extend(outputs)
        graph.remove(list(graph))  # also what graphs inside of operators read
        graph.initializers.clear()
        model.functions.clear()

    def findings(self, model: ir.Model, recipe: Mapping[str, str]) -> Iterable[Finding]:
        """Nothing is computed."""
        return ()

    def recipe(self, device: Device | None = None) -> Mapping[str, str]:
        """Empty: the executor reads the plan."""
        return {}

    def tolerance(self, model: ir.Model) -> float:
        """Nothing is computed, so nothing can be off."""
        return 0.0


def _declared(value: ir.Value) -> ir.Value:
    """A value of the same name, type and shape that nothing produces."""
    return ir.Value(name=value.name, type=value.type, shape=value.shape)
