"""What a plan's pool looks like: as a table, and as JSON."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console

from vlacut.cli.show.codecs import codecs_json
from vlacut.cli.show.output import milliseconds, size, table
from vlacut.hardware import link_at
from vlacut.plans.plan import Plan, Variant
from vlacut.plans.pool import Engines
from vlacut.pricing.dominance import crossings
from vlacut.tensor.numerics import ROUNDING


def pool_json(plan: Plan) -> dict[str, Any]:
    """The pool's figures: the bytes it doubles, the milliseconds of a step it gains, its variants,
    both forms of its engines.
    """
    pool = plan.pool
    return {
        "name": pool.name,
        "engines": pool.engines,
        "bandwidths": pool.bandwidths,
        "doubled_bytes": pool.doubled_bytes,
        "expected_ms": pool.expected_s * 1e3,
        "alone_ms": pool.alone_s * 1e3,
        "variants": [_variant_json(plan, variant) for variant in plan.variants],
        "forms": [vars(form) for form in pool.forms],
    }


def _variant_json(plan: Plan, variant: Variant) -> dict[str, Any]:
    price = variant.price
    found = best_ranges(plan, variant)
    low, high = (found[0][0], found[-1][1]) if found else (None, None)
    return {
        "name": variant.name,
        "best_from_bytes_per_s": low,
        "best_to_bytes_per_s": None if high == math.inf else high,
        "latency_ms": price.total_s * 1e3,
        "compute_ms": (price.edge_s + price.cloud_s) * 1e3,
        "codec_ms": price.codec_s * 1e3,
        "bytes_up": price.bytes_up,
        "bytes_down": price.bytes_down,
        "hops": price.hops,
        "codecs": codecs_json(variant),
    }


def show_pool(console: Console, plan: Plan) -> None:
    """Print the variants, what they gain, and what their engines hold."""
    rows = [
        (
            variant.name,
            _interval(plan, variant),
            milliseconds(variant.price.total_s),
            milliseconds(variant.price.edge_s + variant.price.cloud_s),
            size(variant.price.bytes_up),
            size(variant.price.bytes_down),
            str(variant.price.hops),
        )
        for variant in plan.variants
    ]
    columns = ("variant", "best at (uplink)", f"ms at {plan.link}", "compute", "up", "down", "hops")
    console.print(table("\nVariants, per control step", columns, rows, left=2))
    pool = plan.pool
    console.print(
        f"\nOver {pool.bandwidths} a step takes {milliseconds(pool.expected_s)} ms in expectation, "
        f"{milliseconds(pool.alone_s)} ms with {plan.variants[0].name} alone: "
        f"{pool.alone_s / pool.expected_s:.3g} x. Weights doubled: {size(pool.doubled_bytes)}."
    )
    forms = [_form_row(form, form.form == pool.engines) for form in pool.forms]
    headings = ("engines", "edge", "cloud", "edge weights", "cloud weights")
    console.print(table("\nEngines, if each holds a copy of its weights", headings, forms))


def _form_row(form: Engines, taken: bool) -> tuple[str, ...]:
    return (
        form.form + (" (these)" if taken else ""),
        str(form.edge),
        str(form.cloud),
        size(form.edge_bytes),
        size(form.cloud_bytes),
    )


def _interval(plan: Plan, variant: Variant) -> str:
    return ", ".join(_range(*found) for found in best_ranges(plan, variant)) or "never"


def _range(low: float, high: float) -> str:
    if low == 0:
        return "always" if high == math.inf else f"up to {size(high)}/s"
    return f"from {size(low)}/s" + ("" if high == math.inf else f" to {size(high)}/s")


def best_ranges(plan: Plan, variant: Variant) -> list[tuple[float, float]]:
    """The uplink bandwidths, bytes per second, at which no variant is cheaper, the lowest first.

    With the downlink in the plan's ratio to it. What overlaps bends prices, so that another variant
    may be cheaper in between.
    """
    crossed = {
        place
        for other in plan.variants
        for place in crossings(variant.price, other.price, plan.link)
    }
    places = sorted({0.0, *crossed})
    last = max(places[-1], 1 / plan.link.up) * 2
    best: list[tuple[float, float]] = []
    for low, high in zip(places, [*places[1:], math.inf], strict=True):
        if _is_best(plan, variant, (low + min(high, last)) / 2):
            joins = bool(best) and best[-1][1] == low
            best.append((best.pop()[0] if joins else low, high))
    share = plan.link.framing.share
    return [
        (1 / (high * share), 1 / (low * share) if low else math.inf) for low, high in best[::-1]
    ]


def _is_best(plan: Plan, variant: Variant, seconds_per_byte: float) -> bool:
    link = link_at(plan.link, seconds_per_byte)
    mine = variant.price.over(link)
    return all(mine <= other.price.over(link) * (1 + ROUNDING) for other in plan.variants)
