"""Calibration of a device, and its error on parts that it never saw; `gpu_check.py` calls it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from predict_here import Row, parts, rows, summary

from vlacut.frontends.load import load_program
from vlacut.measurement.calibration.calibrating import calibration_samples, fit_profile, forms_of
from vlacut.measurement.calibration.machine import choose_back_end
from vlacut.measurement.calibration.measuring import measure_samples
from vlacut.measurement.calibration.samples import sampling_plan


@dataclass(frozen=True)
class Calibrated:
    """What was found.

    Attributes:
        backend: that measured; `missing`: what others lack.
        graphs: of calibration.
        unseen: parts that are not among them, with seconds predicted and measured.
        fit_error: median error of the fit on its own graphs.
        error: median error on unseen parts, as a share of what they took.
        said: for people.
    """

    backend: str
    missing: tuple[str, ...]
    graphs: int
    unseen: tuple[Row, ...]
    fit_error: float
    error: float
    said: str


def calibrated(models: Sequence[str], provider: str, turns: int, threads: int = 0) -> Calibrated:
    """Fit a device to graphs, and predict parts of tiny models that were measured in their turns.

    Raises UnsupportedError if nothing here runs by the provider.
    """
    choice = choose_back_end("", provider, threads, next(iter(sampling_plan())))
    known = calibration_samples(forms_of(choice.backend, threads, provider))
    unseen = [part for model in models for part in parts(model, load_program(f"{model}:tiny", {}))]
    every = (*known, *unseen)
    measured = measure_samples(every, choice.backend, turns, threads, provider=provider)
    seconds = [found.shortest for found in measured]
    fitted = fit_profile(
        "here", choice.backend, turns, threads, known, seconds[: len(known)], provider
    )
    device = fitted.profile.device
    found = rows(device, unseen, seconds[len(known) :])
    return Calibrated(
        backend=choice.backend,
        missing=choice.missing,
        graphs=len(known),
        unseen=tuple(found),
        fit_error=float(np.median(np.abs(fitted.fit.errors))),
        error=float(np.median([abs(row.predicted / row.measured - 1) for row in found])),
        said=summary("shortest runs", device, found),
    )
