"""The control loop over recorded bandwidths, in simulation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlacut.errors import Progress, unwatched

if TYPE_CHECKING:
    from vlacut.simulation import Row


def simulate(
    bundle: str | os.PathLike[str],
    trace: str | os.PathLike[str],
    *,
    selector: str | Sequence[str] = "all",
    predictor: str | Sequence[str] = "ewma",
    link: str = "",
    knows: str = "link",
    period: float | None = None,
    deadline: float | None = None,
    history: str | os.PathLike[str] | None = None,
    progress: Progress = unwatched,
) -> tuple[Row, ...]:
    """Run the control loop of a bundle over recorded bandwidths, without waiting for it.

    Args:
        bundle: path of the bundle.
        trace: recorded bandwidths of the uplink: a file, or a folder of them.
        selector: one or several of `vlacut.runtime.network.selectors`, names of variants, or `all`.
        predictor: one or several of `vlacut.runtime.network.predictors`, or `all`.
        link: gives the round trip and the ratio of the downlink; empty for the plan's.
        knows: what selectors know: `link`, the link's rate; or `frames`, what the runtime learns
            from the frames that cross.
        period: seconds between starts of steps; None for back to back.
        deadline: of a step in seconds; told to the selectors.
        history: other recordings, to find RoboECC's thresholds on.
        progress: called with what is being done, how much is done, and how much there is.

    Returns a row per selector and predictor. The first is the clairvoyant's: it knows the trace, so
    no choice of variants makes any step end sooner. Raises InputError or BundleError.
    """
    from vlacut.bundle.reading import read_bundle
    from vlacut.simulation.named import compare

    opened = read_bundle(Path(bundle))
    _, rows = compare(
        opened.plan,
        Path(trace),
        model=opened.predictor_path,
        selectors=(selector,) if isinstance(selector, str) else tuple(selector),
        predictors=(predictor,) if isinstance(predictor, str) else tuple(predictor),
        link=link,
        knows=knows,
        period=period,
        deadline=deadline,
        history=Path(history) if history is not None else None,
        progress=progress,
    )
    return rows
