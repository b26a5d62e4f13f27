"""What needs a policy in a loop: figures that the closed loop's report left in the repository."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from reproducing.tables import Kind, Row

FIGURES = Path(__file__).parents[1] / "closed_loop" / "figures.json"
BENCH = (
    "Ours: a small policy on a simulated belt, tools/closed_loop, with OpenVLA's times on Orin and "
    "A100 where a network is named; no LIBERO, no robot."
)
_Found = Mapping[str, float]


def row(what: str, paper: str, table: str, label: str, say: Callable[[_Found], str]) -> Row:
    """A figure of the closed loop, or none where that row was not run."""
    known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    found = known.get(table, {}).get("rows", {}).get(label)
    if found is None:
        return Row(what, paper, "", Kind.MISSING)
    return Row(what, paper, say(found), Kind.PLAYED)


def success(found: _Found) -> str:
    """Episodes won, and the interval of the share."""
    return f"{found['won']} of {found['episodes']}, {found['low']:.0%} to {found['high']:.0%}"


def spent(found: _Found) -> str:
    """Time of inferences a control step, and episodes won."""
    return f"{found['busy_ms']:.1f} ms; {found['won']} of {found['episodes']} succeed"


def free(found: _Found) -> str:
    """Share of the control steps that ask for nothing."""
    return f"{found['free']:.1%}"
