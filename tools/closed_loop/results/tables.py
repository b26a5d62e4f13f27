"""What the report runs: tables without a network, and a list of all."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ..rollouts.precise import MEASURED_TABLE, PAPER_TABLE
from ..rollouts.programs import FEWEST, PRECISIONS, RTC
from ..simulation.disturbances import DISTURBANCES, NOISE, OCCLUSION
from ..simulation.tasks import TASKS
from .cells import EXPERT, Cell
from .networks import NETWORKS, controller_table, network_table
from .rows import PLAYED, Table, executors

_DELAYS_MS = (0, 100, 300, 600)
_OF_POLICY = {"touch": ("insert",)}  # tasks that the kept weights of a policy were trained on
_OF_OTHERS = ("pick", "belt")
_LONG = 32  # commands of a chunk that lasts more than twice the longest delay


def small_table() -> Table:
    """One task, two delays."""
    rows = [
        (f"naive {delay} ms", Cell("belt", EXPERT, delay / 1e3, playing="naive"))
        for delay in (_DELAYS_MS[1], _DELAYS_MS[-1])
    ]
    return Table("small", "belt, expert: the naive loop", rows, [(rows[1][0], rows[0][0])])


def learnt(name: str) -> tuple[str, ...]:
    """Tasks of a policy, the hardest last; of the expert, those of `flow`."""
    return _OF_POLICY.get(name, _OF_OTHERS)


def quiet_table(name: str, path: str) -> Table:
    """No delay: half of a chunk played, as is usual in simulators; and a new one every tick."""
    tasks = tuple(TASKS) if path == EXPERT else learnt(name)
    rows = [(task, Cell(task, path, waits=True, horizon=PLAYED)) for task in tasks]
    rows += [(f"{task}, one", replace(cell, horizon=1)) for task, cell in rows]
    compared = [(task, f"{task}, one") for task in tasks]
    title = f"{name}, no delay: the world waits, {PLAYED} commands of a chunk are played, or one"
    return Table(f"quiet-{name}", title, rows, compared)


def delay_table(name: str, path: str, rtc: str) -> Table:
    """The policy's hardest task, delays, and ways to play."""
    task, rows = learnt(name)[-1], []
    for delay in _DELAYS_MS:
        ways = executors(Cell(task, path, delay / 1e3), rtc)
        rows += [(f"{way} {delay} ms", one) for way, one in ways.items()]
    first, last = _DELAYS_MS[1], _DELAYS_MS[-1]
    compared = [(f"naive {first} ms", f"naive {last} ms")]
    if path == EXPERT:  # the others' chunks are as long as they learnt
        for way in ("naive", "aligned", "rtc"):
            label = f"{way} {last} ms, {_LONG} commands"
            rows.append((label, replace(dict(rows)[f"{way} {last} ms"], horizon=_LONG)))
            compared.append((f"{way} {last} ms", label))
    compared += [
        (f"naive {delay} ms", f"{way} {delay} ms")
        for delay in _DELAYS_MS[1:]
        for way in ("sync", "aligned")
    ]
    note = "One inference after the other; sync holds while it thinks, and plays 8 commands."
    return Table(
        f"delays-{name}", f"{task}, {name}: delays and ways to play", rows, compared, (note,)
    )


def precision_table(name: str, paths: Mapping[str, str], folder: Path) -> Table:
    """The policy's program in every precision: where the world waits, and late, where every row
    asks for a chunk when the last is empty, and two of them say in which precision.
    """
    still = Cell("belt", "", waits=True, horizon=PLAYED)
    rows = [(label, replace(still, policy=path)) for label, path in paths.items()]
    first = rows[0][0]
    late = Cell("belt", paths[first], 0.1, controller="when-empty", playing="naive")
    rows += [(f"{label}, 100 ms", replace(late, policy=path)) for label, path in paths.items()]
    others = tuple((PRECISIONS[label], path) for label, path in paths.items() if label != first)
    fewest = tuple(one for one in others if one[0] == PRECISIONS[FEWEST])
    for label, precise, table in (
        ("DyQ-VLA, 100 ms", fewest, PAPER_TABLE),
        ("ours, 100 ms", others, MEASURED_TABLE),
    ):
        options = (("table", str(folder / table)),)
        rows.append((label, replace(late, precise=precise, controller="dyq", options=options)))
    compared = [(first, label) for label in paths if label != first]
    at = len(paths)
    compared += [(rows[at][0], label) for label, _ in rows[at + 1 :]]
    title = f"belt, {name}: precisions; late ones are played naively"
    return Table(f"precisions-{name}", title, rows, compared, _PRECISE)


_PRECISE = (
    "By the pass quantise, of products whose weights have 4,096 numbers or more; convolutions stay "
    "as they are, and activations of W4A16 in float32.",
    f"DyQ-VLA: its rule, as it is above a sensitivity of 0.5, else {FEWEST}. Ours: by the error of "
    "the action that was measured in its bin.",
    "DyQ-VLA (arXiv 2603.07904): LIBERO-Spatial, static W4A4 69.2 %, 15.5 points less than BF16.",
)


def disturbance_table(name: str, path: str) -> Table:
    """What disturbances of the pictures do at a short delay."""
    task = learnt(name)[-1]
    cell = Cell(task, path, 0.1, playing="naive")
    rows = [("nothing", cell)]
    rows += [(kind, replace(cell, disturbance=kind)) for kind in DISTURBANCES]
    return Table(f"disturbances-{name}", f"{task}, {name}, 100 ms, naive: disturbed pictures", rows)


def every_table(
    policies: Mapping[str, str], precise: Mapping[str, str], given: argparse.Namespace
) -> list[Table]:
    """All that can be made of the policies, of flow in every precision, and of what was given."""
    made = [small_table()]
    for name, path in policies.items():
        if name != RTC:
            made.append(quiet_table(name, path))
            made.append(delay_table(name, path, _continued(name, policies)))
        if name not in (RTC, EXPERT):
            made.append(disturbance_table(name, path))
    if precise:
        made.append(precision_table("flow", precise, given.folder))
    if given.plan is None or given.traces is None:
        return made
    drivers = [name for name in policies if name not in (RTC, EXPERT)] or [EXPERT]
    for label, folder in NETWORKS.items():
        if (given.traces / folder).is_dir():
            for name in drivers:
                made += _over(label, name, policies, given.traces / folder, given)
    return made


def _continued(name: str, paths: Mapping[str, str]) -> str:
    """The policy that continues the chunk in force, of one by its name; empty if there is none."""
    return {"flow": paths.get(RTC, ""), EXPERT: EXPERT}.get(name, "")


def _over(
    label: str, name: str, paths: Mapping[str, str], traces: Path, given: argparse.Namespace
) -> Iterator[Table]:
    """The tables over a recorded network; placements with one policy alone."""
    base = Cell(
        learnt(name)[-1], paths[name], plan=str(given.plan), traces=str(traces), playing="naive"
    )
    if name in ("flow", EXPERT):
        others = {"pipeline": given.in_flight, "drafts": given.drafts}
        found = {kind: bundle for kind, bundle in others.items() if bundle is not None}
        yield network_table(label, base, given.roboecc, found, _continued(name, paths))
    priced = replace(base, tables=str(given.folder / f"actions-{name}.npz"))
    yield controller_table(label, name, priced)
    yield controller_table(label, name, replace(priced, playing="aligned"))
    if name != EXPERT:
        for kind in (NOISE, OCCLUSION):
            yield controller_table(label, name, replace(priced, disturbance=kind))
