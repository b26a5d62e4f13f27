"""RAPID's tables."""

from __future__ import annotations

from reproducing import episodes
from reproducing.machines import EDGES, SHORT, spent
from reproducing.tables import Kind, Make, Row, Table, missing, ms

PAPER = "RAPID"
SOURCE = "arXiv 2603.07949 v2, by notes that quote it"
_NETWORK = "nuwins_uplink"  # recorded 5G
_DISTURBED = {"undisturbed": "", "noise": "-noise", "occlusion": "-occlusion"}


def table_i() -> Table:
    """Triggers under disturbances of what is seen."""
    rows = [
        Row("standard, visual noise, distraction", "395.4, 520.6, 685.3 ms", "", Kind.MISSING),
        *(
            episodes.row(f"{rule}, {what}, a step", "", table, rule, episodes.spent)
            for rule in ("entropy", "rapid")
            for what, end in _DISTURBED.items()
            for table in [f"controllers-tokens-{_NETWORK}{end}"]
        ),
    ]
    note = (
        "The paper's figures are of the trigger by entropy. A trigger from joints does not see "
        "noise in pictures at all; the policy does, and moves accordingly. Time of inferences a "
        f"control step. {episodes.BENCH}"
    )
    title = "a trigger by the entropy of actions, under noise"
    return Table(PAPER, "table I", title, SOURCE, rows, note)


def table_ii() -> Table:
    """Steps that need no inference."""
    rows = [
        Row("pick and place, drawer, peg", "82.5, 86.4, 81.2 %", "", Kind.MISSING),
        *(
            episodes.row(f"{name} on the belt", "", f"controllers-{name}-{_NETWORK}", "rapid",
                         episodes.free)
            for name in ("flow", "tokens")
        ),
    ]  # fmt: skip
    note = f"Ours: share of the control steps in which RAPID's rule asks nothing. {episodes.BENCH}"
    return Table(PAPER, "table II", "share of redundant steps", SOURCE, rows, note)


def table_iii() -> Table:
    """OpenVLA in LIBERO."""
    controllers = f"controllers-flow-{_NETWORK}"
    rows = [
        Row("edge alone", "782.5 ms", "", Kind.MISSING),
        *(
            Row(f"edge alone, {SHORT[edge]}", "", ms(spent(edge).whole("openvla")), Kind.FITTED)
            for edge in EDGES
        ),
        Row("A100 alone", "", ms(spent("").whole("openvla")), Kind.FITTED),
        Row("SAFE, cloud + edge", "62.5 + 315.2 = 377.7 ms", "", Kind.MISSING),
        Row("RAPID, cloud + edge", "83.5 + 139.4 = 222.9 ms", "", Kind.MISSING),
        *(
            episodes.row(f"{said}, 5G, a step", "", controllers, label, episodes.spent)
            for said, label in (
                ("A100 alone", "all-cloud"),
                ("RAPID's rule", "rapid"),
                ("the one controller", "price"),
            )
        ),
    ]
    note = (
        "Which edge it is stands in no note; it lies between Orin and Thor in eager PyTorch. The "
        "paper's other rows are means over an episode's steps; so are the last of ours: time of "
        f"inferences a control step. {episodes.BENCH}"
    )
    return Table(PAPER, "table III", "latency of OpenVLA in LIBERO", SOURCE, rows, note)


TABLES: tuple[Make, ...] = (
    table_i,
    table_ii,
    table_iii,
    missing(PAPER, "table IV", "a real robot", SOURCE, "Needs the robot.",
            Row("speed-up, overhead", "1.73 x, 5 to 7 %", "", Kind.MISSING)),
)  # fmt: skip
