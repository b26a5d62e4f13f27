"""Verification of a bundle: three comparisons, of which one was made when it was compiled.

The *module* or file that it came from with the uncut program, as the manifest records it; the
*uncut program* as it runs here with what was recorded of it then; and every *cut* with the uncut
program.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vlacut import registry
from vlacut.backend import Engine, Progress, unwatched
from vlacut.bundle.manifest import Bundle
from vlacut.bundle.model_check import ModelCheck
from vlacut.runtime.engines import load_engines
from vlacut.runtime.local import run_both
from vlacut.runtime.whole import load_whole, run_whole
from vlacut.side import Side
from vlacut.tensor.numerics import largest_difference, magnitude, varied

MODULE, UNCUT, CUT = "module", "uncut program", "cut"

# Another processor may sum in another order: float32 to about its last two decimal digits.
_OTHER_MACHINE = 1e-5


@dataclass(frozen=True)
class CutResult:
    """One comparison, and how far apart the two were.

    Attributes:
        comparison: `module`, `uncut program` or `cut`.
        name: of the variant; of the others `uncut program`, or what it was compared with.
        max_abs_error: over all tensors of the action; of the module, of the worst output.
        allowed: by the bundle, in the same units.
        why_not: why nothing was compared; empty if it was.
    """

    comparison: str
    name: str
    max_abs_error: float
    allowed: float
    why_not: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is allowed; one that is no number is not."""
        return self.max_abs_error <= self.allowed


def verify_bundle(bundle: Bundle, progress: Progress = unwatched) -> tuple[CutResult, ...]:
    """Run the uncut program and every variant on the golden observation, and compare.

    Both sides of a variant run in this process and talk over the real wire. One with codecs is run
    on variations of the observation too, as many as its error was measured on, and may be as far
    off as the plan states: see `vlacut.pricing.coding.ActionError`. Where engines are built on the
    device there are none of the uncut model: what was recorded of it takes its place.

    Raises BundleError if the bundle has no golden observation.
    """
    plan, steps = bundle.plan, 1 + len(bundle.plan.variants)
    uncut = _Uncut(bundle)
    progress("uncut", 0, steps)
    results = [_module(bundle.manifest.model_check)]
    if uncut.runs:
        recorded = bundle.golden("action")
        results.append(_compare(UNCUT, UNCUT, recorded, uncut.action(0), _OTHER_MACHINE))
    else:
        why_not = f"engines of {bundle.manifest.backend} are built of its parts alone"
        results.append(CutResult(UNCUT, UNCUT, 0.0, 0.0, why_not))
    engines = load_engines(bundle, Side.EDGE) | load_engines(bundle, Side.CLOUD)
    for index, variant in enumerate(plan.variants):
        progress(variant.name, 1 + index, steps)
        stated = variant.action_error
        tolerance = bundle.manifest.tolerance + (stated.allowed or 0.0)
        compared = [
            _compare(
                CUT,
                variant.name,
                run_both(plan, engines, index, uncut.observation(seed)),
                uncut.action(seed),
                tolerance,
            )
            for seed in uncut.seeds(stated.observations)
        ]
        results.append(max(compared, key=_badness))
    return tuple(results)


class _Uncut:
    """The uncut model on the golden observation, seed 0, and on variations of it.

    Attributes:
        runs: whether it runs here; where engines are built on the device, there are none of it,
            and what was recorded takes its place.
    """

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        self._plan, self._phases = bundle.plan, manifest.whole
        self._golden = bundle.golden("observation")
        self._actions: dict[int, dict[str, np.ndarray]] = {}
        self._engines: Mapping[str, Engine] = {}
        self.runs = manifest.backend not in registry.names("engine_builders")
        if self.runs:
            executor = registry.load("executors", manifest.backend)()
            recipe = bundle.recipe(Side.EDGE)
            self._engines = load_whole(executor, bundle.root, manifest.whole, recipe)
        else:
            self._actions[0] = bundle.golden("action")

    def seeds(self, wanted: int) -> range:
        """Of the observations to compare: so many, where it runs."""
        return range(max(1, wanted) if self.runs else 1)

    def observation(self, seed: int) -> dict[str, np.ndarray]:
        return varied(self._plan.inputs, self._golden, seed)

    def action(self, seed: int) -> dict[str, np.ndarray]:
        if seed not in self._actions:
            tensors = run_whole(self._phases, self._engines, self.observation(seed))
            self._actions[seed] = {name: tensors[key] for name, key in self._plan.outputs.items()}
        return self._actions[seed]


def _badness(result: CutResult) -> float:
    """How much of what is allowed an error takes."""
    if result.max_abs_error == 0:
        return 0.0
    share = result.max_abs_error / result.allowed if result.allowed else math.inf
    return share if share == share else math.inf


def _module(record: ModelCheck) -> CutResult:
    allowed = record.tolerance * record.magnitude
    return CutResult(MODULE, record.against, record.difference, allowed, record.why_not)


def _compare(
    comparison: str,
    name: str,
    action: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    tolerance: float,
) -> CutResult:
    allowed = tolerance * magnitude(reference, finite=True)
    return CutResult(comparison, name, largest_difference(action, reference), allowed)
