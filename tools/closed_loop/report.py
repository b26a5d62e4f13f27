r"""Tables of the closed loop: what delays, networks, controllers and disturbances do to success.

    python -m tools.closed_loop.report --folder bench                       # the small form
    python -m tools.closed_loop.report --folder bench --all --episodes 200 \
        --traces TRACES --plan openvla.vlacut --roboecc roboecc.vlacut

Episodes are kept in the folder as they come: a report that was stopped goes on, and one of more
episodes adds to them. Without `--plan` and `--traces` there are no tables over recorded networks.
Trained policies have rows where `train` has written their weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from vlacut.cli.show.output import console, table
from vlacut.cli.show.progress import progress_bar
from vlacut.measurement.acceptance import judge, write_outcomes

from .calibrating import calibrate
from .cells import EXPERT, Stage, Store
from .heads import POLICIES, load
from .outcomes import Outcome, interval, named
from .paired import mean_difference, success_difference
from .programs import RTC, build
from .running import run_all
from .tables import Table, every_table
from .train import WEIGHTS

_CALIBRATED = 30  # episodes
_HEADS = ("", "success", "95 % interval", "time s", "age ms", "jerk", "asked", "cloud s", "MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="of bundles and outcomes")
    parser.add_argument("--episodes", type=int, default=20, help="of every row")
    parser.add_argument("--tables", nargs="+", help="names of some")
    parser.add_argument("--all", action="store_true", help="every table, not the small one alone")
    parser.add_argument("--traces", type=Path, help="folder of folders of recorded bandwidths")
    parser.add_argument("--plan", type=Path, help="a full-size bundle, with a portfolio")
    parser.add_argument("--roboecc", type=Path, help="one with the paper's cut and its neighbours")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    policies = {EXPERT: EXPERT, **bundles(given.folder)}
    made = every_table(policies, given)
    names = given.tables or ([one.name for one in made] if given.all else ["small"])
    chosen = [one for one in made if one.name in names]
    if missing := set(names) - {one.name for one in chosen}:
        parser.error(
            f"no table {', '.join(sorted(missing))}: {', '.join(one.name for one in made)}"
        )
    wanted = {Path(cell.tables) for one in chosen for cell in one.cells if cell.tables}
    for path in wanted:
        if not path.exists():
            driver = policies.get("tokens", EXPERT)
            calibrate(Stage(), "belt", driver, str(given.plan), _CALIBRATED, path)
    store = Store(given.folder / "outcomes.jsonl")
    cells = [cell for one in chosen for cell in one.cells]
    with progress_bar() as progress:
        run_all(cells, given.episodes, store, given.processes, progress)
    out = console()
    for one in chosen:
        show(one, store, given.episodes, out.print)
        keep(one, store, given.episodes, given.folder / "outcomes")


def bundles(folder: Path) -> dict[str, str]:
    """Paths of the trained policies' bundles, compiled where they are missing."""
    made = {}
    for name in (*POLICIES, RTC):
        weights = "flow" if name == RTC else name
        if (WEIGHTS / f"{weights}.safetensors").is_file():
            made[name] = str(build(name, load(weights, WEIGHTS), folder / "bundles"))
    return made


def show(one: Table, store: Store, count: int, out: Callable[[object], None]) -> None:
    """Print a table, its pairs and its notes."""
    rows = [(label, *figures(store.of(cell, count))) for label, cell in one.rows]
    out(table(f"\n{one.title}", _HEADS, rows))
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


def figures(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """The cells of a row; means are of all episodes, the time of those that succeeded."""
    if not outcomes:
        return ("-",) * (len(_HEADS) - 1)
    won = [one for one in outcomes if one.success]
    low, high = interval(len(won), len(outcomes))

    def mean(of: Sequence[Outcome], figure: Callable[[Outcome], float]) -> float:
        return sum(map(figure, of)) / max(1, len(of))

    return (
        f"{len(won)}/{len(outcomes)}",
        f"{low:.0%} to {high:.0%}",
        f"{mean(won, lambda one: one.seconds):.2f}" if won else "-",
        f"{1e3 * mean(outcomes, lambda one: one.age_s):.0f}",
        f"{mean(outcomes, lambda one: one.jerk):.0f}",
        f"{mean(outcomes, lambda one: one.asked):.1f}",
        f"{mean(outcomes, lambda one: one.cloud_s):.2f}",
        f"{mean(outcomes, lambda one: one.nbytes) / 1e6:.2f}",
    )


if __name__ == "__main__":
    main()
