"""Verification of a bundle: three comparisons, the first of which was made at compile time.

- the *module*, or file, that the model came from, with the uncut program: the manifest has it;
- the *uncut program* as it runs here, with its record from compile time;
- every *cut* with the uncut program. The error of codecs is known only on the observations that
  they were chosen on, so a cut with codecs runs on fresh ones, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vlacut.backend import Engine
from vlacut.bundle.model_check import ModelCheck
from vlacut.bundle.opened import Bundle
from vlacut.errors import Progress, unwatched
from vlacut.hardware import Side
from vlacut.runtime.engines import load_engines
from vlacut.runtime.fresh import FRESH, Fresh, measure_fresh
from vlacut.runtime.references import Made, Uncut
from vlacut.tensor.numerics import largest_difference, magnitude
from vlacut.tensor.observations import read_observations

MODULE, UNCUT, CUT = "module", "uncut program", "cut"

# Another processor may sum in another order: float32 to about its last two decimal digits.
_OTHER_MACHINE = 1e-5
CPU = "cpu"
_ELSEWHERE = 1e-4  # on a GPU, over a whole step: as the back end torch has it


@dataclass(frozen=True)
class CutResult:
    """One comparison, and how far apart the two were.

    Attributes:
        comparison: `module`, `uncut program` or `cut`.
        name: the variant's name; for the other comparisons `uncut program`, or what it was
            compared with.
        max_abs_error: largest error over all tensors of the action; for the module, of the worst
            output.
        allowed: what the bundle allows, in the same units.
        why_not: why nothing was compared; empty if it was.
        fresh: what codecs and precision do on fresh observations; None where there are none.
    """

    comparison: str
    name: str
    max_abs_error: float
    allowed: float
    why_not: str = ""
    fresh: Fresh | None = None

    @property
    def passed(self) -> bool:
        """Whether the error is allowed, and that of fresh observations; no NaN is."""
        fresh = self.fresh is None or self.fresh.passed
        return self.max_abs_error <= self.allowed and fresh

    @property
    def warning(self) -> str:
        """What a user should know of it; empty if nothing."""
        if self.fresh is None or not self.fresh.beyond:
            return ""
        fresh = self.fresh
        kind = "" if fresh.alike else ", none like those that they were measured on,"
        return (
            f"{self.name}: on {fresh.beyond} of {fresh.observations} fresh observations{kind} "
            f"the action moves further than {fresh.allowed:.3g} of its magnitude, up to "
            f"{fresh.max_error:.3g}; compile with a smaller --max-action-error, with observations "
            f"of its use as --calibration, or without that precision"
        )


def verify_bundle(
    bundle: Bundle,
    progress: Progress = unwatched,
    *,
    fresh: int = FRESH,
    observations: Path | None = None,
    provider: str = CPU,
) -> tuple[CutResult, ...]:
    """Run the uncut program and every variant on the golden observation, and compare; of a program
    that remembers, on the golden sequence, every action and every state of it.

    Both sides of a variant run in this process and talk over the real wire. One with codecs is run
    on variations of the observation too, as many as its error was measured on, and may be as far
    off as the plan states: see `vlacut.pricing.coding.ActionError`. Where engines are built on the
    device there are none of the uncut model: what was recorded of it takes its place.

    A cut with codecs is also run on fresh observations (`vlacut.runtime.fresh`). Drawn as those
    that its error was measured on, too many that are moved further than is allowed are a failure;
    else they are a warning.

    Args:
        bundle: to verify.
        progress: called with what is done, how much of it, and of how much.
        fresh: how many variations of the golden observation are drawn; 0 for none.
        observations: a file or folder of fresh ones (`vlacut.tensor.observations`), taken in their
            place. For a program that remembers they are the steps of one episode.
        provider: what back ends that have several run on, so that what is compared does not hang
            on what else this machine has. On another one than the CPU sums are in another order,
            and that is allowed.

    Raises BundleError if the bundle has no golden observation, InputError for observations that
    cannot be read.
    """
    plan, steps = bundle.plan, 1 + len(bundle.plan.variants)
    given = read_observations(observations, plan.inputs) if observations else []
    uncut = Uncut(bundle, given, provider)
    elsewhere = 0.0 if provider == CPU else max(_ELSEWHERE, bundle.manifest.tolerance)
    progress("uncut", 0, steps)
    results = [_module(bundle.manifest.model_check)]
    if uncut.runs:
        pairs = zip(uncut.recorded, uncut.made(0), strict=True)
        results.append(_worst(UNCUT, UNCUT, pairs, max(_OTHER_MACHINE, elsewhere)))
    else:
        name = bundle.backend(bundle.manifest.uncut)
        why_not = f"engines of {name} are built of its parts alone"
        results.append(CutResult(UNCUT, UNCUT, 0.0, 0.0, why_not))
    engines = {name: one for side in Side for name, one in _engines(bundle, side, provider)}
    for index, variant in enumerate(plan.variants):
        progress(variant.name, 1 + index, steps)
        stated = variant.action_error
        if variant.precision and stated.allowed is None:
            results.append(CutResult(CUT, variant.name, 0.0, 0.0, stated.why_not))
            continue
        tolerance = max(bundle.manifest.tolerance, elsewhere) + (stated.allowed or 0.0)
        compared = [
            _worst(
                CUT,
                variant.name,
                uncut.pairs(engines, index, seed),
                tolerance,
            )
            for seed in uncut.seeds(1 if stated.bound else stated.observations)
        ]
        found = None
        if (variant.coded or variant.precision) and stated.allowed is not None:
            found = measure_fresh(
                uncut, engines, index, uncut.fresh(fresh), bundle.manifest.tolerance
            )
        results.append(replace(max(compared, key=_badness), fresh=found))
    return tuple(results)


def _engines(bundle: Bundle, side: Side, provider: str) -> Iterable[tuple[str, Engine]]:
    chosen = provider if "provider" in bundle.recipe(side) else ""
    return load_engines(bundle, side, provider=chosen).items()


def _badness(result: CutResult) -> float:
    """How much of what is allowed an error takes."""
    if result.max_abs_error == 0:
        return 0.0
    share = result.max_abs_error / result.allowed if result.allowed else math.inf
    return share if share == share else math.inf


def _module(record: ModelCheck) -> CutResult:
    allowed = record.tolerance * record.magnitude
    return CutResult(MODULE, record.against, record.difference, allowed, record.why_not)


def _worst(
    comparison: str, name: str, pairs: Iterable[tuple[Made, Made]], tolerance: float
) -> CutResult:
    """The worst of all actions and states: each state is measured by its own magnitude."""
    compared = []
    for (action, state), (reference, left) in pairs:
        compared.append(_compare(comparison, name, action, reference, tolerance))
        for key, array in state.items():
            one, other = {key: array}, {key: left[key]}
            compared.append(_compare(comparison, name, one, other, tolerance))
    return max(compared, key=_badness)


def _compare(
    comparison: str,
    name: str,
    action: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    tolerance: float,
) -> CutResult:
    allowed = tolerance * magnitude(reference, finite=True)
    return CutResult(comparison, name, largest_difference(action, reference), allowed)
