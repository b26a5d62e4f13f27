"""Engines of real back ends for programs that were never a bundle: a back end for each side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from vlacut import registry
from vlacut.backend import Engine
from vlacut.hardware import Side
from vlacut.plans.plan import Part
from vlacut.split.emission import save
from vlacut.split.weights import WeightStore

BOTH_WAYS = (
    {Side.EDGE: "onnxruntime", Side.CLOUD: "torch"},
    {Side.EDGE: "torch", Side.CLOUD: "onnxruntime"},
)
ON_CPU = {"torch": {"provider": "cpu"}}


class Maker:
    """Makes engines of parts by the back end of their side, in a folder."""

    def __init__(self, folder: Path, names: Mapping[Side, str]) -> None:
        self._folder, self._names = folder, names
        self._executors = {name: registry.load("executors", name)() for name in set(names.values())}

    def __call__(self, part: Part, model: ir.Model) -> Engine:
        name = self._names[part.side]
        builder = registry.load("builders", name)()
        recipe = {**builder.recipe(), **ON_CPU.get(name, {})}
        root = self._folder / f"{part.name}-{len(list(self._folder.iterdir()))}"
        root.mkdir()
        builder.prepare(model, part.name, recipe)
        with WeightStore(root) as store:
            store.externalise(model)
        path = root / "parts" / f"{part.name}.onnx"
        save(model, path)
        engine: Engine = self._executors[name].load(path, root, recipe)
        return engine
