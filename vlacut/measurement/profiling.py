"""Profiling: how long the parts of a bundle take on this machine, through their own executor."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from vlacut.bundle.costs import FORMAT, MeasuredCosts, MeasuredPart
from vlacut.bundle.opened import Bundle
from vlacut.errors import InputError, Progress, unwatched
from vlacut.hardware import Side
from vlacut.measurement.stopwatch import Measured, measure
from vlacut.runtime.engines import load_engines
from vlacut.tensor.numerics import synthetic


def profile_bundle(
    bundle: Bundle,
    sides: Sequence[Side],
    turns: int,
    progress: Progress = unwatched,
) -> MeasuredCosts:
    """Measure the parts that these sides hold; this machine must be both, if both are given.

    Inputs are synthetic: the time of a part depends on shapes.
    Raises InputError if there is no such part, BackendError if one cannot run here.
    """
    plan = bundle.plan
    parts = [part for side in sides for part in bundle.parts(side)]
    if not parts:
        raise InputError(f"{bundle.root}: its plan has no part on the {sides[0]}")
    progress("load", 0, 1)
    engines = {name: e for side in sides for name, e in load_engines(bundle, side).items()}
    runs = [
        partial(engines[part.name].run, {key: synthetic(plan.spec[key]) for key in part.inputs})
        for part in parts
    ]
    measured = measure(runs, turns, progress)
    return MeasuredCosts(
        format=FORMAT,
        program=plan.program,
        bundle=bundle.digest.hex(),
        backend=bundle.manifest.backend,
        host=f"{platform.node()}, {platform.machine()}, {platform.platform()}",
        versions=_versions(sorted({bundle.backend(side) for side in sides})),
        parts=tuple(
            _measured(bundle, part.name, times) for part, times in zip(parts, measured, strict=True)
        ),
    )


def _measured(bundle: Bundle, name: str, times: Measured) -> MeasuredPart:
    plan = bundle.plan
    part = plan.part[name]
    return MeasuredPart(
        name=part.name,
        phase=part.phase,
        inputs=part.inputs,
        outputs=part.outputs,
        digest=part.digest,
        side=part.side,
        device=plan.edge if part.side is Side.EDGE else plan.cloud,
        predicted_s=part.seconds,
        seconds=times.seconds,
        low_s=times.low,
        high_s=times.high,
        turns=times.turns,
    )


def _versions(backends: Sequence[str]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("vlacut", "numpy", *backends):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # a back end need not be named after a distribution
    return found
