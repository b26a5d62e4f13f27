"""The policy's chunk at every recorded tick, by the uncut model and by a bundle's variants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vlacut.bundle.opened import Bundle
from vlacut.control.recording.episodes import Episodes
from vlacut.control.ways.chunk import ChunkReader, parse_chunk
from vlacut.errors import InputError, Progress
from vlacut.hardware import Side
from vlacut.runtime.edge.observed import check_observation
from vlacut.runtime.engines import load_engines
from vlacut.runtime.local import run_episode
from vlacut.runtime.whole import UncutEpisode, load_uncut
from vlacut.tensor.noise import NoiseSource


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

    Of a model that remembers, every episode is run in sequence from its first tick on, a step a
    tick, by the uncut model and by each variant: differences are those that have come together by
    then. A loop that asks less often builds on fewer steps than that.

    Raises BundleError or BackendError where it cannot be run, InputError where what was recorded
    is no observation of it.
    """

    def __init__(self, bundle: Bundle, episodes: Episodes) -> None:
        self._plan, self._episodes = bundle.plan, episodes
        self._reader = reader_of(bundle, episodes)
        self._inputs = {one.name: one for one in bundle.plan.inputs}
        self._noise = NoiseSource(bundle.plan.noise, self._inputs)
        self._states = bundle.manifest.states
        self._initial = bundle.initial_state() if self._states else {}
        given = {one.key for one in bundle.plan.states if one.given}
        self._given = {key: one for key, one in self._initial.items() if key in given}
        self._whole = load_uncut(bundle)
        self._phases = bundle.manifest.whole
        self._engines = load_engines(bundle, Side.EDGE) | load_engines(bundle, Side.CLOUD)

    def references(self, progress: Progress) -> np.ndarray:
        """The chunks of all ticks, [N, T, W], by the uncut model; by the first variant where that
        cannot run here.
        """
        if self._whole is None:
            return self._chunks(0, range(self._episodes.ticks), "first variant", progress)
        output, made = self._plan.outputs[self._reader.spec.output], []
        for first, end in self._episodes.bounds():
            episode = UncutEpisode(self._phases, self._whole, self._states, self._initial)
            for tick in range(first, end):
                if not self._states:
                    episode.reset()
                observed = self._observed(tick)
                made.append(self._reader.read(episode.step(observed)[output], observed))
                progress("uncut model", tick + 1, self._episodes.ticks)
        return np.stack(made)

    def tensors(self, key: str, progress: Progress) -> list[list[np.ndarray]]:
        """A tensor of the uncut model in every inference that was recorded, by episode.

        Raises InputError where the uncut model cannot run here.
        """
        if self._whole is None:
            raise InputError(f"{self._plan.program}: its uncut model cannot run here")
        made: list[list[np.ndarray]] = []
        done = 0
        asked = np.unique(self._episodes.chunk_tick)
        for first, end in self._episodes.bounds():
            episode = UncutEpisode(self._phases, self._whole, self._states, self._initial)
            made.append([])
            for tick in asked[(asked >= first) & (asked < end)].tolist():
                made[-1].append(episode.step(self._observed(tick))[key])
                done += 1
                progress("uncut model", done, len(asked))
        return made

    def differences(
        self, references: np.ndarray, ticks: Sequence[int], progress: Progress
    ) -> np.ndarray:
        """Mean absolute difference of every variant's commands from the reference's, over the
        commands within the horizon: [V, len(ticks), W].
        """
        horizon, names = self._reader.spec.horizon, self._plan.variants
        made = np.zeros((len(names), len(ticks), self._reader.width))
        for place, variant in enumerate(names):
            chunks = self._chunks(place, ticks, variant.name, progress)
            apart = np.abs(chunks - references[list(ticks)])
            made[place] = apart[:, :horizon].mean(axis=1)
        return made

    def _chunks(
        self, variant: int, ticks: Sequence[int], name: str, progress: Progress
    ) -> np.ndarray:
        """Those of a variant at some ticks, in order, [len(ticks), T, W]."""
        wanted, made = set(ticks), []
        for first, end in self._episodes.bounds() if self._states else [(t, t + 1) for t in ticks]:
            observed = [self._observed(tick) for tick in range(first, end)]
            steps = run_episode(self._plan, self._engines, variant, observed, self._given)
            for tick, seen, step in zip(range(first, end), observed, steps, strict=True):
                if tick in wanted:
                    made.append(self._reader.read(step.action[self._reader.spec.output], seen))
            progress(name, len(made), len(wanted))
        return np.stack(made)

    def _observed(self, tick: int) -> dict[str, np.ndarray]:
        """That of a tick; noise that was not recorded is the same for every variant."""
        plan = self._plan
        observed = self._noise.complete(self._episodes.observed(tick), tick)
        return check_observation(self._inputs, observed, plan.fixed, premises=plan.premises)


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
