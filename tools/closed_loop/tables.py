"""What the report runs: tables, and the cells of their rows."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vlacut.bundle.manifest import read_bundle
from vlacut.control.report import CUT, routes_of
from vlacut.control.ways.playing import PLAYINGS

from .cells import EXPERT, Cell
from .disturbances import DISTURBANCES, NOISE
from .programs import RTC
from .tasks import TASKS

_DELAYS_MS = (100, 300, 600)
NETWORKS = {"5G uplink": "nuwins_uplink", "LTE": "nyc_cellular", "3G": "norway_hsdpa"}
_PLAYED = 8  # commands of a chunk that the synchronous loop plays, as in simulators
_LONG = 32  # commands of a chunk that lasts more than twice the longest delay


@dataclass(frozen=True)
class Table:
    """Rows with a cell each.

    Attributes:
        name, title: of it.
        rows: label and cell.
        compared: pairs of labels, the second against the first.
        notes: printed below.
    """

    name: str
    title: str
    rows: Sequence[tuple[str, Cell]]
    compared: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()

    @property
    def cells(self) -> list[Cell]:
        """Of all rows."""
        return [cell for _, cell in self.rows]

    def cell(self, label: str) -> Cell:
        """Of a row."""
        return dict(self.rows)[label]


def executors(cell: Cell, rtc: str = "") -> dict[str, Cell]:
    """The same cell with every way to play; `rtc` is the policy that continues the chunk."""
    late = replace(cell, controller="when-empty", horizon=_PLAYED)
    made = {"sync": replace(late, executor="sync", playing="naive")}
    for playing in PLAYINGS:
        made[playing] = replace(cell, playing=playing)
    if rtc:
        made["rtc"] = replace(cell, policy=rtc, executor="rtc", playing="aligned")
    return made


def small_table() -> Table:
    """One task, two delays."""
    rows = [
        (f"naive {delay} ms", Cell("belt", EXPERT, delay / 1e3, playing="naive"))
        for delay in (_DELAYS_MS[0], _DELAYS_MS[-1])
    ]
    return Table("small", "belt, expert: the naive loop", rows, [(rows[1][0], rows[0][0])])


def quiet_table(policies: Mapping[str, str]) -> Table:
    """No delay."""
    rows = [
        (f"{task} {name}", Cell(task, path, waits=True))
        for name, path in policies.items()
        if name != RTC
        for task in TASKS
    ]
    return Table("quiet", "no delay: the world waits", rows)


def delay_table(name: str, path: str, rtc: str) -> Table:
    """The belt, delays, and ways to play."""
    rows = []
    for delay in _DELAYS_MS:
        ways = executors(Cell("belt", path, delay / 1e3), rtc)
        rows += [(f"{way} {delay} ms", one) for way, one in ways.items()]
    first, last = _DELAYS_MS[0], _DELAYS_MS[-1]
    compared = [(f"naive {first} ms", f"naive {last} ms")]
    if path == EXPERT:  # the others' chunks are as long as they learnt
        for way in ("naive", "aligned", "rtc"):
            label = f"{way} {last} ms, {_LONG} commands"
            rows.append((label, replace(dict(rows)[f"{way} {last} ms"], horizon=_LONG)))
            compared.append((f"{way} {last} ms", label))
    compared += [
        (f"naive {delay} ms", f"{way} {delay} ms")
        for delay in _DELAYS_MS
        for way in ("sync", "aligned")
    ]
    note = "One inference after the other; sync holds while it thinks, and plays 8 commands."
    return Table(
        f"delays-{name}", f"belt, {name}: delays and ways to play", rows, compared, (note,)
    )


def network_table(label: str, base: Cell, roboecc: Path | None) -> Table:
    """Placements over a recorded network, full-size timing."""
    traces = Path(base.traces).name
    plan = read_bundle(Path(base.plan)).plan
    one_side = routes_of(plan)
    rows = [
        (f"all-{route.route}", replace(base, selector=route.variant))
        for route in {one.route: one for one in reversed(one_side) if one.route != CUT}.values()
    ]
    if roboecc is not None:
        fixed = read_bundle(roboecc).plan.variants[0].name
        paper = replace(base, plan=str(roboecc))
        rows.append(("RoboECC fixed", replace(paper, selector=fixed)))
        rows.append(("RoboECC adjusted", replace(paper, selector="thresholds")))
    rows += [(f"ours, {way}", one) for way, one in executors(base).items()]
    compared = [(other, "ours, naive") for other, _ in rows if not other.startswith("ours")]
    title = f"belt: the timing of {plan.program} over {label} ({traces})"
    return Table(f"network-{traces}", title, rows, compared, _PAPERS["network"])


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


def controller_table(label: str, base: Cell) -> Table:
    """When to ask, over a recorded network, with what is seen disturbed or not."""
    traces, disturbed = Path(base.traces).name, base.disturbance
    timed = read_bundle(Path(base.plan)).plan.program
    rows = [
        ("periodic", replace(base, tables="")),
        *((name, replace(base, controller=name)) for name in ("when-empty", "rapid", "risk")),
        ("price", replace(base, controller="price", options=(("minimise", "cloud-time"),))),
    ]
    return Table(
        f"controllers-{traces}{'-' + disturbed if disturbed else ''}",
        f"belt: when to ask, the timing of {timed} over {label} ({traces})"
        + (f", {disturbed} in the pictures" if disturbed else ""),
        rows,
        [(other, "price") for other, _ in rows[:-1]],
        _PAPERS["controllers"],
    )


def disturbance_table(name: str, path: str) -> Table:
    """What disturbances of the pictures do at a short delay."""
    cell = Cell("belt", path, 0.1, playing="naive")
    rows = [("nothing", cell)]
    rows += [(kind, replace(cell, disturbance=kind)) for kind in DISTURBANCES]
    return Table(f"disturbances-{name}", f"belt, {name}, 100 ms, naive: disturbed pictures", rows)


def every_table(policies: Mapping[str, str], given: argparse.Namespace) -> list[Table]:
    """All that can be made of the policies there are, and of what was given."""
    made = [small_table(), quiet_table(policies)]
    for name, path in policies.items():
        if name != RTC:
            continued = {"flow": policies.get(RTC, ""), EXPERT: EXPERT}.get(name, "")
            made.append(delay_table(name, path, continued))
        if name not in (RTC, EXPERT):
            made.append(disturbance_table(name, path))
    if given.plan is None or given.traces is None:
        return made
    driver = policies.get("tokens", EXPERT)
    base = Cell("belt", driver, plan=str(given.plan), playing="naive")
    for label, folder in NETWORKS.items():
        if (given.traces / folder).is_dir():
            over = replace(base, traces=str(given.traces / folder))
            made.append(network_table(label, over, given.roboecc))
            priced = replace(over, tables=str(given.folder / "actions.npz"))
            made.append(controller_table(label, priced))
            if driver != EXPERT:
                made.append(controller_table(label, replace(priced, disturbance=NOISE)))
    return made
