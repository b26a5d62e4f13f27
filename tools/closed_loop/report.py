r"""Tables of the closed loop: what delays, networks, controllers and disturbances do to success.

    python -m tools.closed_loop.report --folder bench                       # the small form
    python -m tools.closed_loop.report --folder bench --all --episodes 200 \
        --traces TRACES --plan openvla.vlacut --roboecc roboecc.vlacut

Episodes are kept in the folder as they come: a report that was stopped goes on, and one of more
episodes adds to them. `FOLDER/figures.json` has what was printed of every row so far. Without
`--plan` and `--traces` there are no tables over recorded networks. Trained policies have rows where
`train` has written their weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from vlacut.cli.show.output import console, table
from vlacut.cli.show.progress import progress_bar
from vlacut.control.precision_table import write_precision_table
from vlacut.measurement.acceptance import judge, write_outcomes

from .policies.heads import POLICIES
from .results.cells import EXPERT, Cell, Stage
from .results.figures import HEADS, cells_of, write_figures
from .results.outcomes import Outcome, named
from .results.paired import mean_difference, success_difference
from .results.rows import Table
from .results.running import run_all
from .results.store import Store
from .results.tables import every_table
from .rollouts.calibrating import calibrate
from .rollouts.precise import PAPER_TABLE, compare, measured_table, paper_table
from .rollouts.programs import PRECISIONS, RTC, Made
from .train import WEIGHTS

_CALIBRATED = 30  # episodes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="of bundles and outcomes")
    parser.add_argument("--episodes", type=int, default=20, help="of every row")
    parser.add_argument("--tables", nargs="+", help="names of some")
    parser.add_argument("--rows", nargs="+", help="only rows whose label begins with one of these")
    parser.add_argument("--all", action="store_true", help="every table, not the small one alone")
    parser.add_argument("--traces", type=Path, help="folder of folders of recorded bandwidths")
    parser.add_argument("--plan", type=Path, help="a full-size bundle, with a portfolio")
    parser.add_argument("--roboecc", type=Path, help="one with the paper's cut and its neighbours")
    parser.add_argument("--in-flight", type=Path, help="one with requests in flight")
    parser.add_argument("--drafts", type=Path, help="one with drafts")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    policies, precise = trained(given.folder)
    paths = {EXPERT: EXPERT, **{name: str(one.path) for name, one in policies.items()}}
    made = every_table(paths, {label: str(one.path) for label, one in precise.items()}, given)
    names = given.tables or ([one.name for one in made] if given.all else ["small"])
    chosen = [one.only(given.rows) for one in made if one.name in names]
    if missing := set(names) - {one.name for one in chosen}:
        parser.error(
            f"no table {', '.join(sorted(missing))}: {', '.join(one.name for one in made)}"
        )
    cells = [cell for one in chosen for cell in one.cells]
    used = {path for cell in cells for path in (cell.policy, *dict(cell.precise).values())}
    for one in (*policies.values(), *precise.values()):
        if str(one.path) in used:
            one.build()
    for cell in cells:
        prepare(cell)
    store = Store(given.folder / "outcomes.jsonl")
    with progress_bar() as progress:
        run_all(cells, given.episodes, store, given.processes, progress)
    out = console()
    for table_ in chosen:
        show(table_, store, given.episodes, out.print)
        keep(table_, store, given.episodes, given.folder / "outcomes")
    write_figures(given.folder / "figures.json", chosen, store)


def prepare(cell: Cell) -> None:
    """Make the tables that a cell's controller takes, where they are missing."""
    table_, stage = Path(dict(cell.options).get("table", "")), Stage()
    if cell.tables and not Path(cell.tables).exists():
        policy = stage.policy(cell.policy, cell.task)
        calibrate(*stage.world(cell.task), policy, cell.plan, _CALIBRATED, Path(cell.tables))
    if cell.precise and not table_.exists():
        paths = {"": cell.policy, **dict(cell.precise)}
        each = {name: stage.policy(path, cell.task) for name, path in paths.items()}
        made = compare(*stage.world(cell.task), each, _CALIBRATED, table_)
        fitted = paper_table(made) if table_.name == PAPER_TABLE else measured_table(made)
        write_precision_table(table_, fitted)


def trained(folder: Path) -> tuple[dict[str, Made], dict[str, Made]]:
    """The trained policies' bundles by name, and flow's in every precision; none is compiled."""
    every = {name: Made(name, WEIGHTS, folder / "bundles") for name in (*POLICIES, RTC)}
    policies = {name: made for name, made in every.items() if made.there}
    flow = policies.get("flow")
    precise = (
        {label: replace(flow, precision=to) for label, to in PRECISIONS.items()} if flow else {}
    )
    return policies, precise


def show(one: Table, store: Store, count: int, out: Callable[[object], None]) -> None:
    """Print a table, its pairs and its notes."""
    rows = [(label, *cells_of(store.of(cell, count))) for label, cell in one.rows]
    out(table(f"\n{one.title}", HEADS, rows))
    for first, second in one.compared:
        pair = [store.of(one.cell(label), count) for label in (first, second)]
        if pair[0] and len(pair[0]) == len(pair[1]):
            out(f"{second} against {first}: {against(*pair)}")
    for note in one.notes:
        out(note)


def against(first: Sequence[Outcome], second: Sequence[Outcome]) -> str:
    """How the second differs from the first, over the same episodes, in words."""
    made = judge(named(first), [named(second)])[0]
    success, cloud = success_difference(first, second), mean_difference(first, second, "cloud_s")
    said = (
        f"success {100 * success.mean:+.0f} points ({100 * success.low:+.0f} to "
        f"{100 * success.high:+.0f}), gained {made.gained}, lost {made.lost} of {made.pairs}, "
        f"worse by p {made.worse_p:.2g}; loses {made.bound:.1%} at most (95 %)"
    )
    if cloud.mean:
        said += f"; cloud {cloud.mean:+.2f} s ({cloud.low:+.2f} to {cloud.high:+.2f})"
    return said


def keep(one: Table, store: Store, count: int, folder: Path) -> None:
    """Write the successes of every row as a file that `vlacut accept` reads."""
    for label, cell in one.rows:
        if outcomes := store.of(cell, count):
            name = label.replace(",", "").replace(" ", "-")
            (folder / one.name).mkdir(parents=True, exist_ok=True)
            write_outcomes(folder / one.name / f"{name}.csv", named(outcomes))


if __name__ == "__main__":
    main()
