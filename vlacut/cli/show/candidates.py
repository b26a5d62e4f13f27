"""What a pool considered, and what became of it: as a table, and as JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from vlacut.cli.show.output import milliseconds, size, table
from vlacut.plans.pool import Considered, Crossing

_SHAPES = 2  # as many as a table's cell names


def candidates_json(considered: Sequence[Considered]) -> list[dict[str, Any]]:
    """The placements: bytes and milliseconds per control step, as the README of the commands has
    them.
    """
    return [
        {
            "origin": one.origin,
            "crossings": [
                {
                    "key": each.key,
                    "dtype": each.dtype,
                    "shape": list(each.shape),
                    "direction": "up" if each.upward else "down",
                }
                for each in one.crossings
            ],
            "bytes_up": one.bytes_up,
            "bytes_down": one.bytes_down,
            "hops": one.hops,
            "compute_ms": one.compute_s * 1e3,
            "latency_ms": one.latency_s * 1e3,
            "doubled_bytes": one.doubled_bytes,
            "fate": one.fate.value,
            "why": one.why,
        }
        for one in considered
    ]


def show_candidates(console: Console, considered: Sequence[Considered], link: str) -> None:
    """Print a row per placement, and how many had which fate; `link` is the plan's, in words."""
    rows = [
        (
            one.origin,
            f"{one.fate}: {one.why}",
            _tensors([each for each in one.crossings if each.upward]),
            _tensors([each for each in one.crossings if not each.upward]),
            size(one.bytes_up),
            size(one.bytes_down),
            str(one.hops),
            milliseconds(one.compute_s),
            milliseconds(one.latency_s),
            size(one.doubled_bytes),
        )
        for one in considered
    ]
    columns = ("candidate", "fate", "tensors up", "tensors down", "up", "down", "hops", "compute")
    console.print(
        table("\nCandidates of the pool", (*columns, f"ms at {link}", "doubles"), rows, 4)
    )
    counted = Counter(one.fate.value for one in considered)
    said = ", ".join(f"{count} {fate}" for fate, count in counted.items())
    console.print(f"{len(considered)} placements: {said}.")


def _tensors(crossings: Sequence[Crossing]) -> str:
    """The shapes of the largest, and how many others there are."""
    shapes = sorted((each.shape for each in crossings), key=math.prod, reverse=True)
    said = " ".join("x".join(map(str, shape)) or "1" for shape in shapes[:_SHAPES])
    more = len(shapes) - _SHAPES
    return f"{said} +{more}" if more > 0 else said
