"""Verification of a bundle: every cut in it against the uncut model, numerically."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from vlacut import registry
from vlacut.api import load_engines
from vlacut.bundle import Bundle
from vlacut.pricing import Side
from vlacut.runtime.local import run_both
from vlacut.runtime.whole import load_whole, run_whole

# Another processor may sum in another order: float32 to about its last two decimal digits.
_OTHER_MACHINE = 1e-5


@dataclass(frozen=True)
class CutResult:
    """How far an action is from the uncut model's.

    Attributes:
        name: of the variant; or `golden record` for the action recorded by the compiler.
        max_abs_error: over all tensors of the action.
        allowed: by the bundle, in the same units.
    """

    name: str
    max_abs_error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the error is allowed; one that is no number is not."""
        return self.max_abs_error <= self.allowed


def verify_bundle(
    bundle: Bundle, progress: Callable[[str, int, int], None] = lambda *_: None
) -> tuple[CutResult, ...]:
    """Run the uncut model and every variant on the golden observation, and compare.

    Both sides of a variant run in this process and talk over the real wire. Where engines are built
    on the device there are none of the uncut model: what was recorded of it takes its place.
    Raises BundleError if the bundle has no golden observation.
    """
    plan, steps = bundle.plan, 1 + len(bundle.plan.variants)
    observation = bundle.golden("observation")
    progress("uncut", 0, steps)
    golden, tolerance, results = bundle.golden("action"), bundle.manifest.tolerance, []
    if bundle.manifest.backend in registry.names("engine_builders"):
        reference = golden
    else:
        reference = _uncut_action(bundle, observation)
        results = [_compare("golden record", golden, reference, _OTHER_MACHINE)]
    engines = load_engines(bundle, Side.EDGE) | load_engines(bundle, Side.CLOUD)
    for index, variant in enumerate(plan.variants):
        progress(variant.name, 1 + index, steps)
        action = run_both(plan, engines, index, observation)
        results.append(_compare(variant.name, action, reference, tolerance))
    return tuple(results)


def _uncut_action(bundle: Bundle, observation: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    manifest = bundle.manifest
    executor = registry.load("executors", manifest.backend)()
    engines = load_whole(executor, bundle.root, manifest.whole, bundle.recipe(Side.EDGE))
    tensors = run_whole(manifest.whole, engines, observation)
    return {name: tensors[key] for name, key in bundle.plan.outputs.items()}


def _compare(
    name: str,
    action: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    tolerance: float,
) -> CutResult:
    zeros = {key: np.zeros_like(array) for key, array in reference.items()}
    magnitude = largest_difference(reference, zeros)
    return CutResult(name, largest_difference(action, reference), tolerance * magnitude)


def largest_difference(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float:
    """Largest absolute difference over tensors of the same names; NaN if there is one."""
    pairs = ((one[name].astype(np.float64), other[name].astype(np.float64)) for name in other)
    return float(np.max([np.max(np.abs(left - right), initial=0) for left, right in pairs]))
