"""Tables over recorded networks: where a full-size plan runs, and when it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vlacut.bundle.reading import read_bundle
from vlacut.control.report import CUT, routes_of
from vlacut.plans.plan import Plan

from .cells import Cell
from .rows import Table, executors

_PLAYED = ("naive", "aligned")  # how other ways to run a loop are
_RULES = ("when-empty", "rapid", "risk")
_PRICE = (("minimise", "cloud-time"),)
# Errors that `price` is allowed instead of its tables'. Of 0.07, 0.1 and 0.15, tried naively in
# 12 episodes that are not held out (seeds from 600,000 on), each took less of the cloud than
# when-empty (1.64, 1.77, 1.77 and 1.87 s); 0.07 had the most successes, 9 beside 7, 7 and 7.
_LOOSER = {"flow": 0.07}
_UNSURE = {"tokens": ("entropy",)}  # rules for a policy that tells how unsure it is

NETWORKS = {"5G uplink": "nuwins_uplink", "LTE": "nyc_cellular", "3G": "norway_hsdpa"}


def network_table(
    label: str,
    base: Cell,
    roboecc: Path | None,
    others: Mapping[str, Path] | None = None,
    rtc: str = "",
) -> Table:
    """Placements over a recorded network, full-size timing; ways to play, `rtc` being the policy
    that continues the chunk; and other ways to run the plan's loop, bundles by name.
    """
    traces = Path(base.traces).name
    plan = read_bundle(Path(base.plan)).plan
    rows = [*_edge_alone(plan, base), *_uncut(plan, base)]
    if roboecc is not None:
        fixed = read_bundle(roboecc).plan.variants[0].name
        paper = replace(base, plan=str(roboecc))
        rows.append(("RoboECC fixed", replace(paper, selector=fixed)))
        rows.append(("RoboECC adjusted", replace(paper, selector="thresholds")))
    rows += [(f"ours, {way}", one) for way, one in executors(base, rtc).items()]
    compared = [(other, "ours, naive") for other, _ in rows if not other.startswith("ours")]
    for name, path in (others or {}).items():
        for way in _PLAYED:
            rows.append((f"{name}, {way}", replace(base, plan=str(path), playing=way)))
            compared.append((f"ours, {way}", rows[-1][0]))
    title = f"{base.task}: the timing of {plan.program} over {label} ({traces})"
    return Table(f"network-{traces}", title, rows, compared, _PAPERS["network"])


def _edge_alone(plan: Plan, base: Cell) -> list[tuple[str, Cell]]:
    """Rows of all of the program on the robot, by its price: no network, and none of the plan's
    variants where its pool has no room for that.
    """
    priced = next((one for one in plan.strategies if one.name == "all-edge"), None)
    if priced is None:
        return []
    alone = replace(base, plan="", traces="", delay_s=round(priced.price.total_s, 4))
    made = executors(alone)
    return [(f"all-edge, {way}", made[way]) for way in ("sync", *_PLAYED)]


def _uncut(plan: Plan, base: Cell) -> list[tuple[str, Cell]]:
    """Rows in which all of a plan runs on one side, of those that it has."""
    sides = {one.route: one for one in reversed(routes_of(plan)) if one.route != CUT}
    return [(f"all-{side}", replace(base, selector=one.variant)) for side, one in sides.items()]


_PAPERS = {
    "network": (
        "RoboECC (arXiv 2603.20711, table II, Orin): edge-only 1119.4 ms, cloud-only 151.2, fixed "
        "923.3, adjusted 354.4; the paper has no closed loop.",
        "The timing of the plan's model, the small policy's actions: the delays of that deployment "
        "under the task, not that model's skill. An inference is taken to give 16 commands.",
    ),
    "controllers": (
        "RAPID (arXiv 2603.07949): table I, trigger by vision entropy 395.4 ms, under visual noise "
        "520.6, under distraction 685.3; table III, edge-only 782.5, SAFE 377.7, RAPID 222.9; up "
        "to 15.8 % more success on a real robot.",
    ),
}


def controller_table(label: str, name: str, base: Cell) -> Table:
    """When to ask, over a recorded network, with what is seen disturbed or not."""
    traces, disturbed = Path(base.traces).name, base.disturbance
    ends = [disturbed, base.playing if base.playing != "naive" else ""]
    plan = read_bundle(Path(base.plan)).plan
    rows = [
        *_uncut(plan, replace(base, tables="")),
        ("periodic", replace(base, tables="")),
        *((rule, replace(base, controller=rule)) for rule in (*_RULES, *_UNSURE.get(name, ()))),
        ("price", replace(base, controller="price", options=_PRICE)),
    ]
    compared = [(other, "price") for other, _ in rows[:-1]]
    if eps := _LOOSER.get(name):
        looser, options = f"price, eps {eps:g}", (*_PRICE, ("eps", eps))
        rows.append((looser, replace(base, controller="price", options=options)))
        compared.append(("when-empty", looser))
    return Table(
        "-".join(["controllers", name, traces, *filter(None, ends)]),
        f"{base.task}, {name}: when to ask, the timing of {plan.program} over {label} ({traces}), "
        + base.playing
        + (f", {disturbed} in the pictures" if disturbed else ""),
        rows,
        compared,
        _PAPERS["controllers"],
    )
