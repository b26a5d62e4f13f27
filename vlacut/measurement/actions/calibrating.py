"""Calibration of action errors: from a bundle and episodes to tables, and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vlacut.bundle.opened import Bundle
from vlacut.control.recording.episodes import Episodes
from vlacut.control.recording.replay import aheads, features, fit_motion, held_out, motions
from vlacut.control.recording.staleness import ahead_of, ranges, staleness, variation
from vlacut.control.tables import ActionTables
from vlacut.control.ways.chunk import ChunkReader
from vlacut.errors import InputError, Progress, unwatched
from vlacut.measurement.actions.binning import by_bin, edges_of, stale_table, typical
from vlacut.measurement.actions.chunks import Inferences, reader_of
from vlacut.measurement.actions.fitting import auc, fit_logistic, threshold_of

ALPHA = 0.0
_CRITICAL = 0.8  # quantile of the errors of playing on, above which a tick is critical
_LEAST_TICKS = 40
_LEAST_EPS = 0.01  # a policy whose plan never moves is still a robot's, which follows no better


@dataclass(frozen=True)
class Worth:
    """What the calibration found, for people.

    Attributes:
        ticks, episodes: how many it was made of.
        redundant: share of the ticks in which playing on is no worse than `eps`.
        auc: of every trigger's score for critical ticks, on held-out episodes.
        precision: of RAPID's rule at its threshold, and of the learnt risk at its own.
        eps: the error that is allowed, in shares of ranges.
    """

    ticks: int
    episodes: int
    redundant: float
    auc: Mapping[str, float]
    precision: Mapping[str, float]
    eps: float


def calibrate_actions(
    bundle: Bundle,
    episodes: Episodes,
    *,
    alpha: float = ALPHA,
    eps: float | None = None,
    every: int = 5,
    progress: Progress = unwatched,
) -> tuple[ActionTables, Worth, np.ndarray]:
    """Tables of a bundle from episodes, what they are worth, and the chunk of every tick [N, T, W].

    Args:
        bundle: whose variants.
        episodes: observations, and sensors if there were any.
        alpha: the share of errors that may exceed the tables, which are then quantiles, and bounds.
            For 0 the tables are means, which serve decisions on the expected error better.
        eps: the error that is allowed, in shares of ranges. None takes the movement of the policy's
            own plan from one tick to the next, by the same alpha, and at least 1 %.
        every: variants run on every `every`-th tick.
        progress: called with what is being done, how much is done, and how much there is.

    Raises InputError if there are too few ticks, or the recording is not of this bundle.
    """
    if not 0 <= alpha < 1 or every < 1 or (eps is not None and not eps > 0):
        raise InputError("alpha must be within 0 and 1, eps above 0, and every at least 1")
    reader = reader_of(bundle, episodes)
    ran = Inferences(bundle, episodes)
    chunks = ran.references(progress)
    apart = ran.differences(chunks, range(0, episodes.ticks, every), progress)
    names = [variant.name for variant in bundle.plan.variants]
    made = fit_tables(episodes, reader, chunks, names, apart, every, alpha, eps)
    return *made, chunks


def fit_tables(
    episodes: Episodes,
    reader: ChunkReader,
    chunks: np.ndarray,
    variants: Sequence[str],
    apart: np.ndarray,
    every: int,
    alpha: float = ALPHA,
    eps: float | None = None,
) -> tuple[ActionTables, Worth]:
    """Tables from the chunk of every tick [N, T, W] and the variants' differences [V, n, W], of
    every `every`-th tick; InputError where there are too few ticks.
    """
    bounds = episodes.bounds()
    if episodes.ticks < _LEAST_TICKS:
        raise InputError(f"{episodes.ticks} ticks are too few: record at least {_LEAST_TICKS}")
    lasts = reader.spec.period_s / episodes.period_s
    scale = ranges(chunks[:, : reader.spec.horizon])
    errors = staleness(chunks, scale, bounds, lasts)
    late, lead = _habits(episodes, reader)
    playing_on = ahead_of(errors, late, lead, bounds)
    known = np.isfinite(playing_on)
    critical = known & (playing_on > np.quantile(playing_on[known], _CRITICAL))
    scaled = fit_motion(episodes)
    moved = motions(episodes, scaled)
    seen = features(episodes, moved, aheads(episodes, reader))
    out = held_out(episodes)
    model = fit_logistic(seen[known & ~out], critical[known & ~out])
    risks = model.risk(seen)
    scores = {
        "risk": risks,
        "importance": np.array([one.importance for one in moved]),
        "acceleration": np.array([one.acceleration for one in moved]),
        "torque": np.array([one.torque for one in moved]),
    }
    model_threshold, risk_precision = threshold_of(risks, critical)
    high, rapid_precision = threshold_of(scores["importance"], critical)
    high = min(high, 1e9)
    edges = edges_of(risks[known])
    bins, count = np.searchsorted(edges, risks, "right"), len(edges) + 1
    moves = variation(chunks[:, : reader.spec.horizon], scale, bounds).reshape(-1)
    allowed = max(_LEAST_EPS, typical(moves, alpha)) if eps is None else eps
    shifted = _led(errors, lead, bounds)
    ticks = np.arange(0, episodes.ticks, every)[: apart.shape[1]]
    tables = ActionTables(
        tuple(variants),
        episodes.period_s,
        scale,
        edges,
        np.stack([by_bin((one / scale).mean(axis=1), bins[ticks], count, alpha) for one in apart]),
        stale_table(shifted, bins, count, alpha),
        np.full(count, allowed),
        alpha,
        np.bincount(bins, minlength=count),
        replace(model, threshold=min(1.0, model_threshold)),
        scaled,
        (high, high / 2),
    )
    worth = Worth(
        episodes.ticks,
        len(bounds),
        float((playing_on[known] <= allowed).mean()),
        {name: auc(one[out & known], critical[out & known]) for name, one in scores.items()},
        {"rapid": rapid_precision, "risk": risk_precision},
        allowed,
    )
    return tables, worth


def _habits(episodes: Episodes, reader: ChunkReader) -> tuple[int, int]:
    """Ticks: how old commands were in the middle, and how long an inference took, as recorded."""
    took_ns = episodes.chunk_arrived_ns - episodes.chunk_captured_ns
    period_ns = episodes.period_s * 1e9
    lead = round(float(np.median(took_ns)) / period_ns) if len(took_ns) else 1
    old = round(reader.spec.horizon * reader.spec.period_s / episodes.period_s / 2)
    return max(1, old), max(1, lead)


def _led(errors: np.ndarray, lead: int, bounds: Sequence[tuple[int, int]]) -> np.ndarray:
    """The errors that commands have `lead` ticks later, when what is decided now takes effect."""
    made = np.full_like(errors, np.nan)
    for first, end in bounds:
        if end - first > lead:
            made[first : end - lead] = errors[first + lead : end]
    return made
