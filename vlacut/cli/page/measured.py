"""What was measured, beside what was predicted: parts by `vlacut profile`, and recorded runs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from vlacut.bundle.costs import MeasuredCosts
from vlacut.errors import InputError
from vlacut.hardware import Side
from vlacut.plans.plan import Plan
from vlacut.runtime.edge.recorded import Run
from vlacut.runtime.edge.report import Source

MOST_SHOWN = 600  # steps of a run in a picture; of more, the slowest of every so many


def costs_json(plan: Plan, costs: MeasuredCosts) -> list[dict[str, Any]]:
    """Parts of a plan as a machine measured them. InputError if it measured another model's."""
    there = [part for part in costs.parts if part.name in plan.part]
    if not there or costs.program != plan.program:
        raise InputError(
            f"these costs are of {costs.program}, bundle {costs.bundle[:12]}, not of "
            f"{plan.program}; run vlacut profile on this bundle"
        )
    return [
        {
            "name": part.name,
            "side": part.side.value,
            "device": part.device,
            "planned_ms": part.predicted_s * 1e3,
            "time_ms": part.seconds * 1e3,
            "quartiles_ms": [part.low_s * 1e3, part.high_s * 1e3],
        }
        for part in there
    ]


def run_json(plan: Plan, digest: bytes, run: Run) -> dict[str, Any]:
    """A recorded run: what it came to, by variant beside the plan, and over time.

    Raises InputError if it is another bundle's.
    """
    names = {variant.name for variant in plan.variants}
    strange = {*run.variants.tolist()} - names or {*run.parts.tolist()} - plan.part.keys()
    if run.digest != digest.hex() or strange:
        raise InputError(
            f"the run is of {run.model}, bundle {run.digest[:12]}, not of {plan.program}, "
            f"{digest.hex()[:12]}; record it again"
        )
    shown = _shown(run.latency_s)
    return {
        "steps": len(run.began_ns),
        "seconds": float(run.returned_ns[-1] - run.began_ns[0]) * 1e-9,
        "latency_ms": _spread(run.latency_s),
        "age_ms": _spread(run.age_s),
        "sources": dict(Counter(run.source.tolist())),
        "reasons": dict(Counter(one for one in run.reason.tolist() if one)),
        "overrun": int(np.count_nonzero(run.overrun_s)),
        "variants": [_beside(plan, run, int(index)) for index in np.unique(run.variant)],
        "over_time": {
            "s": ((run.began_ns[shown] - run.began_ns[0]) * 1e-9).tolist(),
            "latency_ms": (run.latency_s[shown] * 1e3).tolist(),
            "age_ms": (run.age_s[shown] * 1e3).tolist(),
            "up_bytes_per_s": run.expected[shown, 0].tolist(),
            "variant": run.variants[run.variant[shown]].tolist(),
            "source": run.source[shown].tolist(),
        },
    }


def _beside(plan: Plan, run: Run, index: int) -> dict[str, Any]:
    """Medians of the steps that a variant made, beside its price."""
    name = str(run.variants[index])
    price = next(one.price for one in plan.variants if one.name == name)
    own = (run.variant == index) & (run.source == Source.CHOSEN.value)
    edge, cloud = (
        [plan.part[str(part)].side is side for part in run.parts]
        for side in (Side.EDGE, Side.CLOUD)
    )
    here, there = run.part_s[own][:, edge].sum(1), run.part_s[own][:, cloud].sum(1)
    coded, whole = run.codec_s[own].sum(1), run.latency_s[own]
    planned = (
        ("edge_ms", price.edge_s, here),
        ("cloud_ms", price.cloud_s, there),
        ("codec_ms", price.codec_s, coded),
        ("network_ms", price.up_s + price.down_s + price.hop_s, whole - here - there - coded),
        ("latency_ms", price.total_s, whole),
    )
    return {
        "name": name,
        "steps": int(np.count_nonzero(run.variant == index)),
        "made": int(np.count_nonzero(own)),
        "planned": {key: seconds * 1e3 for key, seconds, _ in planned},
        "measured": {key: _median(measured) for key, _, measured in planned},
    }


def _median(seconds: np.ndarray) -> float | None:
    return float(np.median(seconds)) * 1e3 if len(seconds) else None


def _spread(seconds: np.ndarray) -> dict[str, float]:
    names = ("median", "p95", "p99", "max")
    found = np.quantile(seconds, (0.5, 0.95, 0.99, 1.0)) * 1e3
    return dict(zip(names, found.tolist(), strict=True))


def _shown(latency_s: np.ndarray) -> np.ndarray:
    """Indices of the steps to draw: all, or the slowest of every so many."""
    groups = np.array_split(np.arange(len(latency_s)), min(MOST_SHOWN, len(latency_s)))
    return np.array([group[np.argmax(latency_s[group])] for group in groups])
