"""`simulate --episodes`: controllers over recorded kinematics and bandwidths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from vlacut.bundle.opened import Bundle
from vlacut.cli.show.output import console, milliseconds, print_json, size, table
from vlacut.cli.show.progress import progress_bar
from vlacut.control.controllers.naming import CONTROLLERS, DYQ, ENTROPY, RISK
from vlacut.control.executors import ASYNC, SYNC
from vlacut.control.recording.episodes import read_episodes
from vlacut.control.tables import read_tables
from vlacut.control.ways.playing import PLAYINGS
from vlacut.errors import InputError
from vlacut.hardware import Link
from vlacut.hardware.trace import Trace
from vlacut.plans.plan import Plan
from vlacut.simulation.looped.comparing import LoopComparison, LoopRow

F = TypeVar("F", bound=Callable[..., Any])
ALL = "all"

_OPTIONS = (
    click.option(
        "--episodes",
        type=click.Path(path_type=Path),
        help="Play a control loop over them: a file of vlacut calibrate-actions --fresh.",
    ),
    click.option(
        "--controller",
        "controllers",
        type=click.Choice([*CONTROLLERS, ALL]),
        multiple=True,
        default=(ALL,),
        show_default=True,
        help="With --episodes; may be repeated.",
    ),
    click.option("--tables", type=click.Path(path_type=Path), help="Of vlacut calibrate-actions."),
    click.option(
        "--precision-table",
        type=click.Path(path_type=Path),
        help="Of vlacut calibrate-precision, for the controller dyq.",
    ),
    click.option(
        "--executor", type=click.Choice([SYNC, ASYNC]), default=ASYNC, help="With --episodes."
    ),
    click.option("--playing", type=click.Choice(PLAYINGS), help="With --episodes."),
)


def looped_options(command: F) -> F:
    """Adds the options of a simulated control loop; `episodes` is None where it is none."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def simulate_loop(
    path: Path,
    bundle: Bundle,
    traces: Sequence[Trace],
    link: Link,
    as_json: bool,
    *,
    episodes: Path,
    controllers: Sequence[str],
    tables: Path | None,
    precision_table: Path | None,
    executor: str,
    playing: str | None,
    selector: str,
    predictor: str,
) -> None:
    """Play every controller and show what came of it."""
    plan, table_of_precisions = bundle.plan, precision_table or bundle.precision_table_path
    if len(traces) != 1:
        raise InputError(f"{len(traces)} traces: name the one that the episodes are played over")
    race = LoopComparison(
        plan,
        read_episodes(episodes),
        traces[0],
        link,
        read_tables(tables) if tables else None,
        executor,
        playing or "",
        selector=selector,
        predictor=predictor,
        options={DYQ: {"table": table_of_precisions}} if table_of_precisions else {},
    )
    named = _named(controllers, tables is not None, table_of_precisions is not None)
    with progress_bar() as progress:
        rows = race.run(named, progress)
    if as_json:
        print_json({"bundle": str(path), "rows": [_json(row) for row in rows]})
        return
    console().print(_table(plan, rows))


def _named(controllers: Sequence[str], fitted: bool, switches: bool) -> list[str]:
    """The controllers that are asked for; of all, those that have what they need here."""
    has = {ENTROPY: False, RISK: fitted, DYQ: switches}  # no recording says how unsure a policy was
    every = [name for name in CONTROLLERS if has.get(name, True)]
    named = [name for one in controllers for name in (every if one == ALL else [one])]
    return list(dict.fromkeys(named))


def _table(plan: Plan, rows: Sequence[LoopRow]) -> Any:
    columns = ["controller", "age ms", "p95", "p99", "no inference", "starved", "inferences"]
    columns += ["cloud s", "edge s", "bytes", "error", "in hindsight", "regret"]
    lines = []
    for row in rows:
        played, counted = row.played, row.played.tallied
        lines.append(
            [
                row.controller,
                *map(milliseconds, counted.age_s),
                f"{counted.free:.1%}",
                str(counted.starved),
                str(len(played.ran)),
                f"{played.cloud_s:.3g}",
                f"{played.edge_s:.3g}",
                size(played.nbytes),
                f"{played.error:.5f}",
                f"{row.best.error / len(played.errors):.5f}",
                f"{row.regret:.5f}",
            ]
        )
    title = f"{plan.program} on {plan.edge} and {plan.cloud}: ticks of a control loop"
    return table(title, columns, lines, left=1)


def _json(row: LoopRow) -> dict[str, Any]:
    played = row.played
    return {
        "controller": row.controller,
        **played.tallied.as_json(),
        "begun": len(played.ran),
        "cloud_calls": played.calls,
        "cloud_s": played.cloud_s,
        "edge_s": played.edge_s,
        "bytes": played.nbytes,
        "error": played.error,
        "hindsight_error": row.best.error / len(played.errors),
        "hindsight_inferences": row.best.inferences,
        "regret": row.regret,
    }
