"""RAPID's tables."""

from __future__ import annotations

from reproducing.machines import EDGES, SHORT, spent
from reproducing.tables import Kind, Make, Row, Table, missing, ms

PAPER = "RAPID"
SOURCE = "arXiv 2603.07949 v2, by notes that quote it"
BENCH = "tools/closed_loop has the triggers and the loop, but no trained policy yet"


def table_iii() -> Table:
    """OpenVLA in LIBERO."""
    rows = [
        Row("edge alone", "782.5 ms", "", Kind.MISSING),
        *(
            Row(f"edge alone, {SHORT[edge]}", "", ms(spent(edge).whole("openvla")), Kind.FITTED)
            for edge in EDGES
        ),
        Row("A100 alone", "", ms(spent("").whole("openvla")), Kind.FITTED),
        Row("SAFE, cloud + edge", "62.5 + 315.2 = 377.7 ms", "", Kind.MISSING),
        Row("RAPID, cloud + edge", "83.5 + 139.4 = 222.9 ms", "", Kind.MISSING),
    ]
    note = (
        "Which edge it is stands in no note; it lies between Orin and Thor in eager PyTorch. The "
        f"other rows are means over an episode's steps, and need a policy in a loop: {BENCH}."
    )
    return Table(PAPER, "table III", "latency of OpenVLA in LIBERO", SOURCE, rows, note)


TABLES: tuple[Make, ...] = (
    missing(PAPER, "table I", "a trigger by the entropy of actions, under noise", SOURCE,
            f"Needs a policy that sees: {BENCH}. A trigger from joints does not see noise in "
            "pictures at all.",
            Row("standard, visual noise, distraction", "395.4, 520.6, 685.3 ms", "", Kind.MISSING)),
    missing(PAPER, "table II", "share of redundant steps", SOURCE,
            f"Needs recorded episodes: vlacut calibrate-actions prints this share; {BENCH}.",
            Row("pick and place, drawer, peg", "82.5, 86.4, 81.2 %", "", Kind.MISSING)),
    table_iii,
    missing(PAPER, "table IV", "a real robot", SOURCE, "Needs the robot.",
            Row("speed-up, overhead", "1.73 x, 5 to 7 %", "", Kind.MISSING)),
)  # fmt: skip
