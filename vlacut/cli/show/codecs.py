"""What codecs a plan has, what they save and cost, and what they do to the action."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from vlacut.cli.show.output import milliseconds, size, table
from vlacut.hardware import Side
from vlacut.plans.plan import Plan, Variant
from vlacut.pricing.coding import ActionError, CodedCrossing


def codecs_json(variant: Variant) -> dict[str, Any]:
    """The coded crossings of a variant, and its error of the action.

    Bytes and milliseconds are per control step; an error is a share of the action's magnitude, see
    `vlacut.pricing.coding.ActionError`.
    """
    error = variant.action_error
    return {
        "crossings": [_crossing_json(crossing) for crossing in variant.coded],
        "action_error": {
            "measured": error.measured,
            "allowed": error.allowed,
            "observations": error.observations,
            "why_not": error.why_not,
            "bound": None if error.bound is None else vars(error.bound),
        },
    }


def _crossing_json(crossing: CodedCrossing) -> dict[str, Any]:
    return {
        "tensor": crossing.tensor,
        "from": crossing.source.value,
        "codec": crossing.codec.value,
        "raw_bytes": crossing.raw_bytes,
        "coded_bytes": crossing.coded_bytes,
        "edge_ms": crossing.edge_s * 1e3,
        "cloud_ms": crossing.cloud_s * 1e3,
        "action_error_alone": crossing.alone,
    }


def show_codecs(console: Console, plan: Plan) -> None:
    """Print the coded crossings of the chosen cut, in the units of `codecs_json`; nothing if there
    are none.
    """
    chosen = plan.variants[0]
    if not chosen.coded:
        return
    columns = ("tensor", "way", "codec", "bytes", "coded", "edge ms", "cloud ms", "error alone")
    rows = [_row(crossing) for crossing in chosen.coded]
    console.print(table("\nCodecs, per control step", columns, rows, left=3))
    console.print(error_text(chosen.action_error))


def _row(crossing: CodedCrossing) -> tuple[str, ...]:
    return (
        crossing.tensor,
        "up" if crossing.source is Side.EDGE else "down",
        crossing.codec.value,
        size(crossing.raw_bytes),
        size(crossing.coded_bytes),
        milliseconds(crossing.edge_s),
        milliseconds(crossing.cloud_s),
        "-" if crossing.alone is None else f"{crossing.alone:.2g}",
    )


def error_text(error: ActionError) -> str:
    """What codecs do to the action, and of which observations that is said."""
    if error.measured is None:
        return f"The error of the action is not measured: {error.why_not}."
    measured = (
        f"Error on {error.observations} observations: the action is off by {error.measured:.3g} of "
        f"its magnitude at most; {error.allowed:.3g} is allowed."
    )
    bound = error.bound
    if bound is None:
        return f"{measured}\nThat bounds no other observation; --calibration does."
    return (
        f"{measured}\nOn others like the {bound.observations} that calibrate it: at most "
        f"{bound.error:.3g}, with a coverage of {bound.coverage:g}."
    )
