"""A plan over recorded bandwidths: names, as users write them, to a comparison and its rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlacut.errors import InputError, Progress, unwatched
from vlacut.hardware import parse_link, read_recordings
from vlacut.plans.plan import Plan
from vlacut.runtime.network.predictors import LSTM, PREDICTORS
from vlacut.runtime.network.selectors import SELECTORS
from vlacut.simulation.comparison import FRAMES, LINK, Comparison, Recording, Row

ALL = "all"


def compare(
    plan: Plan,
    trace: Path,
    *,
    model: Path | None = None,
    selectors: Sequence[str] = (ALL,),
    predictors: Sequence[str] = ("ewma",),
    link: str = "",
    knows: str = LINK,
    period: float | None = None,
    deadline: float | None = None,
    history: Path | None = None,
    progress: Progress = unwatched,
) -> tuple[Comparison, tuple[Row, ...]]:
    """Run selectors and predictors over recorded bandwidths; see `vlacut.api.simulating.simulate`.

    `model` is of the predictor `lstm`.

    Raises InputError for names there are not, HardwareError for a trace that carries nothing.
    """
    if knows not in (LINK, FRAMES):
        raise InputError(f"selectors know {LINK} or {FRAMES}, not {knows!r}")
    comparison = Comparison(
        plan,
        recordings(trace),
        parse_link(link) if link else plan.link,
        period,
        deadline,
        knows,
        model=model,
        history=recordings(history) if history else (),
    )
    variants = [variant.name for variant in plan.variants]
    trained = [LSTM] if model else []
    every = [*SELECTORS, *variants], [*PREDICTORS, *trained]
    rows = comparison.run(_named(selectors, every[0]), _named(predictors, every[1]), progress)
    return comparison, rows


def recordings(path: Path) -> tuple[Recording, ...]:
    """The traces of a file or folder, the pieces of a recording each for itself."""
    return tuple(
        Recording(f"{name} {piece}" if len(pieces) > 1 else name, trace)
        for name, pieces in read_recordings(path).items()
        for piece, trace in enumerate(pieces)
    )


def _named(asked: Sequence[str], every: Sequence[str]) -> list[str]:
    return [name for one in asked for name in (every if one == ALL else [one])]
