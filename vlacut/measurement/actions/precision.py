"""Calibration of the switch of precision: a bundle and episodes in, DyQ-VLA's lookup out.

Every precision runs on recorded observations, and its error is that of its commands against the
uncut model's, as a share of the columns' ranges. Ticks are put into bins by the sensitivity of the
commands that were executed before (`vlacut.control.signals.fineness`). A bin takes the least exact
precision whose error exceeds what is allowed there with a probability of at most `alpha`: a
conformal quantile by bin. Allowed is what the caller says; without that, the median of how far the
policy's own plan moves from one tick to the next, in the bin. A bin that is more sensitive is
allowed no more, and takes no less exact precision (DyQ-VLA's eps_a and Phi fall with S).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from vlacut.bundle.opened import Bundle
from vlacut.control.controllers.dynamic import Steady
from vlacut.control.precision_table import PrecisionTable
from vlacut.control.recording.episodes import Episodes
from vlacut.control.recording.staleness import ranges
from vlacut.control.signals.fineness import MotionUnits, SensitivityMeter, movement
from vlacut.control.ways.chunk import Kind
from vlacut.errors import InputError, Progress, unwatched
from vlacut.measurement.actions.binning import conformal_quantile
from vlacut.measurement.actions.chunks import Inferences, reader_of

BINS, LEAST = 20, 20  # the paper's bins; the ticks that a bin has at least
ALPHA = 0.1
_UNIT, _REST = 0.95, 0.05  # quantiles: of mu and nu, and up to which an arm is at rest
_LEAST_UNIT = 1e-9
_LEAST_EPS = 0.01  # a policy whose plan never moves is still a robot's, which follows no better


@dataclass(frozen=True)
class PrecisionWorth:
    """What the calibration found, for people.

    Attributes:
        ticks, episodes: how many were recorded.
        measured: ticks on which every precision ran.
        shares: of the ticks that each precision would be in force, by its name.
        switches: changes of precision per tick.
        correlation: Pearson's, of sensitivity and the least exact precision's error; nan where one
            of them never changes.
    """

    ticks: int
    episodes: int
    measured: int
    shares: Mapping[str, float]
    switches: float
    correlation: float


def calibrate_precision(
    bundle: Bundle,
    episodes: Episodes,
    *,
    translation: Sequence[int] = (0, 1, 2),
    rotation: Sequence[int] = (3, 4, 5),
    alpha: float = ALPHA,
    eps: float | None = None,
    every: int = 5,
    progress: Progress = unwatched,
) -> tuple[PrecisionTable, PrecisionWorth]:
    """The table of a bundle from episodes, and what it is worth.

    Args:
        bundle: with variants in more than one precision.
        episodes: observations and executed commands.
        translation: columns of a command that move the tool.
        rotation: columns that turn it.
        alpha: the share of errors that may exceed what is allowed, by bin.
        eps: the error that is allowed, in shares of ranges; None for the policy's own variation.
        every: precisions run on every `every`-th tick.
        progress: called with what is being done, how much is done, and how much there is.

    Raises InputError if there is one precision alone, too few ticks, or columns that there are not.
    """
    if not 0 < alpha < 1 or every < 1 or (eps is not None and not eps > 0):
        raise InputError("alpha must be within 0 and 1, eps above 0, and every at least 1")
    names = _precisions(bundle)
    reader = reader_of(bundle, episodes)
    for column in (*translation, *rotation):
        if not 0 <= column < reader.width:
            raise InputError(f"a command has no column {column}; it has {reader.width}")
    units = MotionUnits(tuple(translation), tuple(rotation), reader.spec.kind is Kind.DELTA)
    ran = Inferences(bundle, episodes)
    chunks = ran.references(progress)
    ticks = np.arange(0, episodes.ticks, every)
    apart = ran.differences(chunks, ticks.tolist(), progress)
    scale = ranges(chunks[:, : reader.spec.horizon])
    first = [_first_of(bundle, name) for name in names]
    errors = np.stack([(apart[place] / scale).mean(axis=1) for place in first])
    moves = _moves(chunks[:, : reader.spec.horizon], scale, episodes.bounds())
    return fit_precision_table(episodes, units, names, errors, moves, ticks, alpha, eps)


def fit_precision_table(
    episodes: Episodes,
    units: MotionUnits,
    names: Sequence[str],
    errors: np.ndarray,
    moves: np.ndarray,
    ticks: np.ndarray,
    alpha: float,
    eps: float | None,
) -> tuple[PrecisionTable, PrecisionWorth]:
    """The table from errors [P, n] of precisions at some ticks [n], and from how far the policy's
    plan moved before every tick [N], in shares of ranges (nan where it is not known).
    """
    if len(ticks) < LEAST:
        raise InputError(
            f"{len(ticks)} ticks of {episodes.ticks} are too few: record more, or take a smaller "
            f"--every, for {LEAST}"
        )
    units = fit_units(episodes, units)
    sensed = sensitivities(episodes, units)
    at = sensed[ticks]
    means = [row.mean() if name else -1.0 for name, row in zip(names, errors, strict=True)]
    order = np.argsort(means)  # the program as it is first
    errors, names = errors[order], [names[place] for place in order]
    edges = _edges(at)
    bins, count = np.searchsorted(edges, at, "right"), len(edges) + 1
    bounds = np.array(
        [[conformal_quantile(row[bins == one], alpha) for one in range(count)] for row in errors]
    )
    every_bin = np.searchsorted(edges, sensed, "right")
    allowed = np.full(count, eps)
    if eps is None:
        allowed = np.maximum(_LEAST_EPS, _allowed(moves, every_bin, count))
    levels = [_least_exact(bounds[:, one], allowed[one]) for one in range(count)]
    table = PrecisionTable(
        precisions=tuple(names),
        units=units,
        edges=tuple(edges.tolist()),
        levels=tuple(np.minimum.accumulate(levels).tolist()),
        eps=tuple(allowed.tolist()),
        errors=tuple(tuple(row) for row in bounds.tolist()),
        alpha=alpha,
        counts=tuple(np.bincount(bins, minlength=count).tolist()),
    )
    return table, _worth(episodes, table, sensed, len(ticks), at, errors[-1])


def fit_units(episodes: Episodes, units: MotionUnits) -> MotionUnits:
    """The units with what movements of these episodes are measured by; InputError if none is
    known.
    """
    lengths, angles, changes = list[float](), list[float](), list[float]()
    for first, end in episodes.bounds():
        before: list[float] | None = None
        turned: list[float] | None = None
        known = [one for one in episodes.command[first:end] if np.isfinite(one).all()]
        for command in known:
            moved, before = movement(units, command.tolist(), before), command.tolist()
            if moved is None:
                continue
            lengths.append(math.hypot(*moved[0]))
            angles.append(math.hypot(*moved[1]))
            if turned is not None:
                changes.append(math.dist(moved[1], turned))
            turned = moved[1]
    if not changes:
        raise InputError("the episodes hold no two commands in a row; record a loop that runs")
    return replace(
        units,
        mu=max(_LEAST_UNIT, float(np.quantile(lengths, _UNIT))),
        nu=max(_LEAST_UNIT, float(np.quantile(changes, _UNIT))),
        rest_translation=float(np.quantile(lengths, _REST)),
        rest_rotation=float(np.quantile(angles, _REST)),
    )


def sensitivities(episodes: Episodes, units: MotionUnits) -> np.ndarray:
    """S at every tick [N], of the commands executed before it in its episode."""
    made = np.zeros(episodes.ticks)
    for first, end in episodes.bounds():
        meter, found = SensitivityMeter(units, episodes.period_s), 0.0
        for tick in range(first, end):
            made[tick] = found
            if np.isfinite(episodes.command[tick]).all():
                found = meter.take(episodes.command[tick])
    return made


def _precisions(bundle: Bundle) -> list[str]:
    """Names, that of the program as it is first."""
    names = list(dict.fromkeys(one.precision for one in bundle.plan.variants))
    if len(names) < 2:
        raise InputError(
            f"{bundle.plan.program} has one precision alone; compile it with --precisions int8,int4"
        )
    return names


def _first_of(bundle: Bundle, precision: str) -> int:
    """The first variant of a precision: all of it err alike, but for codecs."""
    return next(
        place for place, one in enumerate(bundle.plan.variants) if one.precision == precision
    )


def _moves(chunks: np.ndarray, scale: np.ndarray, bounds: Sequence[tuple[int, int]]) -> np.ndarray:
    """How far the plan moved from the tick before, in shares of ranges, [N]: its commands for the
    same times; of chunks of one command, that command. NaN at the first tick of an episode.
    """
    made = np.full(len(chunks), np.nan)
    alone = chunks.shape[1] == 1
    for first, end in bounds:
        for before, tick in pairwise(range(first, end)):
            old = chunks[before] if alone else chunks[before, 1:]
            new = chunks[tick] if alone else chunks[tick, :-1]
            made[tick] = (np.abs(new - old) / scale).mean()
    return made


def _edges(sensed: np.ndarray) -> np.ndarray:
    """Sensitivities between bins, each of which has about as many ticks, and `LEAST` at least."""
    count = min(BINS, len(sensed) // LEAST)
    inner = np.quantile(sensed, np.linspace(0, 1, count + 1)[1:-1]) if count > 1 else np.zeros(0)
    made: np.ndarray = np.unique(inner)
    return made[made > sensed.min()] if made.size else made


def _allowed(moves: np.ndarray, bins: np.ndarray, count: int) -> np.ndarray:
    """The median movement by bin; where a bin has none that of all. It does not rise."""
    known = np.isfinite(moves)
    of_all = float(np.median(moves[known])) if known.any() else 0.0
    each = [moves[known & (bins == one)] for one in range(count)]
    made = [float(np.median(one)) if one.size else of_all for one in each]
    falling: np.ndarray = np.minimum.accumulate(made)
    return falling


def _least_exact(bounds: np.ndarray, allowed: float) -> int:
    """The last precision whose error is allowed: the first one always is."""
    return max(place for place, bound in enumerate(bounds) if place == 0 or bound <= allowed)


def _worth(
    episodes: Episodes,
    table: PrecisionTable,
    sensed: np.ndarray,
    measured: int,
    at: np.ndarray,
    errors: np.ndarray,
) -> PrecisionWorth:
    levels = []
    for first, end in episodes.bounds():
        steady = Steady()
        levels += [steady.take(table.level(one)) for one in sensed[first:end].tolist()]
    changes = sum(one != other for one, other in pairwise(levels))
    varies = at.std() > 0 and errors.std() > 0
    return PrecisionWorth(
        episodes.ticks,
        len(episodes.bounds()),
        measured,
        {name: levels.count(place) / len(levels) for place, name in enumerate(table.precisions)},
        changes / len(levels),
        float(np.corrcoef(at, errors)[0, 1]) if varies else float("nan"),
    )
