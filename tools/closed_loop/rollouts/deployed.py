"""A compiled bundle in a policy's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vlacut import registry
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import open_bundle
from vlacut.control.rtc import GUIDANCE, PREV_CHUNK, WEIGHTS
from vlacut.control.ways.chunk import ABSOLUTE, ChunkReader, ChunkSpec, Kind
from vlacut.runtime.whole import load_whole, run_whole
from vlacut.tensor import TensorSpec

from ..policies.policy import CHUNK
from ..simulation.arm import RATE
from .oracle import ACTIONS, SWITCHED

DOUBT = "doubt"  # the output that tells how unsure a policy is, if it has one
_GIVEN = (PREV_CHUNK, WEIGHTS, GUIDANCE)  # by the executor `rtc`


class Deployed:
    """A bundle's uncut program: what every cut of it computes, bit for bit.

    Args:
        path: of the bundle.
        threads: of its engines; 0 for all cores.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.bundle: Bundle = open_bundle(path)
        manifest = self.bundle.manifest
        executor = registry.load("executors", self.bundle.backend(manifest.uncut))()
        recipe = {**self.bundle.recipe(manifest.uncut), "threads": str(threads)}
        self._phases = manifest.whole
        self._engines = load_whole(executor, self.bundle.root, self._phases, recipe)
        specs = self.bundle.plan.inputs
        self.inputs: Mapping[str, TensorSpec] = {spec.name: spec for spec in specs}
        self.seen: Sequence[str] = tuple(name for name in self.inputs if name not in _GIVEN)
        self.doubts = DOUBT in self.bundle.plan.outputs

    def act(self, observation: Mapping[str, np.ndarray], variant: int = 0) -> dict[str, np.ndarray]:
        """The chunk, and how unsure it is, by name; every variant's is the same."""
        given = {name: observation[name] for name in self.inputs}
        held = run_whole(self._phases, self._engines, given)
        return {name: held[key] for name, key in self.bundle.plan.outputs.items()}

    def reader(self, horizon: int = CHUNK) -> ChunkReader:
        """Of its chunks."""
        plan = self.bundle.plan
        spec = ChunkSpec(ACTIONS, switched=SWITCHED, horizon=horizon)
        if "noise" in self.inputs:  # flow says how far from the command in force
            spec = replace(spec, kind=Kind.RELATIVE, base="state", columns=(5, 6, 7, 8, ABSOLUTE))
        return ChunkReader(spec, plan.spec[plan.outputs[ACTIONS]], self.inputs, 1 / RATE)
