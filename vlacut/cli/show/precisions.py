"""What the variants of other precisions cost, hold and lose: as a table, and as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from vlacut.cli.show.output import milliseconds, size, table
from vlacut.plans.plan import Plan, Variant

OWN = "as it is"


def precisions_json(plan: Plan) -> list[dict[str, Any]]:
    """Every variant with its precision; empty where all are of the program as it is."""
    return [_row_json(variant) for variant in _shown(plan)]


def _row_json(variant: Variant) -> dict[str, Any]:
    price, error = variant.price, variant.action_error
    return {
        "variant": variant.name,
        "precision": variant.precision or OWN,
        "latency_ms": price.total_s * 1e3,
        "edge_weights_bytes": price.edge_weight_bytes,
        "cloud_weights_bytes": price.cloud_weight_bytes,
        "error": error.measured,
        "why_not": error.why_not,
        "observations": error.observations,
    }


def show_precisions(console: Console, plan: Plan) -> None:
    """The table, if there is more than one precision, and what all of them hold together."""
    shown = _shown(plan)
    if not shown:
        return
    rows = [
        (
            variant.name,
            *(milliseconds(s) for s in (price.total_s, price.edge_s, price.cloud_s)),
            size(price.edge_weight_bytes),
            size(price.cloud_weight_bytes),
            _error(variant),
        )
        for variant in shown
        for price in (variant.price,)
    ]
    columns = ("variant", "ms", "edge", "cloud", "edge holds", "cloud holds", "error of the action")
    console.print(table("\nPrecisions, per control step", columns, rows))
    measured = max(variant.action_error.observations for variant in shown)
    if measured:
        console.print(
            f"Errors are on {measured} observations, as shares of the action's magnitude, against "
            f"the uncut program; they bound no others."
        )


def _shown(plan: Plan) -> tuple[Variant, ...]:
    return plan.variants if any(variant.precision for variant in plan.variants) else ()


def _error(variant: Variant) -> str:
    measured = variant.action_error.measured
    return "not measured" if measured is None else f"{measured:.3g}"
