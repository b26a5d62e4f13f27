"""The policy's chunk at every recorded tick, by the uncut model and by a bundle's variants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vlacut.bundle.manifest import Bundle
from vlacut.control.recording.episodes import Episodes
from vlacut.control.ways.chunk import ChunkReader, parse_chunk
from vlacut.errors import InputError, Progress
from vlacut.runtime.edge.session import check_observation
from vlacut.runtime.engines import load_engines
from vlacut.runtime.local import run_both
from vlacut.runtime.whole import load_uncut, run_whole
from vlacut.side import Side


def reader_of(bundle: Bundle, episodes: Episodes) -> ChunkReader:
    """The reader of the chunk that the episodes declare; InputError if the bundle has none such."""
    plan, spec = bundle.plan, parse_chunk(str(episodes.declared))
    if spec.output not in plan.outputs:
        raise InputError(f"the episodes are of output {spec.output}, which {plan.program} has not")
    inputs = {one.name: one for one in plan.inputs}
    reader = ChunkReader(spec, plan.spec[plan.outputs[spec.output]], inputs, episodes.period_s)
    if episodes.chunk.shape[1:] != (reader.length, reader.width):
        raise InputError("the chunks of the episodes have another shape than those of the bundle")
    return reader


class Inferences:
    """Runs both sides of a bundle here, on recorded observations.

    Raises BundleError or BackendError if it cannot be run, InputError if a recording is no
    observation of it.
    """

    def __init__(self, bundle: Bundle, episodes: Episodes) -> None:
        if bundle.plan.states:
            raise InputError(
                f"{bundle.plan.program} remembers from one step to the next: what it says at a "
                f"tick hangs on the steps made before, and no table of ticks holds that"
            )
        self._plan, self._episodes = bundle.plan, episodes
        self._reader = reader_of(bundle, episodes)
        self._inputs = {one.name: one for one in bundle.plan.inputs}
        if bundle.manifest.states:
            raise InputError(
                f"{bundle.root}: {bundle.plan.program} remembers from step to step, and ticks are "
                f"run here each by itself; errors of its actions cannot be measured so"
            )
        self._whole = load_uncut(bundle)
        self._phases = bundle.manifest.whole
        self._engines = load_engines(bundle, Side.EDGE) | load_engines(bundle, Side.CLOUD)

    def reference(self, tick: int) -> np.ndarray:
        """The chunk [T, W] of the uncut model; of the first variant if that cannot run here."""
        if self._whole is None:
            return self.variant(0, tick)
        observed = check_observation(self._inputs, self._episodes.observed(tick), self._plan.fixed)
        tensors = run_whole(self._phases, self._whole, observed)
        output = self._reader.spec.output
        return self._reader.read(tensors[self._plan.outputs[output]], observed)

    def variant(self, variant: int, tick: int) -> np.ndarray:
        """The chunk of a variant."""
        observed = check_observation(self._inputs, self._episodes.observed(tick), self._plan.fixed)
        made = run_both(self._plan, self._engines, variant, observed)
        return self._reader.read(made[self._reader.spec.output], observed)

    def references(self, progress: Progress) -> np.ndarray:
        """The reference chunks of all ticks, [N, T, W]."""
        ticks = self._episodes.ticks
        made = []
        for tick in range(ticks):
            made.append(self.reference(tick))
            progress("uncut model", tick + 1, ticks)
        return np.stack(made)

    def differences(
        self, references: np.ndarray, ticks: Sequence[int], progress: Progress
    ) -> np.ndarray:
        """Mean absolute difference of every variant's commands from the reference's, over the
        commands within the horizon: [V, len(ticks), W].
        """
        horizon, names = self._reader.spec.horizon, self._plan.variants
        made = np.zeros((len(names), len(ticks), self._reader.width))
        for place, variant in enumerate(names):
            for row, tick in enumerate(ticks):
                apart = np.abs(self.variant(place, tick) - references[tick])
                made[place, row] = apart[:horizon].mean(axis=0)
                progress(variant.name, row + 1, len(ticks))
        return made


def with_fresh_chunks(episodes: Episodes, chunks: np.ndarray) -> Episodes:
    """The episodes with the chunk [N, T, W] of every tick: what the simulation plays."""
    ticks = np.arange(episodes.ticks)
    return replace(
        episodes,
        chunk=chunks,
        chunk_number=ticks,
        chunk_tick=ticks,
        chunk_captured_ns=episodes.captured_ns,
        chunk_arrived_ns=episodes.tick_ns,
        chunk_variant=np.zeros_like(ticks),
    )
