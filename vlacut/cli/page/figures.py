"""The figures of a page, as `vlacut report --json` prints them and the page holds them."""

from __future__ import annotations

from typing import Any

import numpy as np

from vlacut.bundle.costs import MeasuredCosts
from vlacut.bundle.opened import Bundle
from vlacut.bundle.planning import Planning, Position, read_planning
from vlacut.cli.page.measured import costs_json, run_json
from vlacut.cli.show.contents import inspect_json
from vlacut.plans.plan import Plan
from vlacut.runtime.edge.recorded import Run

AGE = 1.5  # mean age of the action in force, in latencies, where a step follows a step
_POINTS, _DECADES = 97, 2


def page_json(
    bundle: Bundle, costs: MeasuredCosts | None = None, run: Run | None = None
) -> dict[str, Any]:
    """What `inspect --json` prints, the model's blocks and other cuts of them, latency over
    bandwidths, and what was measured.

    Raises BundleError where the bundle's own record of its planning is wrong, InputError where
    measurements are another bundle's.
    """
    planning = read_planning(bundle)
    return {
        **inspect_json(bundle),
        "comparison": str(bundle.manifest.model_check),
        "planning": None if planning is None else _planning_json(planning),
        "curves": _curves_json(bundle.plan),
        "measured_parts": costs_json(bundle.plan, costs) if costs else [],
        "run": run_json(bundle.plan, bundle.digest, run) if run else None,
    }


def _planning_json(planning: Planning) -> dict[str, Any]:
    return {
        "doubled_bytes": dict(planning.doubled),
        "interval_ms": [bound * 1e3 for bound in planning.interval_s],
        "blocks": [
            {
                "stage": block.stage,
                "name": block.name,
                "phases": list(block.phases),
                "edge_ms": block.edge_s * 1e3,
                "cloud_ms": block.cloud_s * 1e3,
                "weights_bytes": block.weight_bytes,
            }
            for block in planning.blocks
        ],
        "positions": [_position_json(one) for one in planning.positions],
        "contents": [
            {"part": part, "block": one.block, "operators": dict(one.operators)}
            for part, held in planning.parts.items()
            for one in held
        ],
    }


def _position_json(one: Position) -> dict[str, Any]:
    serial = one.edge_s + one.cloud_s + one.up_s + one.down_s + one.hop_s
    return {
        "blocks_on_edge": one.blocks,
        "latency_ms": (serial - one.overlap_s) * 1e3,
        "edge_ms": one.edge_s * 1e3,
        "cloud_ms": one.cloud_s * 1e3,
        "uplink_ms": one.up_s * 1e3,
        "downlink_ms": one.down_s * 1e3,
        "propagation_ms": one.hop_s * 1e3,
        "overlap_ms": one.overlap_s * 1e3,
        "bytes_up": one.bytes_up,
        "bytes_down": one.bytes_down,
    }


def _curves_json(plan: Plan) -> dict[str, Any]:
    """Latency over bandwidths of the wire up, two decades either way; those down in proportion."""
    here = plan.link.wire_up
    rates = here * np.logspace(-_DECADES, _DECADES, _POINTS)
    links = [plan.link.at(float(rate)) for rate in rates]
    priced = [(one.name, one.price, True) for one in plan.exact.variants]
    alone = {"all-edge", "all-cloud"} - {name for name, _, _ in priced}
    priced += [(row.name, row.price, False) for row in plan.strategies if row.name in alone]
    return {
        "up_bytes_per_s": rates.tolist(),
        "age_per_latency": AGE,
        "lines": [
            {
                "name": name,
                "variant": variant,
                "latency_ms": [price.over(link) * 1e3 for link in links],
            }
            for name, price, variant in priced
        ],
    }
