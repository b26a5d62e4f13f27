"""`simulate`: selectors and predictors over recorded bandwidths."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from vlacut.bundle.reading import read_bundle
from vlacut.cli import completion
from vlacut.cli.arguments import BUNDLE, seconds
from vlacut.cli.deploying.looped import looped_options, simulate_loop
from vlacut.cli.show.figures import make_figure, save_figure
from vlacut.cli.show.output import console, json_option, milliseconds, print_json, say_next, table
from vlacut.cli.show.progress import progress_bar
from vlacut.cli.show.traceplot import draw_choices, show_choices
from vlacut.hardware import parse_link
from vlacut.plans.plan import CHOSEN, Plan
from vlacut.runtime.network.predictors import NAMES
from vlacut.runtime.network.selectors import SELECTORS
from vlacut.simulation import FRAMES, LINK, Comparison, Row
from vlacut.simulation.named import ALL, compare, recordings


@click.command("simulate")
@BUNDLE
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    required=True,
    help="Recorded bandwidths of the uplink: a file, or a folder of them.",
)
@click.option(
    "--selector",
    "--policy",  # its name until 0.2
    "selectors",
    shell_complete=completion.selectors,
    multiple=True,
    default=(ALL,),
    show_default=True,
    help=f"{', '.join(SELECTORS)}, a variant's name, or all; may be repeated.",
)
@click.option(
    "--predictor",
    "predictors",
    shell_complete=completion.predictors,
    multiple=True,
    default=("ewma",),
    show_default=True,
    help=f"{', '.join(NAMES)}, or all; may be repeated.",
)
@click.option(
    "--link", default="", help="Round trip, and ratio of the downlink; the plan's if not."
)
@click.option(
    "--knows",
    type=click.Choice([LINK, FRAMES]),
    default=LINK,
    show_default=True,
    help="What selectors know: the link's rate, or what the runtime learns from its frames.",
)
@click.option("--period", callback=seconds, help="Start a step every 100ms, if it can.")
@click.option("--deadline", callback=seconds, help="Of a step; told to the selectors.")
@click.option(
    "--history",
    type=click.Path(path_type=Path),
    help="Other recordings, to find RoboECC's thresholds on.",
)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the first trace: FILE.svg.")
@looped_options
@json_option
def simulate_command(
    path: Path,
    trace: Path,
    selectors: tuple[str, ...],
    predictors: tuple[str, ...],
    link: str,
    knows: str,
    period: float | None,
    deadline: float | None,
    history: Path | None,
    plot: Path | None,
    episodes: Path | None,
    as_json: bool,
    **looped: Any,
) -> None:
    """Run the control loop over recorded bandwidths, on paper.

    Steps follow the plan's own schedules and times. The clairvoyant knows the trace: no choice of
    variants makes any step end sooner than its own. Regret is the mean latency above it.

    With --episodes, every controller drives a loop of commands over recorded kinematics. Regret is
    then the mean error of a command, above that of the best decisions at no more cost.
    """
    figure = make_figure(plot, 9, 6) if plot else None
    bundle = read_bundle(path)
    plan = bundle.plan
    over = parse_link(link) if link else plan.link
    if episodes is not None:
        looped["selector"] = CHOSEN if ALL in selectors else selectors[0]
        looped["predictor"] = predictors[0]
        traces = [one.trace for one in recordings(trace)]
        simulate_loop(path, bundle, traces, over, as_json, episodes=episodes, **looped)
        return
    start = time.perf_counter()
    with progress_bar() as progress:
        comparison, rows = compare(
            plan,
            trace,
            model=bundle.predictor_path,
            selectors=selectors,
            predictors=predictors,
            link=link,
            knows=knows,
            period=period,
            deadline=deadline,
            history=history,
            progress=progress,
        )
    took = time.perf_counter() - start
    shown = min(rows[1:], key=lambda row: row.mean_s, default=rows[0])
    if plot and figure:
        draw_choices(figure, plan, comparison.recordings[0], shown)
        save_figure(figure, plot)
    hours = sum(sum(one.trace.seconds) for one in comparison.recordings) / 3600
    if as_json:
        print_json(_json(path, comparison, rows, hours, took))
        return
    out = console()
    steps = sum(len(row.latencies) for row in rows)
    out.print(_table(plan, rows, deadline))
    out.print(
        f"\n{len(comparison.recordings)} traces, {hours:.3g} hours, by {len(rows)} selectors: "
        f"{steps} steps in {took:.1f} s"
    )
    if len(comparison.recordings) == 1:
        show_choices(out, plan, comparison.recordings[0], shown)
    say_next(f"vlacut twin {path} --trace FILE --selector {shown.selector}")


def _table(plan: Plan, rows: Sequence[Row], deadline: float | None) -> Any:
    columns = ["selector", "predictor", "mean", "p95", "p99", "steps", "switches", "regret"]
    if deadline is not None:
        columns.append("missed")
    lines = []
    for row in rows:
        line = [row.selector, row.predictor, milliseconds(row.mean_s)]
        line += [milliseconds(row.quantile_s(share)) for share in (0.95, 0.99)]
        line += [str(len(row.latencies)), str(row.switches), f"{row.regret(rows[0]):.1%}"]
        if row.missed is not None:
            line.append(f"{row.missed / len(row.latencies):.2%}")
        lines.append(line)
    title = f"{plan.program} on {plan.edge} and {plan.cloud}, milliseconds per control step"
    return table(title, columns, lines, left=2)


def _json(
    path: Path, comparison: Comparison, rows: Sequence[Row], hours: float, took: float
) -> dict[str, Any]:
    return {
        "bundle": str(path),
        "traces": [recording.name for recording in comparison.recordings],
        "hours": hours,
        "took_s": took,
        "rows": [
            {
                "selector": row.selector,
                "predictor": row.predictor,
                "mean_ms": row.mean_s * 1e3,
                "p95_ms": row.quantile_s(0.95) * 1e3,
                "p99_ms": row.quantile_s(0.99) * 1e3,
                "steps": len(row.latencies),
                "switches": row.switches,
                "missed": row.missed,
                "regret": row.regret(rows[0]),
            }
            for row in rows
        ],
    }
