"""Engines of models whose weights have no content: they are drawn on the device, each once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from vlacut.ir.program import Program
from vlacut.split.emission import save
from vlacut_backends.aten.module import PartModule
from vlacut_backends.aten.part import Stored
from vlacut_backends.aten.weights import Weights, dtype_of
from vlacut_backends.torch.build import TorchBuilder
from vlacut_backends.torch.execute import TorchEngine
from vlacut_backends.torch.lane import DeviceTorchEngine

_DRAWN = "drawn/"
_MATRIX = 2  # dimensions, from which on a weight is drawn; vectors may be scales
_SPREAD = 0.02  # as models of this size are initialised


class DrawnWeights(Weights):
    """Weights without content, drawn on the device and held by their names."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.drawn: dict[tuple[str, int, tuple[int, ...]], torch.Tensor] = {}

    def tensor(self, stored: Stored, root: Path, where: str) -> torch.Tensor:
        """See `Weights`."""
        if not stored.file.startswith(_DRAWN):
            return super().tensor(stored, root, where)
        key = stored.file, stored.dtype, stored.shape
        if key not in self.drawn:
            dtype = dtype_of(stored.dtype, where)
            made = torch.empty(stored.shape, dtype=dtype, device=self.device)
            self.drawn[key] = made.normal_(0, _SPREAD) if dtype.is_floating_point else made.zero_()
        return self.drawn[key]

    @property
    def nbytes(self) -> int:
        """Of what was drawn."""
        return sum(one.numel() * one.element_size() for one in self.drawn.values())


class Maker:
    """Makes engines of models whose weights have no content."""

    def __init__(self, folder: Path, provider: str) -> None:
        self._folder, self._provider = folder, provider
        self.weights = DrawnWeights(torch.device(provider))

    def engine(self, name: str, model: ir.Model) -> Any:
        """The engine of a part."""
        for value in model.graph.initializers.values():
            if value.const_value is None:
                assert value.dtype is not None
                assert value.shape is not None
                value.const_value = ir.ExternalTensor(
                    f"{_DRAWN}{value.name}",
                    0,
                    0,
                    value.dtype,
                    shape=value.shape,
                    name=str(value.name),
                )
        TorchBuilder().prepare(model, name, {})
        path = self._folder / "parts" / f"{name}.onnx"
        save(model, path)
        module = PartModule(path, self._folder, self.weights).eval()
        made = DeviceTorchEngine if self._provider == "cuda" else TorchEngine
        return made(module, name)


def without_content(program: Program) -> Program:
    """The program with its weights as shapes alone, as one of the full size is loaded."""
    for phase in program.phases:
        for value in phase.model.graph.initializers.values():
            if value.dtype is not None and value.dtype.is_floating_point() and value.shape:
                value.const_value = value.const_value if len(value.shape) < _MATRIX else None
    return program
